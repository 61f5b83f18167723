"""The order of work inside one sweep: who computes which rows and columns at which step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from wholescene.spatial.layout import Axis
from wholescene.spatial.staging import Staging

__all__ = ["AxisWave", "axis_wave", "finest_cuts", "first_step"]

_STRIDE = 32
"""Usual stride of a network's coarsest grid."""


@dataclass(frozen=True)
class AxisWave:
    """One axis of a sweep.

    Args:
        breaks: Per value, entries computed before each step: ``breaks[v][i]`` of them before
            step ``i``, so that step ``i`` computes ``[breaks[v][i], breaks[v][i + 1])``.
        keep: Per value, first entry that step ``i`` or a later one still reads.
        num_steps: Steps along the axis.
    """

    breaks: Mapping[int, Sequence[int]]
    keep: Mapping[int, Sequence[int]]
    num_steps: int


def finest_cuts(staging: Staging, present: Sequence[int], axis: Axis, block: int) -> list[int]:
    """Cut the finest grid of a sweep into blocks.

    The first is larger, by up to a half, by as much as the last value lags behind the first: then
    no region of the last value is much larger than a block. Blocks that are a multiple of the
    network's stride cut all its grids alike.
    """
    finest = max((staging.stages[index].grid(axis) for index in present), default=1)
    if finest <= block:
        return [0, finest]
    first = block + _lag(staging, present, axis, block, finest)
    return [0, *range(first, finest, block), finest] if first < finest else [0, block, finest]


def _lag(staging: Staging, present: Sequence[int], axis: Axis, block: int, finest: int) -> int:
    """Entries of the finest grid that the last value is behind, in steps that suit strides."""
    done = _breaks(staging, present, axis, [0, block, finest])[present[-1]][1]
    behind = block - done * finest // staging.stages[present[-1]].grid(axis)
    step = gcd(block, _STRIDE)
    return min(-(-behind // step), block // 2 // step) * step if done else 0


def axis_wave(staging: Staging, present: Sequence[int], axis: Axis, block: int) -> AxisWave:
    """Let everything be computed as soon as what it needs is there."""
    cuts = finest_cuts(staging, present, axis, block)
    breaks = _breaks(staging, present, axis, cuts)
    return AxisWave(breaks, _keeps(staging, present, axis, breaks), len(cuts) - 1)


def _breaks(
    staging: Staging, present: Sequence[int], axis: Axis, cuts: Sequence[int]
) -> dict[int, list[int]]:
    breaks: dict[int, list[int]] = {}
    for index in present:
        grid = staging.stages[index].grid(axis)
        ready = [grid * cut // cuts[-1] for cut in cuts]
        for k, ref in enumerate(staging.graph.values[index].refs()):
            if ref not in breaks:
                continue
            need = staging.need(index, k, ref, axis)
            if need is not None:
                given = [need.ready(count) for count in breaks[ref]]
                ready = [min(pair) for pair in zip(ready, given, strict=True)]
        ready[0], ready[-1] = 0, grid
        breaks[index] = ready
    return breaks


def _keeps(
    staging: Staging, present: Sequence[int], axis: Axis, breaks: Mapping[int, Sequence[int]]
) -> dict[int, list[int]]:
    keep = {index: list(found) for index, found in breaks.items()}
    for index in reversed(present):
        # What is put together for its reader is read when that one runs.
        used = keep[index] if staging.stages[index].is_gathered else breaks[index]
        for k, ref in enumerate(staging.graph.values[index].refs()):
            if ref not in keep:
                continue
            need = staging.need(index, k, ref, axis)
            if need is not None:
                first = [need.keep_from(done) for done in used]
                keep[ref] = [min(pair) for pair in zip(keep[ref], first, strict=True)]
    return keep


def first_step(
    staging: Staging, wave: AxisWave, axis: Axis, targets: Sequence[int], step: int
) -> int:
    """Last step to begin at so that all that ``targets`` compute from ``step`` on comes out right.

    What lies before the first row of that step may be anything.
    """
    required = {index: wave.breaks[index][step] for index in targets}
    for index in sorted(wave.breaks, reverse=True):
        if index not in required:
            continue
        for k, ref in enumerate(staging.graph.values[index].refs()):
            need = staging.need(index, k, ref, axis) if ref in wave.breaks else None
            if need is not None:
                first = need.keep_from(required[index])
                required[ref] = min(required.get(ref, first), first)
    return max(
        i
        for i in range(step + 1)
        if all(wave.breaks[index][i] <= first for index, first in required.items())
    )
