"""Convolutions whose inner rows come from own rows and whose edges come from strips."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import together
from sharding import compare
from torch import nn

from wholescene.spatial import Shard, halo, reduce_gradients, run_sharded
from wholescene.spatial.capture import capture
from wholescene.spatial.deal import Deal, deal
from wholescene.spatial.graph import Graph
from wholescene.spatial.overwrite import overwrite
from wholescene.spatial.staging import assign

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3, "padding": 1},
    "no_bias": {"kernel_size": 3, "padding": 1, "bias": False},
    "large_depthwise": {"kernel_size": 7, "padding": 3, "groups": 4},
    "dilated": {"kernel_size": 3, "padding": 4, "dilation": 4},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "stem": {"kernel_size": 7, "padding": 3, "stride": 2},
    "strided_point": {"kernel_size": 1, "stride": 2},
    "sparse": {"kernel_size": 2, "stride": 4, "padding": 1},
    "even_same": {"kernel_size": 4, "padding": "same"},
    "valid": {"kernel_size": (5, 3)},
    "wide": {"kernel_size": (1, 5), "padding": (0, 2)},
    "tall": {"kernel_size": (5, 1), "padding": (2, 0), "stride": (2, 1)},
}
CUTS = [
    (0, 13, 32),
    (0, 10, 11, 32),
    pytest.param((0, 16, 32), marks=pytest.mark.slow),
    pytest.param((0, 9, 9, 32), marks=pytest.mark.slow),
    pytest.param((0, 3, 17, 30, 32), marks=pytest.mark.slow),
]


def _module(name: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(4, 4, **CONVOLUTIONS[name])


def convolutions_differ(group: dist.ProcessGroup, cuts: Any) -> dict[str, float]:
    shape = (2, 4, cuts[-1], 24)
    return {
        name: max(compare(group, _module(name).double(), shape, cuts).values())
        for name in CONVOLUTIONS
    }


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_convolutions_over_any_cut(cuts: tuple[int, ...]) -> None:
    for found in together(len(cuts) - 1, convolutions_differ, cuts):
        assert isinstance(found, dict), found
        assert max(found.values()) <= 1e-9, found


@cache
def _traced(name: str) -> Graph:
    return capture(_module(name), (1, 4, 32, 24), live=True)


def _dealt(name: str, cut: int, rank: int) -> Deal:
    return deal(assign(_traced(name)), (0, cut, 32), rank)


@given(name=st.sampled_from(sorted(CONVOLUTIONS)), cut=st.integers(1, 31), rank=st.integers(0, 1))
@settings(max_examples=60, deadline=None)
def test_strips_are_the_rows_that_others_send(name: str, cut: int, rank: int) -> None:
    """Each rank decides alone how it computes, so the rows that are sent must be the same."""
    (task,) = _dealt(name, cut, rank).tasks
    route = task.arguments[0].route
    if task.edges is None or route is None:
        return
    sent = [[rows for _, rows in r.overlap(1 - rank, rank)] for r in (task.edges.route, route)]
    assert sent[0] == sent[1]
    assert task.edges.route.overlap(rank, 1 - rank) == route.overlap(rank, 1 - rank)


def test_usual_cuts_need_no_copy_of_all_rows() -> None:
    for name in ("plain", "large_depthwise", "dilated", "strided", "stem", "strided_point"):
        for rank in range(2):
            (task,) = _dealt(name, 16, rank).tasks
            assert task.edges is not None, name


def cast_differs(group: dist.ProcessGroup) -> list[float]:
    """Relative differences of result and gradients under autocast."""
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    last = nn.Conv2d(8, 2, 3, padding=1)
    module = nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU(), last)
    whole, rank = copy.deepcopy(module), dist.get_rank(group)
    image = torch.randn(1, 3, 32, 24)
    with torch.autocast("cpu", torch.bfloat16):
        expected = whole(image)
        expected.float().square().sum().backward()
        shard = Shard(image[:, :, 16 * rank : 16 * (rank + 1)], 16 * rank, 32, group)
        found = run_sharded(module, shard)
        found.local.float().square().sum().backward()
    reduce_gradients(module, group)
    pairs = [(found.gather().detach(), expected.detach())]
    pairs += [
        (p.grad, q.grad) for p, q in zip(module.parameters(), whole.parameters(), strict=True)
    ]  # type: ignore[misc]
    return [float((a.float() - b.float()).norm() / b.float().norm()) for a, b in pairs]


def test_autocast_over_ranks() -> None:
    for found in together(2, cast_differs):
        assert isinstance(found, list), found
        assert max(found) < 0.05


def turned_gradients(group: dist.ProcessGroup) -> dict[str, Any]:
    """Gradients in float32, channels last, as if this CPU had AVX2, and what they came from."""
    rank, last = dist.get_rank(group), torch.channels_last
    torch.manual_seed(0)
    module = nn.Conv2d(32, 40, 3, padding=1)
    exact = copy.deepcopy(module).double()
    image = torch.randn(1, 32, 32, 24)
    exact(image.double()).square().sum().backward()
    turned: list[bool] = []
    kept, halo._is_turned_first = halo._is_turned_first, lambda *_: not turned.append(True)
    try:
        rows = image[:, :, 16 * rank : 16 * (rank + 1)].contiguous(memory_format=last)
        found = run_sharded(module, Shard(rows, 16 * rank, 32, group))
        found.local.square().sum().backward()
    finally:
        halo._is_turned_first = kept
    reduce_gradients(module, group)
    gaps = {
        name: float((ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max())  # type: ignore[operator,union-attr]
        for (name, ours), theirs in zip(module.named_parameters(), exact.parameters(), strict=True)
    }
    return {"gaps": gaps, "turned": len(turned)}


def test_turned_images_give_the_same_gradients() -> None:
    for found in together(2, turned_gradients):
        assert isinstance(found, dict), found
        assert found["turned"] == 2  # own rows, and the strip
        assert max(found["gaps"].values()) < 1e-5, found


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", True), ("AVX512", False)])
def test_only_avx2_turns_images(
    capability: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    first = torch.zeros(1, 64, 4, 4)
    image, weight = first.contiguous(memory_format=torch.channels_last), torch.zeros(64, 64, 3, 3)
    assert halo._is_turned_first(image, weight) is expected
    assert not halo._is_turned_first(first, weight)
    assert not halo._is_turned_first(image.double(), weight.double())
    assert not halo._is_turned_first(image, torch.zeros(64, 1, 3, 3))


def test_few_rows_of_many_channels_are_copied() -> None:
    graph = capture(nn.Conv2d(4, 512, 9, padding=4), (1, 4, 32, 24), live=True)
    (task,) = deal(assign(graph), (0, 16, 32), 0).tasks
    assert task.edges is None


def test_only_what_nothing_else_reads_is_overwritten() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            read_twice = self.first(x)
            return torch.relu(read_twice) + read_twice + torch.relu(self.second(x))

    graph = overwrite(capture(Both(), (1, 4, 6, 6), live=True))
    found = [value.name for value in graph.values if value.name.startswith("relu")]
    assert found == ["relu", "relu_"]
