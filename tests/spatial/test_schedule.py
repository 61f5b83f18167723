"""What is kept between sweeps is the cheapest that saves repeating what is expensive."""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wholescene.spatial.capture import capture
from wholescene.spatial.cut import cheapest_cut
from wholescene.spatial.schedule import schedule

edges = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14)


def _connected(
    readers: dict[int, list[int]], gone: set[int], start: set[int], end: set[int]
) -> bool:
    todo, seen = [v for v in start if v not in gone], set()
    while todo:
        here = todo.pop()
        if here in end:
            return True
        if here not in seen:
            seen.add(here)
            todo.extend(v for v in readers.get(here, []) if v not in gone)
    return False


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    edges,
    st.lists(st.integers(1, 9), min_size=7, max_size=7),
    st.sets(st.integers(0, 6), min_size=1, max_size=2),
    st.sets(st.integers(0, 6), min_size=1, max_size=2),
)
def test_a_cut_separates_and_none_is_cheaper(
    pairs: list[tuple[int, int]], costs: list[int], start: set[int], end: set[int]
) -> None:
    readers: dict[int, list[int]] = {}
    for a, b in pairs:
        if a < b:
            readers.setdefault(a, []).append(b)
    found = cheapest_cut(dict(enumerate(costs)), readers, start, end)
    assert not _connected(readers, found, start, end)
    best = min(
        sum(costs[v] for v in gone)
        for size in range(8)
        for gone in combinations(range(7), size)
        if not _connected(readers, set(gone), start, end)
    )
    assert sum(costs[v] for v in found) == best


class Pooled(nn.Module):
    """A wide branch after a narrow trunk, joined by the mean of the trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.branch = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        trunk = F.relu(self.trunk(x))
        wide = self.branch(trunk) * trunk.mean((1, 2, 3), keepdim=True)
        return F.interpolate(wide, x.shape[2:], mode="nearest")


def test_the_narrow_end_is_kept_and_the_wide_one_computed_later() -> None:
    ready = schedule(capture(Pooled().eval(), (1, 3, 64, 64)))
    names = [{ready.graph.values[i].name for i in sweep.members} for sweep in ready.sweeps]
    (kept,) = [v for v in ready.graph.values if ready.stages[v.index].kept_level is not None]
    assert kept.shape == (1, 4, 32, 32)
    assert "upsample_nearest2d" not in names[0]
    assert "mean" not in names[1]
    convolutions = [
        [v for v in sweep.members if ready.graph.values[v].name in ("conv2d", "convolve")]
        for sweep in ready.sweeps
    ]
    assert [len(found) for found in convolutions] == [1, 1]


class Gated(nn.Module):
    """An upsampled map that a later sweep reads again is upsampled again, not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        large = F.interpolate(self.first(x), x.shape[2:], mode="nearest")
        return large * large.mean((2, 3), keepdim=True)


def test_cheap_operators_are_repeated_rather_than_kept() -> None:
    ready = schedule(capture(Gated().eval(), (1, 3, 64, 64)))
    (kept,) = [v for v in ready.graph.values if ready.stages[v.index].kept_level is not None]
    assert kept.name == "conv2d"
    torch.testing.assert_close(kept.shape, (1, 4, 16, 16))
