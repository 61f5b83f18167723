"""Pass over the scene, sweep by sweep and block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wholescene.spatial.checkpoint import Checkpoint, Position
from wholescene.spatial.graph import Value, run_op
from wholescene.spatial.layout import Axis
from wholescene.spatial.pool import Pool
from wholescene.spatial.regions import Span, Whole
from wholescene.spatial.schedule import Schedule, Sweep
from wholescene.spatial.staging import Kind, Stage
from wholescene.spatial.walk import Read, Walk
from wholescene.spatial.wave import finest_cuts

__all__ = ["Done", "Execution", "Read", "Sink"]

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


class Execution:
    """One execution of a staged network over one scene.

    Args:
        ready: The network.
        read: Gives a region of the image.
        sink: Takes each region of the result once.
        block: Side of a block on the finest grid.
        pool: Where memory comes from, and where to compute; the CPU by default.
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
        pool: Pool | None = None,
        spill_dir: Path | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.ready, self.graph = ready, ready.graph
        self.read, self.sink, self.block = read, sink, block
        self.pool = pool or Pool(torch.device("cpu"))
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
        totals = [self._num_rows(sweep) for sweep in self.ready.sweeps]
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

    def _num_rows(self, sweep: Sweep) -> int:
        if not sweep.members:
            return 0
        return len(finest_cuts(self.ready.staging, sweep.members, Axis.ROW, self.block)) - 1

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
            if whole.file is None
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
                    self.complete[index] = self._kept(index)

    def _sweep(self, start: Position) -> Iterator[tuple[int, int]]:
        """Pass over the scene; gives rows of blocks and rows of the result done."""
        sweep = self.ready.sweeps[start.level]
        if not sweep.members:
            return
        for index in sweep.members:
            reduction = self.ready.stages[index].reduction
            if reduction is not None:
                reduction.start(*start.totals.get(index, ()))
        for index in sweep.keeps:
            self.complete[index] = self._kept(index)
        walk = Walk(
            self.ready,
            start.level,
            block=self.block,
            complete=self.complete,
            read=self.read,
            all_of=self._all_of,
            take=self._take,
            pool=self.pool,
            start=start.row,
        )
        gives_result = self.ready.gives_result(start.level)
        for done in walk.rows():
            yield done, walk.rows_of(self.graph.output, done) if gives_result else 0

    def _take(self, index: int, rows: Span, cols: Span, fresh: Tensor) -> None:
        """Keep a region, or give it to the sink."""
        if index in self.complete:
            self.complete[index].put(fresh, rows, cols)
        else:
            self.sink(slice(*rows), slice(*cols), fresh)

    def _kept(self, index: int) -> Whole:
        value, layout = self.graph.values[index], self.ready.stages[index].layout
        path = None if self.spill_dir is None else self.spill_dir / f"value-{index}.raw"
        return Whole.empty(layout, value.dtype, self.pool.device, path)

    def _all_of(self, index: int) -> Tensor:
        if index == self.graph.image:
            *_, height, width = self.graph.values[index].shape
            return self.read(slice(0, height), slice(0, width))
        return self.complete[index].whole

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
