"""How much memory a streamed execution takes, from shapes alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch

from wholescene.errors import InputError
from wholescene.spatial.cost import VIEWS
from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.pool import Pool
from wholescene.spatial.schedule import Schedule
from wholescene.spatial.staging import Kind
from wholescene.spatial.wave import AxisWave, axis_wave

__all__ = ["BLOCKS", "Footprint", "choose_block", "footprint", "parse_bytes", "plain_entries"]

BLOCKS = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64, 32)
"""Block sides tried under a memory budget, largest first."""

_SLACK = 2.0
"""Free heap over what one step works on; measured, see ``benchmarks/streaming_memory.py``."""

_LEAN_SLACK = 144 << 20
"""The most of it where large blocks are given back at once; measured likewise."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True)
class Footprint:
    """Estimated bytes of a streamed execution, above the loaded model and the result.

    Args:
        block: Side of a block on the finest grid.
        kept: Largest sum of values kept whole between sweeps.
        mapped: Largest sum of the regions of them that one step stores.
        strips: Largest sum of rows and columns kept inside a sweep.
        working: Largest sum of the regions one step works on.
        constants: Folded weights, and values that depend on the scene's size but not its pixels.
        steps: Blocks in rows and columns, per sweep.
        spilled: Whether kept values are in files.
        budget: Bytes that there are; ``None`` where nobody said.
        lean: Whether the heap gives large blocks back at once (:func:`wholescene.heap.lean_heap`).
    """

    block: int
    kept: int
    mapped: int
    strips: int
    working: int
    constants: int
    steps: tuple[tuple[int, int], ...]
    spilled: bool = False
    budget: int | None = None
    lean: bool = False

    @property
    def slack(self) -> int:
        """What the heap usually keeps free, so that it need not ask for it at each step."""
        most = int(_SLACK * self.working)
        return min(most, _LEAN_SLACK) if self.lean else most

    @property
    def spare(self) -> int:
        """Bytes that may be held beyond the plan if that saves time.

        They are what the budget has room for, or as much again as is planned for where there is
        none.
        """
        room = 2 * self.peak if self.budget is None else self.budget
        return max(0, room - self.peak)

    @property
    def idle(self) -> int:
        """Bytes of free heap that a row of blocks may end with; it gives back what is more.

        They are no more than is planned for, even where there is room. What the next row works on
        does not always fit into them, and comes on top.
        """
        return 0 if self.lean else min(self.spare, self.peak)

    @property
    def peak(self) -> int:
        """Bytes of memory at the highest point."""
        kept = self.mapped if self.spilled else self.kept
        return kept + self.strips + self.working + self.slack + self.constants


def parse_bytes(memory: int | str) -> int:
    """Bytes from a number or a text such as ``"4GiB"`` or ``"500 MB"``.

    Raises:
        InputError: If it is not a positive size.
    """
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]i?)?b?\s*", memory.lower())
        if match is None:
            raise InputError(f"memory={memory!r} is not a size; write bytes, or for example '4GiB'")
        unit = match[2] or ""
        count = int(float(match[1]) * (_UNITS | _BINARY)[unit])
    else:
        count = int(memory)
    if count <= 0:
        raise InputError(f"memory={memory!r} must be more than 0 bytes")
    return count


def choose_block(plan: Schedule, budget: int, *, spilled: bool, lean: bool) -> Footprint:
    """Largest block whose footprint stays under a budget.

    Raises:
        InputError: If not even the smallest does.
    """
    found = None
    for block in BLOCKS:
        found = footprint(plan, block, spilled=spilled, lean=lean)
        if found.peak <= budget:
            return found
    assert found is not None
    advice = "" if spilled else "; with spill_dir= kept values go to a file"
    raise InputError(
        f"memory={budget:,} bytes is not enough for this network on this scene: blocks of "
        f"{found.block} take about {found.peak:,} bytes, {found.kept:,} of them kept between "
        f"sweeps{advice}"
    )


def footprint(
    plan: Schedule, block: int, *, spilled: bool = False, lean: bool = False
) -> Footprint:
    """Estimate the bytes of one execution."""
    strips, working, mapped, steps = 0, 0, 0, []
    pool = Pool(torch.device("meta"))
    for sweep in plan.sweeps:
        present = sweep.members
        if not present:
            steps.append((0, 0))
            continue
        rows, cols = (axis_wave(plan.staging, present, axis, block) for axis in Axis)
        steps.append((rows.num_steps, cols.num_steps))
        held, busy = _sweep_bytes(plan, present, rows, cols, pool)
        stored = sum(_fresh_bytes(plan, index, rows, cols) for index in sweep.keeps)
        mapped = max(mapped, stored)
        if held + busy > strips + working:
            strips, working = held, busy
    constants = sum(
        value.num_bytes
        for value, found in zip(plan.graph.values, plan.stages, strict=True)
        if found.kind is Kind.SMALL and found.level < 0 and value.name not in VIEWS
    )
    kept = max((kept_bytes(plan, level) for level in range(len(plan.sweeps))), default=0)
    constants += plan.folded_bytes
    return Footprint(
        block, kept, mapped, strips, working, constants, tuple(steps), spilled, lean=lean
    )


