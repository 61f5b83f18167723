"""Every operator with a rule over several ranks: outputs and gradients as in one process."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
import torch.distributed as dist
from operator_modules import GLOBAL, LOCAL, MOVING
from ranks import together
from sharding import compare, operator_differs
from torch import nn

from wholescene import spatial
from wholescene.errors import RankError

SHAPE = (2, 4, 17, 23)
CUTS = [(0, 8, 17), (0, 3, 4, 17), (0, 6, 6, 17), (0, 5, 9, 16, 17)]
"""Uneven, off the stride, thinner than a halo, and a rank without rows."""

FAST = (
    "conv_replicate", "batch_norm", "glu", "cat", "position_grid", "patch_merging", "windows",
    "pixel_shuffle", "crop", "lp_pool", "group_norm", "row_mean", "adaptive_average",
    "adaptive_maximum", "scene_softmax", "class_token", "object_context", "channel_attention",
    "flip", "roll", "circular_pad", "shifted_windows",
)  # fmt: skip
"""At least one operator of every family."""

SLOW = [name for name in (*LOCAL, *GLOBAL, *MOVING) if name not in FAST]


def _check(name: str, cuts: tuple[int, ...]) -> None:
    for found in together(len(cuts) - 1, operator_differs, name, SHAPE, cuts):
        assert isinstance(found, dict), found
        assert max(found.values()) <= 1e-9, found


@pytest.mark.parametrize("name", FAST)
def test_operators_over_ranks(name: str) -> None:
    _check(name, (0, 6, 6, 17))


@pytest.mark.slow
@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_operators_over_any_cut(name: str, cuts: tuple[int, ...]) -> None:
    _check(name, cuts)


def training_differs(group: dist.ProcessGroup, cuts: Any) -> dict[str, Any]:
    """Batch norm with the statistics of the scene, also where there is only one row left."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=4, padding=1, bias=False),
        nn.BatchNorm2d(6, affine=False, momentum=0.3),
        nn.ConvTranspose2d(6, 4, 8, stride=8),
        nn.BatchNorm2d(4, track_running_stats=False),
    )
    return compare(group, module.double().train(), (2, 3, 24, 16), cuts)


@pytest.mark.parametrize("cuts", [(0, 11, 24), (0, 7, 7, 24)], ids=str)
def test_batch_norm_in_training(cuts: tuple[int, ...]) -> None:
    for found in together(len(cuts) - 1, training_differs, cuts):
        assert isinstance(found, dict), found
        # Without gradients running statistics move a second time, in one copy only.
        assert max(v for k, v in found.items() if k not in ("no_grad", "buffers")) <= 1e-9, found


def buffers_differ(group: dist.ProcessGroup) -> float:
    """How far running statistics are from those of the whole scene."""
    torch.manual_seed(0)
    whole = nn.BatchNorm2d(3).train()
    ours = nn.BatchNorm2d(3).train()
    image = torch.randn(2, 3, 9, 8) * 3 + 1
    whole(image)
    start, stop = ((0, 4), (4, 9))[dist.get_rank(group)]
    spatial.run_sharded(ours, spatial.Shard(image[:, :, start:stop], start, 9, group))
    assert ours.num_batches_tracked == 1
    gaps = [ours.running_mean - whole.running_mean, ours.running_var - whole.running_var]  # type: ignore[operator]
    return float(torch.stack(gaps).abs().max())


def test_running_statistics_are_those_of_the_scene() -> None:
    for gap in together(2, buffers_differ):
        assert gap < 1e-6


def dropped(group: dist.ProcessGroup, cuts: Any) -> Any:
    """The whole result of a network with chance in it, and the share of zeros."""
    torch.manual_seed(7)
    module = nn.Sequential(nn.Dropout(0.3), nn.Dropout2d(0.2)).train()
    rank = dist.get_rank(group)
    rows = torch.ones(2, 50, cuts[rank + 1] - cuts[rank], 16)
    out = spatial.run_sharded(module, spatial.Shard(rows, cuts[rank], cuts[-1], group))
    return out.gather()


