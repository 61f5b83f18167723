"""Pass over the scene, sweep by sweep and block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wholescene.spatial.buffers import Rolling, Whole
from wholescene.spatial.graph import Value, run_op
from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.rules import Local
from wholescene.spatial.schedule import Schedule, Sweep
from wholescene.spatial.staging import Kind, Stage
from wholescene.spatial.wave import axis_wave

__all__ = ["Execution", "Read", "Sink"]

Span = tuple[int, int]
Read = Callable[[slice, slice], Tensor]
Sink = Callable[[slice, slice, Tensor], None]


@dataclass(frozen=True)
class _Work:
    """What one pass over the scene works on."""

    level: int
    sweep: Sweep
    last_use: Mapping[int, Sequence[int]]
    held: Mapping[int, Rolling]
    spans: Mapping[int, Mapping[Axis, Sequence[int]]]

    def region(self, index: int, i: int, j: int) -> dict[Axis, Span]:
        """Rows and columns of a value that step ``(i, j)`` computes."""
        rows, cols = (self.spans[index][axis] for axis in Axis)
        return {Axis.ROW: (rows[i], rows[i + 1]), Axis.COL: (cols[j], cols[j + 1])}


class Execution:
    """One execution of a staged network over one scene.

    Args:
        ready: The network.
        read: Gives a region of the image.
        sink: Takes each region of the result once.
        block: Side of a block on the finest grid.
        spill_dir: Where kept values are mapped to files; ``None`` keeps them in memory.
    """

    def __init__(
        self,
        ready: Schedule,
        read: Read,
        sink: Sink,
        *,
        block: int,
        spill_dir: Path | None = None,
    ) -> None:
        self.ready, self.graph = ready, ready.graph
        self.read, self.sink, self.block, self.spill_dir = read, sink, block, spill_dir
        self.complete: dict[int, Whole] = {
            value.index: Whole(value.constant, self._stage(value).layout)
            for value in self.graph.values
            if value.constant is not None
        }

    def run(self) -> None:
        """Compute everything, and hand the result to the sink."""
        self._finish(-1)
        for level in range(len(self.ready.sweeps)):
            self._sweep(level)
            self._finish(level)
            self._forget(level)
        self._deliver()

    def _stage(self, value: Value) -> Stage:
        return self.ready.stages[value.index]

    def _sweep(self, level: int) -> None:
        sweep = self.ready.sweeps[level]
        if not sweep.members:
            return
        work = self._prepare(level, sweep)
        steps = [len(next(iter(work.spans.values()))[axis]) - 1 for axis in Axis]
        for i in range(steps[0]):
            for buffer in work.held.values():
                buffer.start_row(i)
            for j in range(steps[1]):
                for index in sweep.members:
                    self._step(work, index, i, j)

    def _prepare(self, level: int, sweep: Sweep) -> _Work:
        present = sweep.members
        waves = {axis: axis_wave(self.ready.staging, present, axis, self.block) for axis in Axis}
        held, last = {}, {}
        for index in present:
            found = self.ready.stages[index]
            if found.reduction is not None:
                found.reduction.start()
            else:
                held[index] = Rolling(index, found.layout, waves[Axis.ROW], waves[Axis.COL])
            if index in sweep.keeps:
                self.complete[index] = self._kept(index, found.layout)
            for ref in {*self.graph.values[index].refs(), index}:
                last[ref] = index
        releases: dict[int, list[int]] = {}
        for ref, index in last.items():
            releases.setdefault(index, []).append(ref)
        spans = {index: {axis: waves[axis].breaks[index] for axis in Axis} for index in present}
        return _Work(level, sweep, releases, held, spans)

    def _kept(self, index: int, layout: Layout) -> Whole:
        value = self.graph.values[index]
        if self.spill_dir is None:
            return Whole(torch.empty(value.shape, dtype=value.dtype), layout)
        path = self.spill_dir / f"value-{index}.raw"
        count = torch.Size(value.shape).numel()
        mapped = torch.from_file(str(path), shared=True, size=count, dtype=value.dtype)
        return Whole(mapped.view(value.shape), layout, path)

    def _step(self, work: _Work, index: int, i: int, j: int) -> None:
        value, found = self.graph.values[index], self.ready.stages[index]
        span = work.region(index, i, j)
        fresh = None
        if all(start < stop for start, stop in span.values()):
            if found.reduction is not None:
                found.reduction.add(self._local(value, found, span, work.held))
            else:
                fresh = self._fresh(work, value, found, span)
        if found.reduction is None:
            work.held[index].put(i, j, fresh)
        for done in work.last_use.get(index, ()):
            if done in work.held:
                work.held[done].release(i, j)

    def _fresh(self, work: _Work, value: Value, found: Stage, span: Mapping[Axis, Span]) -> Tensor:
        rows, cols = (slice(*span[axis]) for axis in Axis)
        if found.kind is Kind.IMAGE:
            fresh = self.read(rows, cols)
        else:
            assert found.rule is not None
            fresh = found.rule.run(self._local(value, found, span, work.held))
        if value.index in work.sweep.keeps:
            self.complete[value.index].put(fresh, span[Axis.ROW], span[Axis.COL])
        elif value.index == self.graph.output and work.level == found.level:
            self.sink(rows, cols, fresh)
        return fresh

    def _local(
        self, value: Value, found: Stage, span: Mapping[Axis, Span], held: Mapping[int, Rolling]
    ) -> Local:
        local = Local((), span, found.needs)
        adopted = found.rule.adopted if found.rule is not None else {}
        local.tensors = [
            self._argument(value.index, k, ref, local, held, adopted.get(k))
            for k, ref in enumerate(value.refs())
        ]
        return local

    def _argument(
        self,
        index: int,
        k: int,
        ref: int,
        local: Local,
        held: Mapping[int, Rolling],
        adopted: Layout | None,
    ) -> Tensor:
        needs = local.needs[k]
        if needs is None:
            return self._all_of(ref)
        theirs = adopted or self.ready.stages[ref].layout
        rows, cols = (
            local.span(k, axis) if axis in needs else (0, theirs.grid(axis) or 1) for axis in Axis
        )
        if ref in held:
            return held[ref].region(rows, cols)
        if ref == self.graph.image:
            return self.read(slice(*rows), slice(*cols))
        return self.complete[ref].region(rows, cols, adopted)

    def _all_of(self, index: int) -> Tensor:
        if index == self.graph.image:
            *_, height, width = self.graph.values[index].shape
            return self.read(slice(0, height), slice(0, width))
        return self.complete[index].tensor

    def _finish(self, level: int) -> None:
        """Complete what needed all of this sweep."""
        for value in self.graph.values:
            found = self._stage(value)
            if found.level != level:
                continue
            if found.reduction is not None:
                self.complete[value.index] = Whole(found.reduction.finish(), found.layout)
            elif found.kind in (Kind.SMALL, Kind.WHOLE):
                self.complete[value.index] = Whole(run_op(value, self._all_of), found.layout)

    def _forget(self, level: int) -> None:
        """Let go of what no later sweep reads."""
        for index in [*self.complete]:
            found = self.ready.stages[index]
            is_done = found.last_level <= level and index != self.graph.output
            if is_done and found.kind is not Kind.CONSTANT:
                self.complete.pop(index).remove()

    def _deliver(self) -> None:
        """Hand over a result that was not delivered block by block."""
        whole = self.complete.get(self.graph.output)
        if whole is None:
            return
        *_, height, width = self.graph.values[self.graph.output].shape
        for top in range(0, height, self.block):
            bottom = min(top + self.block, height)
            self.sink(slice(top, bottom), slice(0, width), whole.tensor[..., top:bottom, :])
        whole.remove()