def kept_bytes(plan: Schedule, level: int) -> int:
    """Bytes of values held whole at the end of a sweep."""
    total = 0
    for value, found in zip(plan.graph.values, plan.stages, strict=True):
        whole = found.kind in (Kind.REDUCED, Kind.SMALL, Kind.WHOLE)
        first = found.level if whole else found.kept_level
        if first is None:
            continue
        is_view = found.kind in (Kind.SMALL, Kind.WHOLE) and value.name in VIEWS
        lives = 0 <= first <= level <= max(found.last_level, first)
        if lives and not is_view:
            total += value.num_bytes
    return total


def _sweep_bytes(
    plan: Schedule, present: Sequence[int], rows: AxisWave, cols: AxisWave, pool: Pool
) -> tuple[int, int]:
    """Bytes of strips, and of regions alive at once, in one sweep."""
    strips = 0
    fresh: dict[int, int] = {}
    put_together: dict[int, int] = {}
    for index in present:
        found, value = plan.stages[index], plan.graph.values[index]
        if found.reduction is not None:
            continue
        entry = plain_entries(found.layout) * value.dtype.itemsize
        high, carried_rows = _extent(rows, index)
        wide, carried_cols = _extent(cols, index)
        window = high * wide * entry
        if found.is_gathered:
            put_together[index] = window
            continue
        fresh[index] = _fresh_bytes(plan, index, rows, cols)
        if window != fresh[index] or _has_border(plan, index):
            put_together[index] = window
        strips += 2 * carried_rows * found.grid(Axis.COL) * entry if rows.num_steps > 1 else 0
        strips += 2 * carried_cols * high * entry if cols.num_steps > 1 else 0
    image = fresh.get(plan.graph.image, 0)  # the next region is read while this one is worked on
    _lend(plan, present, put_together, pool)
    return strips, _alive(plan, present, fresh) + pool.num_bytes + image


def _fresh_bytes(plan: Schedule, index: int, rows: AxisWave, cols: AxisWave) -> int:
    """Bytes of the largest region of a value that one step computes."""
    entry = plain_entries(plan.stages[index].layout) * plan.graph.values[index].dtype.itemsize
    return _largest_step(rows, index) * _largest_step(cols, index) * entry


def _has_border(plan: Schedule, index: int) -> bool:
    """Whether something reads a value with what lies beyond the scene."""
    return any(
        found.rule is not None and found.rule.border and index in value.refs()
        for value, found in zip(plan.graph.values, plan.stages, strict=True)
    )


def _alive(plan: Schedule, present: Sequence[int], sizes: dict[int, int]) -> int:
    """Largest sum of sizes from where each value is computed to where it is last read."""
    last = {}
    for index in present:
        for ref in {*plan.read_by(index), index}:
            last[ref] = index
    now = peak = 0
    for index in present:
        now += sizes.get(index, 0)
        peak = max(peak, now)
        now -= sum(sizes.get(ref, 0) for ref, user in last.items() if user == index)
    return peak


def _lend(plan: Schedule, present: Sequence[int], sizes: dict[int, int], pool: Pool) -> None:
    """Let a pool lend rooms of these sizes, each from a value's first reader to its last."""
    worked = [index for index in present if not plan.stages[index].is_gathered]
    last = {ref: index for index in worked for ref in plan.read_by(index)}
    lent: dict[int, torch.Tensor] = {}
    for index in [*worked, *worked]:  # the second time as ever after
        for ref in plan.graph.values[index].refs():
            if ref in sizes and ref not in lent:
                lent[ref] = pool.take(sizes[ref])
        for ref in [ref for ref in lent if last[ref] == index]:
            pool.give(lent.pop(ref))


def _extent(wave: AxisWave, index: int) -> tuple[int, int]:
    """Largest window of a value along an axis, and the most that is carried to the next step."""
    breaks, keep = wave.breaks[index], wave.keep[index]
    windows = [breaks[i + 1] - keep[i] for i in range(wave.num_steps)]
    carried = [breaks[i] - keep[i] for i in range(1, wave.num_steps)]
    return max(windows), max(carried, default=0)


def _largest_step(wave: AxisWave, index: int) -> int:
    breaks = wave.breaks[index]
    return max(breaks[i + 1] - breaks[i] for i in range(wave.num_steps))


def plain_entries(layout: Layout) -> int:
    """Entries of a tensor per row and column."""
    return prod(atom.size for dim in layout.dims for atom in dim if atom.axis is None)