def test_chance_does_not_depend_on_the_cut() -> None:
    found = [together(len(cuts) - 1, dropped, cuts)[0] for cuts in ((0, 9, 20), (0, 3, 3, 20))]
    assert torch.equal(*found)
    kept = found[0] != 0
    channels = kept.flatten(2).any(2).float().mean()
    assert channels == pytest.approx(0.8, abs=0.12)
    assert kept.float().mean() / channels == pytest.approx(0.7, abs=0.02)
    assert float(found[0].max()) == pytest.approx(1 / 0.7 / 0.8)


def refused(group: dist.ProcessGroup, case: str) -> str:
    """What a rank is told."""
    rank = dist.get_rank(group)
    rows, start, height = torch.zeros(1, 3, 8, 8), 8 * rank, 16
    module: nn.Module = nn.Conv2d(3, 3, 3, padding=1)
    if case == "gap":
        start += rank
        height += 1
    elif case == "width" and rank:
        rows = torch.zeros(1, 3, 8, 9)
    elif case == "shape" and rank:
        rows = torch.zeros(3, 8, 8)
    elif case == "strict":
        module = Cumulative()
    try:
        shard = spatial.Shard(rows, start, height, group)
        with torch.no_grad():
            spatial.run_sharded(module, shard, strict=case == "strict")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"


class Cumulative(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(x, 2)


REFUSALS = {
    "gap": "InputError: rank 1 has rows from 9 on, but ranks before it end at 8",
    "width": "InputError: rank 1 has scene shape",
    "shape": "InputError: rank 1 of 2: local_rows of shape (3, 8, 8) is not (B, C, h, W)",
    "strict": "UnsupportedError: rank 0 of 2: layer 'cumsum': cumsum has no rule",
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_mistake_on_one_rank_is_told_to_all(case: str) -> None:
    for said in together(2, refused, case):
        assert REFUSALS[case] in said


def failing(group: dist.ProcessGroup, room: str, name: str) -> str:
    """What a rank is told when the second runs out of memory in the middle."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    rank, place = dist.get_rank(group), import_module(room)
    sound = getattr(place, name)

    def broken(*args: Any, **kwargs: Any) -> torch.Tensor:
        raise MemoryError("nothing left")

    if rank == 1:
        setattr(place, name, broken)
    try:
        rows = torch.zeros(1, 3, 16, 8)
        spatial.run_sharded(module, spatial.Shard(rows, 16 * rank, 32, group))
    except RankError as error:
        return str(error)
    finally:
        setattr(place, name, sound)
    return "done"


@pytest.mark.parametrize(
    ("room", "name", "layer"),
    [("halo", "convolve", "0"), ("rules.base", "run_op", "1")],
    ids=["while rows are on the way", "between exchanges"],
)
def test_a_rank_that_fails_in_the_middle_fails_all(room: str, name: str, layer: str) -> None:
    said = together(2, failing, f"wholescene.spatial.{room}", name)
    assert said == [f"rank 1 of 2 failed: layer '{layer}': MemoryError: nothing left"] * 2


def gathered(group: dist.ProcessGroup, partial: bool) -> Any:
    """Gradient of the sum of the gathered result, alike on all ranks or only on the second."""
    rank = dist.get_rank(group)
    rows = torch.ones(1, 1, 2 + rank, 3, requires_grad=True)
    module = nn.Conv2d(1, 1, 1, bias=False)
    out = spatial.run_sharded(module, spatial.Shard(rows, 2 * rank, 5, group))
    whole = out.gather(partial=partial)
    loss = whole.sum() * (rank if partial else 1)
    loss.backward()
    spatial.reduce_gradients(module, group)
    assert module.weight.grad is not None
    return tuple(whole.shape), float(module.weight.grad)


@pytest.mark.parametrize("partial", [False, True])
def test_what_is_gathered_sends_gradients_back_once(partial: bool) -> None:
    for shape, grad in together(2, gathered, partial):
        assert shape == (1, 1, 5, 3)
        assert grad == 15.0
