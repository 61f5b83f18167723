"""Pass over the scene, sweep by sweep and block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wholescene.spatial.buffers import Rolling, Whole
from wholescene.spatial.checkpoint import Checkpoint, Position
from wholescene.spatial.graph import Value, run_op
from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.rules import Local
from wholescene.spatial.schedule import Schedule, Sweep
from wholescene.spatial.staging import Kind, Stage
from wholescene.spatial.wave import AxisWave, axis_wave, finest_cuts, first_step

__all__ = ["Done", "Execution", "Read", "Sink"]

Span = tuple[int, int]
Read = Callable[[slice, slice], Tensor]
Sink = Callable[[slice, slice, Tensor], None]


@dataclass(frozen=True)
class Done:
    """How far an execution has come, after each row of blocks.

    Args:
        rows: Rows of the result, from the top, that the sink has had.
        steps: Rows of blocks computed.
        num_steps: Rows of blocks in all, over all sweeps.
    """

    rows: int
    steps: int
    num_steps: int


@dataclass(frozen=True)
class _Work:
    """What one pass over the scene works on.

    Args:
        first: Row of blocks from which on results count; those before only lead up to it.
    """

    level: int
    sweep: Sweep
    first: int
    waves: Mapping[Axis, AxisWave]
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
        checkpoint: Where the position is written after each row of blocks, and kept values are
            mapped to files; an execution goes on from the position found there.
    """

    def __init__(
        self,
        ready: Schedule,
        read: Read,
        sink: Sink,
        *,
        block: int,
        spill_dir: Path | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.ready, self.graph = ready, ready.graph
        self.read, self.sink, self.block = read, sink, block
        self.checkpoint = checkpoint
        self.spill_dir = checkpoint.folder if checkpoint is not None else spill_dir
        self.complete: dict[int, Whole] = {
            value.index: Whole(value.constant, self._stage(value).layout)
            for value in self.graph.values
            if value.constant is not None
        }

    def run(self) -> None:
        """Compute everything, and hand the result to the sink."""
        for _ in self.rows():
            pass

    def rows(self) -> Iterator[Done]:
        """Compute row of blocks by row of blocks; what is given counts from the scene's top."""
        start = self.checkpoint.load() if self.checkpoint is not None else Position()
        totals = [len(self._cuts(sweep)) - 1 for sweep in self.ready.sweeps]
        done = sum(totals[: start.level])
        self._finish(-1)
        self._restore(start)
        for level in range(start.level, len(totals)):
            begin = start if level == start.level else Position(level)
            for i, rows in self._sweep(begin):
                yield Done(rows, done + i, sum(totals))
                # Only now has whoever takes the rows made them safe.
                self._save(Position(level, i, self._totals(level), start.complete))
            done += totals[level]
            self._finish(level)
            start = Position(level + 1, complete=self._complete(level))
            self._save(start)
            self._forget(level)
        for rows in self._deliver():
            yield Done(rows, done, done)

    def _cuts(self, sweep: Sweep) -> list[int]:
        return finest_cuts(self.ready.staging, sweep.members, Axis.ROW, self.block)

    def _stage(self, value: Value) -> Stage:
        return self.ready.stages[value.index]

    def _save(self, position: Position) -> None:
        if self.checkpoint is not None:
            self.checkpoint.save(position)

    def _totals(self, level: int) -> dict[int, tuple[Tensor, int]]:
        """Sums under way in a sweep."""
        return {
            index: (found.reduction.total, found.reduction.count)
            for index, found in enumerate(self.ready.stages)
            if found.level == level and found.reduction and found.reduction.total is not None
        }

    def _complete(self, level: int) -> dict[int, Tensor]:
        """What later sweeps read of what was completed at once."""
        return {
            index: whole.tensor
            for index, whole in self.complete.items()
            if whole.path is None
            and self.ready.stages[index].level >= 0
            and self._is_awaited(index, level)
        }

    def _is_awaited(self, index: int, level: int) -> bool:
        return self.ready.stages[index].last_level > level or index == self.graph.output

    def _restore(self, start: Position) -> None:
        """Take over what earlier sweeps of another process left."""
        for index, tensor in start.complete.items():
            self.complete[index] = Whole(tensor, self.ready.stages[index].layout)
        for sweep in self.ready.sweeps[: start.level]:
            for index in sweep.keeps:
                if self._is_awaited(index, start.level - 1):
                    self.complete[index] = self._kept(index, self.ready.stages[index].layout)

    def _sweep(self, start: Position) -> Iterator[tuple[int, int]]:
        """Pass over the scene; gives rows of blocks and rows of the result done."""
        sweep = self.ready.sweeps[start.level]
        if not sweep.members:
            return
        work = self._prepare(start, sweep)
        delivered = work.spans.get(self.graph.output, {}).get(Axis.ROW, ())
        rows, cols = (work.waves[axis].num_steps for axis in Axis)
        targets = {*work.sweep.keeps, *self._results(start.level)} & {*sweep.members}
        before = first_step(
            self.ready.staging, work.waves[Axis.ROW], Axis.ROW, sorted(targets), start.row
        )
        for i in range(before, rows):
            for buffer in work.held.values():
                buffer.start_row(i)
            for j in range(cols):
                for index in sweep.members:
                    self._step(work, index, i, j)
            if i >= start.row:
                yield i + 1, delivered[i + 1] if self._is_result(start.level) else 0

    def _results(self, level: int) -> list[int]:
        """Values of a sweep for whose sake it is made, besides kept ones."""
        sums = [
            index
            for index, found in enumerate(self.ready.stages)
            if found.kind is Kind.REDUCED and found.level == level
        ]
        return [*sums, self.graph.output] if self._is_result(level) else sums

    def _is_result(self, level: int) -> bool:
        """Whether the sink gets the result in this sweep, block by block."""
        found = self.ready.stages[self.graph.output]
        streams = found.kind in (Kind.STREAMED, Kind.IMAGE)
        return streams and found.level == level and found.kept_level is None

    def _prepare(self, start: Position, sweep: Sweep) -> _Work:
        present = sweep.members
        waves = {axis: axis_wave(self.ready.staging, present, axis, self.block) for axis in Axis}
        held, last = {}, {}
        for index in present:
            found = self.ready.stages[index]
            if found.reduction is not None:
                found.reduction.start(*start.totals.get(index, ()))
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
        return _Work(start.level, sweep, start.row, waves, releases, held, spans)

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
            if found.reduction is None:
                fresh = self._fresh(work, value, found, span)
                if i >= work.first:
                    self._hand_over(work, index, span, fresh)
            elif i >= work.first:
                found.reduction.add(self._local(value, found, span, work.held))
        if found.reduction is None:
            work.held[index].put(i, j, fresh)
        for done in work.last_use.get(index, ()):
            if done in work.held:
                work.held[done].release(i, j)

    def _fresh(self, work: _Work, value: Value, found: Stage, span: Mapping[Axis, Span]) -> Tensor:
        if found.kind is Kind.IMAGE:
            rows, cols = (slice(*span[axis]) for axis in Axis)
            return self.read(rows, cols)
        assert found.rule is not None
        return found.rule.run(self._local(value, found, span, work.held))

    def _hand_over(self, work: _Work, index: int, span: Mapping[Axis, Span], fresh: Tensor) -> None:
        """Keep a region or give it to the sink, if it is a result."""
        if index in work.sweep.keeps:
            self.complete[index].put(fresh, span[Axis.ROW], span[Axis.COL])
        elif index == self.graph.output and self._is_result(work.level):
            rows, cols = (slice(*span[axis]) for axis in Axis)
            self.sink(rows, cols, fresh)

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

    def _deliver(self) -> Iterator[int]:
        """Hand over a result that was not delivered block by block."""
        whole = self.complete.get(self.graph.output)
        if whole is None:
            return
        *_, height, width = self.graph.values[self.graph.output].shape
        for top in range(0, height, self.block):
            bottom = min(top + self.block, height)
            self.sink(slice(top, bottom), slice(0, width), whole.tensor[..., top:bottom, :])
            yield bottom
        whole.remove()
