"""How the rows of every value are dealt out to ranks, and which rows each rank must be sent.

Everything follows from the scene's own cut, so every rank works out all of it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wholescene.spatial.axis import AxisNeed
from wholescene.spatial.layout import Axis, Layout

__all__ = [
    "Cuts",
    "Route",
    "Span",
    "equal_cuts",
    "follow",
    "pieces",
    "proportional",
    "rows_of",
    "unlikeness",
]

Cuts = tuple[int, ...]
"""Where the rows of each rank begin, and where the last one's end: one more than ranks."""

Span = tuple[int, int]


def rows_of(cuts: Cuts, rank: int) -> Span:
    """Rows of a rank."""
    return cuts[rank], cuts[rank + 1]


def equal_cuts(size: int, count: int) -> Cuts:
    """As many rows for each rank as for another, or one more."""
    return tuple(size * rank // count for rank in range(count + 1))


def proportional(cuts: Cuts, size: int) -> Cuts:
    """The same shares of another number of rows."""
    return (*(cut * size // max(cuts[-1], 1) for cut in cuts[:-1]), size)


def unlikeness(cuts: Cuts, others: Cuts) -> int:
    """Rows between two cuts of the same rows, where they are furthest apart."""
    return max(abs(cut - other) for cut, other in zip(cuts, others, strict=True))


def follow(cuts: Cuts, need: AxisNeed) -> Cuts:
    """Cut results where what they are made from is cut, as nearly as can be.

    Args:
        cuts: Of the argument.
        need: What the operator needs of it.
    """
    if not need.is_monotone:
        same = need.num_in == need.num_out
        return cuts if same else proportional(cuts, need.num_out)
    centre = (need.lo + need.hi - 1) // 2
    inner = np.searchsorted(centre, np.asarray(cuts[1:-1]), side="left")
    return (0, *(int(cut) for cut in inner), need.num_out)


def pieces(span: Span, needs: Sequence[AxisNeed]) -> list[Span]:
    """Cut an interval where what it needs jumps, so that each part needs only neighbours.

    Args:
        span: Rows of the result.
        needs: What they need of each argument.
    """
    start, stop = span
    if start >= stop:
        return []
    breaks = {start, stop}
    for need in needs:
        if not need.is_monotone:
            steps = np.diff(need.lo[start:stop])
            usual = np.sign(np.median(steps)) if len(steps) else 0
            jumps = np.flatnonzero((np.sign(steps) != usual) & (steps != 0))
            breaks.update(int(start + jump + 1) for jump in jumps)
    ends = sorted(breaks)
    return list(pairwise(ends))


@dataclass(frozen=True)
class Route:
    """Which rows of one value every rank has, and which it must have.

    Args:
        layout: Where rows and columns of the value are.
        owned: Cut of its rows.
        wanted: Per rank, the intervals it needs; beyond the scene where there is a border.
        cols: Columns needed, likewise.
        fill: What lies beyond the scene.
    """

    layout: Layout
    owned: Cuts
    wanted: tuple[tuple[Span, ...], ...]
    cols: Span
    fill: float = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether every rank wants exactly what it has."""
        width = self.layout.grid(Axis.COL) or 1
        return self.cols == (0, width) and all(
            wanted == (() if start >= stop else ((start, stop),))
            for wanted, (start, stop) in zip(self.wanted, pairwise(self.owned), strict=True)
        )

    def overlap(self, owner: int, taker: int) -> list[tuple[int, Span]]:
        """Which of a taker's intervals an owner's rows are in: interval, rows."""
        low, high = rows_of(self.owned, owner)
        found = []
        for i, (start, stop) in enumerate(self.wanted[taker]):
            common = max(start, low), min(stop, high)
            if common[0] < common[1]:
                found.append((i, common))
        return found
