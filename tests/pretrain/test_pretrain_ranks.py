"""Two processes have the loss and the gradient of one with the whole batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from wholescene.launch import run_ranks
from wholescene.pretrain.gather import gather, own_rank, run_shuffled
from wholescene.pretrain.losses import (
    VicregWeights,
    matched_vicreg,
    pair_contrast,
    swapped_prediction,
    vicreg,
)
from wholescene.train.progress import TrainProgress

N, D = 8, 5
Loss = Callable[[Tensor, Tensor], Tensor]


def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, N, D, generator=generator, dtype=torch.float32)
    return first, second


def grouped(first: Tensor, second: Tensor) -> Tensor:
    group = torch.arange(len(first)) // 2
    return pair_contrast(first, second, temperature=0.5, decoupled=True, group=group)


def matched(first: Tensor, second: Tensor) -> Tensor:
    cells = torch.zeros(len(first), 1, dtype=torch.int64)
    return matched_vicreg(first[:, None], second[:, None], (cells, cells), VicregWeights())


def partly_valid(first: Tensor, second: Tensor) -> Tensor:
    valid = first[:, 0] > -0.5  # another number on each rank
    return pair_contrast(first, second, temperature=0.5, decoupled=True, valid=valid)


LOSSES: dict[str, Loss] = {
    "decoupled": lambda a, b: pair_contrast(a, b, temperature=0.5, decoupled=True),
    "nt-xent": lambda a, b: pair_contrast(a, b, temperature=0.2, decoupled=False),
    "grouped": grouped,
    "partly valid": partly_valid,
    "swav": lambda a, b: swapped_prediction([a, b], epsilon=0.5),
    "vicreg": lambda a, b: vicreg(a, b, VicregWeights()),
    "matched": matched,
}


def share_of_rank(say: TrainProgress) -> dict[str, tuple[float, list[list[list[float]]]]]:
    """Mean over ranks of the loss; gradients of all rows as DDP would average them."""
    del say
    dist.init_process_group("gloo")
    first, second = (part.chunk(2)[own_rank()].clone() for part in rows())
    results = {}
    for name, loss in LOSSES.items():
        leaves = [part.clone().requires_grad_() for part in (first, second)]
        value = loss(*leaves)
        value.backward()
        total = value.detach().clone()
        dist.all_reduce(total)
        grads = [(gather(leaf.grad) / 2).tolist() for leaf in leaves if leaf.grad is not None]
        results[name] = (total.item() / 2, grads)
    dist.destroy_process_group()
    return results


def shuffled_rows(say: TrainProgress) -> tuple[list[list[float]], list[list[float]]]:
    """Rows of all ranks after a network that keeps them, and what one of batch means makes."""
    del say
    dist.init_process_group("gloo")
    torch.manual_seed(own_rank())  # the order is that of the first rank
    own = rows()[0].chunk(2)[own_rank()]
    same = run_shuffled(lambda batch: batch.clone(), own)
    means = run_shuffled(lambda batch: batch.mean(0, keepdim=True).expand_as(batch), own)
    found = gather(same).tolist(), gather(means).tolist()
    dist.destroy_process_group()
    return found


@pytest.mark.slow  # every process imports torch again
def test_shuffled_rows_come_back_from_mixed_batches() -> None:
    same, means = (
        torch.tensor(part) for part in run_ranks(shuffled_rows, num_ranks=2, progress=None)
    )
    first = rows()[0]
    assert torch.equal(same, first)
    # Two batches were formed, of which each row saw one: together they are all rows.
    assert len(means.unique(dim=0)) == 2
    torch.testing.assert_close(means.unique(dim=0).mean(0), first.mean(0))
    # Not the batches of the ranks.
    assert not torch.allclose(means[: N // 2], first[: N // 2].mean(0))


def test_one_process_has_nothing_to_shuffle() -> None:
    state = torch.get_rng_state()
    assert torch.equal(run_shuffled(lambda batch: 2 * batch, rows()[0]), 2 * rows()[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow  # every process imports torch again
def test_two_ranks_have_value_and_gradient_of_one() -> None:
    shared = run_ranks(share_of_rank, num_ranks=2, progress=None)
    for name, loss in LOSSES.items():
        leaves = [part.requires_grad_() for part in rows()]
        value = loss(*leaves)
        value.backward()
        assert shared[name][0] == pytest.approx(value.item(), rel=1e-5), name
        for leaf, grad in zip(leaves, shared[name][1], strict=True):
            torch.testing.assert_close(
                torch.tensor(grad), leaf.grad, rtol=1e-4, atol=1e-6, msg=name
            )
