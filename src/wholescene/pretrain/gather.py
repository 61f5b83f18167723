"""Tensors of all processes that train together, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather", "num_ranks", "own_rank", "run_shuffled", "sum_over_ranks"]


def num_ranks() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_rank() -> int:
    """Number of this process among them."""
    return dist.get_rank() if num_ranks() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(num_ranks())]
        dist.all_gather(parts, rows.contiguous())
        ctx.count = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Every rank's loss saw these rows, so what they owe each of them is a sum.
        total = grads[0].contiguous()
        dist.all_reduce(total)
        start = own_rank() * int(ctx.count)
        return total[start : start + int(ctx.count)]


def gather(rows: Tensor) -> Tensor:
    """Stack the rows of all ranks in the order of the ranks; each must bring as many.

    The gradient of a rank's rows is the sum of what the losses of all ranks send back. So the mean
    over ranks of per-rank mean losses, which DDP forms, has the gradient of one large batch.

    Args:
        rows: (N, ...).

    Returns:
        (ranks * N, ...); ``rows`` itself where there is one process.
    """
    if num_ranks() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        del ctx
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        del ctx
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over ranks, with gradients."""
    if num_ranks() == 1:
        return values
    total: Tensor = _Sum.apply(values)
    return total


@torch.no_grad()
def run_shuffled(network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Run a network on batches that mix the rows of all ranks, and give each rank its own results.

    Batch statistics then say nothing of the rows that stood together. Without gradients; with one
    process the network just runs.

    Args:
        network: Row n of its result belongs to row n of what it gets.
        rows: (N, ...), as many on each rank.

    Source:
        He et al. 2020, arXiv:1911.05722, section 3.3 (shuffling BN).
    """
    if num_ranks() == 1:
        return network(rows)
    order = torch.randperm(num_ranks() * len(rows), device=rows.device)
    dist.broadcast(order, src=0)
    own = slice(own_rank() * len(rows), (own_rank() + 1) * len(rows))
    results = gather(network(gather(rows)[order[own]]))
    return results[order.argsort()[own]]
