"""One walk over the scene: a sweep's values, block by block, each element once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wholescene.spatial.buffers import Rolling
from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.pool import Pool
from wholescene.spatial.regions import Source, Span, Whole
from wholescene.spatial.rules import Local, Needs
from wholescene.spatial.schedule import Schedule
from wholescene.spatial.staging import Kind, Stage
from wholescene.spatial.wave import axis_wave, first_step

__all__ = ["Read", "Take", "Walk"]

Read = Callable[[slice, slice], Tensor]
Take = Callable[[int, Span, Span, Tensor], None]


@dataclass(frozen=True)
class _Argument:
    """An argument that is read region by region.

    Args:
        source: Where regions come from.
        needs: What a region of the result needs.
        fill: What lies beyond the scene, if regions come with it.
    """

    source: Source
    needs: Needs
    fill: float | None

    def tensor(self, out: Mapping[Axis, Span]) -> Tensor:
        """The region that a region of the result needs."""
        rows, cols = (self._span(axis, k, out) for k, axis in enumerate(Axis))
        return self.source.region(rows, cols, self.fill or 0.0)

    def _span(self, axis: Axis, k: int, out: Mapping[Axis, Span]) -> Span:
        need = self.needs.get(axis)
        if need is None:
            return self.source.scene[k]
        return need.clamped(*out[axis]) if self.fill is None else need.need(*out[axis])


@dataclass(frozen=True)
class _Task:
    """What is done at each step for one value.

    Args:
        value: The value.
        stage: How it is computed.
        arguments: Regions to read, or a function that gives all of an argument.
        done: Sources that nothing reads after it in the same step.
    """

    value: Value
    stage: Stage
    arguments: Sequence[_Argument | Callable[[], Tensor]]
    done: Sequence[Source]

    def local(self, out: Mapping[Axis, Span]) -> Local:
        """The arguments of a region."""
        for item in self.arguments:
            if isinstance(item, _Argument):
                item.source.begin()
        tensors = [
            item.tensor(out) if isinstance(item, _Argument) else item() for item in self.arguments
        ]
        return Local(tensors, out, self.stage.needs)


class Walk:
    """One sweep, ready to go over the scene.

    Args:
        ready: The network.
        level: Number of the sweep.
        block: Side of a block on the finest grid.
        complete: Values known whole.
        read: Gives a region of the image; called from a thread, one region ahead.
        all_of: Gives all of a value that is known whole.
        take: Gets each region of kept values and of the result: index, rows, columns, tensor.
        pool: Where memory comes from, and where to compute.
        start: Row of blocks from which on results count.
    """

    def __init__(
        self,
        ready: Schedule,
        level: int,
        *,
        block: int,
        complete: Mapping[int, Whole],
        read: Read,
        all_of: Callable[[int], Tensor],
        take: Take,
        pool: Pool,
        start: int = 0,
    ) -> None:
        self.ready, self.graph = ready, ready.graph
        self.members = ready.sweeps[level].members
        self.read, self.all_of, self.take = read, all_of, take
        self.start, self.complete = start, complete
        self.waves = {axis: axis_wave(ready.staging, self.members, axis, block) for axis in Axis}
        self.taken = ready.sweeps[level].keeps | set(ready.results(level))
        self.sources: dict[int, Source] = {}
        for index in self.members:
            source = self._source(index, pool)
            if source is not None:
                self.sources[index] = source
        self.tasks = self._tasks()
        self._share_memory(pool)

    def rows(self) -> Iterator[int]:
        """Compute row of blocks by row of blocks; gives how many are done, from ``start`` on."""
        num_rows, num_cols = (self.waves[axis].num_steps for axis in Axis)
        staging, wave = self.ready.staging, self.waves[Axis.ROW]
        before = first_step(staging, wave, Axis.ROW, sorted(self.taken), self.start)
        held = [source for source in self.sources.values() if isinstance(source, Rolling)]
        with _Ahead(self.read, self._image_regions(before)) as images, ExitStack() as stack:
            for source in held:
                stack.callback(source.close)
            for i in range(before, num_rows):
                for source in held:
                    source.start_row(i, is_first=i == before)
                for j in range(num_cols):
                    for task in self.tasks:
                        self._step(task, i, j, images)
                    for whole in self.complete.values():
                        whole.unload()
                if i >= self.start:
                    yield i + 1

    def rows_of(self, index: int, done: int) -> int:
        """Rows of a value that so many rows of blocks have computed."""
        return self.waves[Axis.ROW].breaks[index][done]

    def _step(self, task: _Task, i: int, j: int, images: _Ahead) -> None:
        index, found = task.value.index, task.stage
        out = self._out(index, i, j)
        fresh = None
        if all(start < stop for start, stop in out.values()):
            if found.kind is Kind.IMAGE:
                fresh = images.next()
            elif found.reduction is None:
                assert found.rule is not None
                fresh = found.rule.run(task.local(out))
            elif i >= self.start:
                found.reduction.add(task.local(out))
        if fresh is not None and i >= self.start and index in self.taken:
            self.take(index, out[Axis.ROW], out[Axis.COL], fresh)
        source = self.sources.get(index)
        if isinstance(source, Rolling):
            source.put(i, j, fresh)
        for read in task.done:
            read.release(i, j)

    def _out(self, index: int, i: int, j: int) -> dict[Axis, Span]:
        rows, cols = (self.waves[axis].breaks[index] for axis in Axis)
        return {Axis.ROW: (rows[i], rows[i + 1]), Axis.COL: (cols[j], cols[j + 1])}

    def _image_regions(self, before: int) -> Iterator[tuple[slice, slice]]:
        image = self.graph.image
        if image not in self.members:
            return
        num_rows, num_cols = (self.waves[axis].num_steps for axis in Axis)
        for i in range(before, num_rows):
            for j in range(num_cols):
                rows, cols = (slice(*span) for span in self._out(image, i, j).values())
                if rows.start < rows.stop and cols.start < cols.stop:
                    yield rows, cols

    def _source(self, index: int, pool: Pool) -> Source | None:
        """What regions of a value come from; nothing for sums."""
        value, found = self.graph.values[index], self.ready.stages[index]
        if found.reduction is not None:
            return None
        if found.is_gathered:
            assert found.rule is not None
            assert found.rule.gather is not None
            adopted = found.rule.adopted
            parts = [self._part(ref, adopted.get(k)) for k, ref in enumerate(value.refs())]
            return found.rule.gather.source(parts)
        rows, cols = (self.waves[axis] for axis in Axis)
        return Rolling(index, found.layout, rows, cols, value.dtype, pool.device)

    def _part(self, ref: int, adopted: Layout | None) -> Source:
        if ref in self.sources:
            return self.sources[ref]
        whole = self.complete[ref]
        return whole if adopted is None else whole.adopted(adopted)

    def _tasks(self) -> list[_Task]:
        last: dict[int, int] = {}
        worked = [i for i in self.members if not self.ready.stages[i].is_gathered]
        for index in worked:
            for ref in [index, *self.ready.read_by(index)]:
                last[ref] = index
        done: dict[int, list[Source]] = {}
        for ref, index in last.items():
            if ref in self.sources:
                done.setdefault(index, []).append(self.sources[ref])
        return [
            _Task(
                self.graph.values[index],
                self.ready.stages[index],
                self._arguments(index),
                done.get(index, ()),
            )
            for index in worked
        ]

    def _share_memory(self, pool: Pool) -> None:
        """Let sources take room from a pool whose readers all compute something new."""
        unsafe = {
            ref
            for task in self.tasks
            if task.stage.reduction is None and not (task.stage.rule and task.stage.rule.border)
            for ref in self.ready.read_by(task.value.index)
        }
        for index, source in self.sources.items():
            source.pool = None if index in unsafe else pool

    def _arguments(self, index: int) -> list[_Argument | Callable[[], Tensor]]:
        value, found = self.graph.values[index], self.ready.stages[index]
        if found.kind is Kind.IMAGE:
            return []
        rule = found.rule
        arguments: list[_Argument | Callable[[], Tensor]] = []
        for k, (ref, needs) in enumerate(zip(value.refs(), found.needs, strict=True)):
            if needs is None:
                arguments.append(partial(self.all_of, ref))
                continue
            adopted = rule.adopted.get(k) if rule is not None else None
            fill = rule.border.get(k) if rule is not None else None
            arguments.append(_Argument(self._part(ref, adopted), needs, fill))
        return arguments


class _Ahead:
    """Reads regions of the image on a thread, one ahead of the network."""

    def __init__(self, read: Read, regions: Iterator[tuple[slice, slice]]) -> None:
        self._read, self._regions = read, regions
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="wholescene-read")
        self._coming: Future[Tensor] | None = None

    def next(self) -> Tensor:
        """The next region."""
        assert self._coming is not None
        found = self._coming.result()
        self._order()
        return found

    def __enter__(self) -> _Ahead:
        self._order()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _order(self) -> None:
        region = next(self._regions, None)
        self._coming = None if region is None else self._pool.submit(self._read_now, *region)

    def _read_now(self, rows: slice, cols: slice) -> Tensor:
        with torch.inference_mode():
            return self._read(rows, cols)
