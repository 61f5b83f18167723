"""Runs a dealt-out network on one rank, together with the others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from wholescene.errors import RankError
from wholescene.progress import Progress
from wholescene.spatial.chance import is_random, kept_by_chance, scene_dropout
from wholescene.spatial.cuts import Span, proportional, rows_of
from wholescene.spatial.deal import Argument, Deal, Task
from wholescene.spatial.exchange import anchored, fetch, new_token, share, taken_from
from wholescene.spatial.graph import run_op
from wholescene.spatial.halo import Edges, convolve_rows
from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.rules import Local, Reduction
from wholescene.spatial.rules.base import arguments_of
from wholescene.spatial.rules.pointwise import NORM_ARGUMENTS
from wholescene.spatial.rules.window import JOINED_ARGUMENTS
from wholescene.spatial.scene_norm import scene_batch_norm
from wholescene.spatial.segments import cut_segments, repeatable
from wholescene.spatial.staging import Kind
from wholescene.spatial.wire import Wire

__all__ = ["ShardedRun"]

aten = torch.ops.aten


class ShardedRun:
    """One pass over one scene.

    Args:
        dealt: The network.
        wire: The ranks.
        seed: Of all random numbers of this pass, the same on every rank.
        segments: Parts that keep only their ends and are computed again on the way back; 1 keeps
            everything.
        progress: Called with operators done and in all.
    """

    def __init__(
        self,
        dealt: Deal,
        wire: Wire,
        seed: int,
        segments: int = 1,
        progress: Progress | None = None,
    ) -> None:
        self.segments, self.progress = segments, progress
        self.dealt, self.wire, self.seed = dealt, wire, seed
        self.graph, self.stages = dealt.staging.graph, dealt.staging.stages
        self.held: dict[int, Tensor] = {}
        self.whole: dict[int, Tensor] = {}
        self.places = {task.value.index: place for place, task in enumerate(dealt.tasks)}
        self.last = {ref: task.value.index for task in dealt.tasks for ref in task.value.refs()}
        scene, size = dealt.cuts[self.graph.image], self.graph.values[self.graph.output].shape[2]
        assert scene is not None
        self.rows = rows_of(proportional(scene, size), wire.rank)
        self.trouble: str | None = None
        self.is_repeated = False

    def __call__(self, rows: Tensor) -> Tensor:
        """Compute this rank's rows of the result.

        Raises:
            RankError: If any rank fails, on all of them.
        """
        learns = torch.is_grad_enabled() and any(self.dealt.learns)
        self.token = new_token(rows.device, learns=learns)
        if not rows.shape[2]:  # so that there is a gradient, of no rows
            self.token = self.token + rows.sum()
        constants = {
            value.index: value.constant for value in self.graph.values if value.constant is not None
        }
        self.held = {**constants, self.graph.image: rows}
        tasks = self.dealt.tasks
        if learns and self.segments > 1:
            for part in cut_segments(tasks, self.segments):
                self._advance_again(part, constants)
        else:
            self._advance(tasks)
        result = self._own_rows(self.held[self.graph.output])
        self.wire.agree(self.trouble)
        self.is_repeated = True
        return anchored(result, self.token)

    def _advance(self, tasks: Sequence[Task]) -> None:
        """Compute operators one after the other."""
        for task in tasks:
            if self.progress is not None and not self.is_repeated:
                self.progress(self.places[task.value.index], len(self.places))
            self.held[task.value.index] = self._run(task)
            for ref in task.value.refs():
                if self.last[ref] == task.value.index and ref != self.graph.output:
                    self.held.pop(ref, None)
                    self.whole.pop(ref, None)

    def _advance_again(self, tasks: Sequence[Task], constants: dict[int, Tensor]) -> None:
        """Compute operators, and once more when their gradients are wanted."""
        before = [ref for ref in self.held if ref not in constants]
        after: list[int] = []

        def step(token: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            self.token, self.whole = token, {}
            self.held = {**constants, **dict(zip(before, tensors, strict=True))}
            self._advance(tasks)
            if self.is_repeated and self.trouble is not None:
                raise RankError(f"on the way back: {self.trouble}")
            after[:] = [ref for ref in self.held if ref not in constants]
            return self.token, *(self.held[ref] for ref in after)

        self.token, *results = repeatable(step, self.token, [self.held[ref] for ref in before])
        self.held = {**constants, **dict(zip(after, results, strict=True))}

    def _own_rows(self, result: Tensor) -> Tensor:
        """This rank's rows of the result."""
        index, route = self.graph.output, self.dealt.result
        shape = self.graph.values[index].shape
        start, stop = self.rows
        if route is not None:
            found, self.token = fetch(
                result, route, self.wire, self.token, learns=self._learns(index)
            )
            if not found:
                return result.new_empty((*shape[:2], 0, shape[3]))
            if route.wanted[self.wire.rank] == ((start, stop),):
                return found[0]
            (result,) = found
        return result[:, :, start:stop]

    def _run(self, task: Task) -> Tensor:
        """Exchange what the task takes, then compute; after trouble, only exchange."""
        # Autocast chooses types operator by operator, on the way back too.
        casts = torch.is_autocast_enabled(self.token.device.type)
        if task.edges is not None and self.trouble is None and not casts:
            return self._convolve(task, task.edges)
        inputs = [self._take(argument, len(task.pieces)) for argument in task.arguments]
        if task.value.op is aten.batch_norm.default and task.cuts is not None:
            named = arguments_of(task.value, NORM_ARGUMENTS)
            if named["training"]:
                return self._norm(task, named)
        if task.stage.reduction is not None and task.cuts is not None:
            return self._reduce(task, task.stage.reduction, inputs)
        if self.trouble is None:
            try:
                return self._compute(task, inputs)
            except Exception as error:  # told to the others, who wait for these rows
                self._fail(task, error)
        return self._nothing(task)

    def _fail(self, task: Task, error: Exception) -> None:
        first = (str(error).splitlines() or [""])[0]
        self.trouble = f"layer {task.value.layer!r}: {type(error).__name__}: {first}"

    def _convolve(self, task: Task, edges: Edges) -> Tensor:
        """Convolve own rows while those for the edges are on the way."""
        named = arguments_of(task.value, JOINED_ARGUMENTS)

        def of(name: str) -> Tensor | None:
            return None if named.get(name) is None else self.held[named[name].index]

        x, weight = of("input"), of("weight")
        assert x is not None
        assert weight is not None
        try:
            result, self.token = convolve_rows(
                x,
                weight,
                of("bias"),
                edges,
                self.wire,
                self.token,
                learns=self._learns(named["input"].index),
                other=of("other"),
                is_clipped=bool(named.get("is_clipped")),
            )
        except RankError:
            raise
        except Exception as error:  # told to the others, who wait for these rows
            self._fail(task, error)
            return self._nothing(task)
        return result

    def _nothing(self, task: Task) -> Tensor:
        """Zeros that take no memory, of the shape the others expect."""
        shape: Sequence[int] = task.value.shape
        if task.cuts is not None:
            start, stop = rows_of(task.cuts, self.wire.rank)
            width = task.stage.layout.grid(Axis.COL) or 1
            shape = task.stage.layout.local_shape(stop - start, width)
        zero = torch.zeros((), dtype=task.value.dtype, device=self.token.device)
        return zero.expand(tuple(shape))

    def _take(self, argument: Argument, count: int) -> list[Tensor]:
        """One tensor per piece of the task."""
        if argument.route is not None and not argument.is_gathered:
            found, self.token = fetch(
                self.held[argument.ref],
                argument.route,
                self.wire,
                self.token,
                learns=self._learns(argument.ref),
            )
            return found
        tensor = self._all_of(argument) if argument.is_gathered else self.held[argument.ref]
        fill, layout, cols = argument.fill, argument.layout, argument.cols
        if layout is None or not layout.is_spatial:
            return [tensor] * count
        return [taken_from(tensor, layout, rows, cols, fill) for rows in argument.rows]

    def _all_of(self, argument: Argument) -> Tensor:
        """All rows of a value, sent for once."""
        if argument.route is None:
            return self.held[argument.ref]
        if argument.ref not in self.whole:
            learns = self._learns(argument.ref)
            (found,), self.token = fetch(
                self.held[argument.ref], argument.route, self.wire, self.token, learns=learns
            )
            self.whole[argument.ref] = found
        return self.whole[argument.ref]

    def _learns(self, ref: int) -> bool:
        return torch.is_grad_enabled() and self.dealt.learns[ref]

    def _compute(self, task: Task, inputs: list[list[Tensor]]) -> Tensor:
        value, stage = task.value, task.stage
        if value.op is scene_dropout:
            return self._dropout(task, inputs)
        if stage.reduction is not None:
            stage.reduction.start()
            stage.reduction.add(self._local(task, [tensors[0] for tensors in inputs], (0, 1)))
            return stage.reduction.finish()
        if stage.rule is None or stage.kind is not Kind.STREAMED:
            return self._plainly(task, [tensors[0] for tensors in inputs])
        parts = [
            stage.rule.run(self._local(task, [tensors[i] for tensors in inputs], rows))
            for i, rows in enumerate(task.pieces)
        ]
        if not parts:
            return self._nothing(task)
        return parts[0] if len(parts) == 1 else _joined(parts, stage.layout, task.pieces)

    def _plainly(self, task: Task, tensors: list[Tensor]) -> Tensor:
        """The operator itself, the same on every rank."""
        of = dict(zip(task.value.refs(), tensors, strict=True))
        if self.is_repeated and task.value.op is aten.batch_norm.default:
            named = arguments_of(task.value, NORM_ARGUMENTS)
            for moved in (named["mean"], named["var"]):  # they have moved the first time
                if moved is not None:
                    of[moved.index] = of[moved.index].clone()
        if not is_random(task.value.op, task.value.args, task.value.kwargs):
            return run_op(task.value, of.__getitem__)
        devices = [self.token.device] if self.token.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed + task.value.index)
            return run_op(task.value, of.__getitem__)

    def _local(self, task: Task, tensors: list[Tensor], rows: Span) -> Local:
        cols = (0, task.stage.grid(Axis.COL))
        return Local(tensors, {Axis.ROW: rows, Axis.COL: cols}, task.stage.needs)

    def _dropout(self, task: Task, inputs: list[list[Tensor]]) -> Tensor:
        _, p, key = task.value.args
        rows = (0, task.stage.grid(Axis.ROW))
        if task.cuts is not None:
            rows = rows_of(task.cuts, self.wire.rank)
        if not inputs[0]:
            return self._nothing(task)
        x = inputs[0][0]
        layout = task.stage.layout if task.cuts is not None else Layout.plain(x.shape)
        kept = kept_by_chance(layout, rows, p, self.seed + key, x.device)
        return x * kept.to(x.dtype) / (1 - p) if p < 1 else x * 0

    def _norm(self, task: Task, named: dict[str, Any]) -> Tensor:
        def of(name: str) -> Tensor | None:
            return None if named.get(name) is None else self.held[named[name].index]

        x, mean, var = of("input"), of("mean"), of("var")
        assert x is not None
        running = None if mean is None or var is None or self.is_repeated else (mean, var)
        result, self.token = scene_batch_norm(
            x, of("weight"), of("bias"), running, named["momentum"], named["eps"],
            self.wire, self.token,
        )  # fmt: skip
        return result

    def _reduce(self, task: Task, reduction: Reduction, inputs: list[list[Tensor]]) -> Tensor:
        """Sum over own rows, then over ranks."""
        shared, self.token = share(
            self._own_total(task, reduction, inputs),
            self.wire,
            self.token,
            learns=self._learns(task.value.index),
        )
        cuts = task.cuts
        assert cuts is not None
        reduction.start()
        for part, (start, stop) in zip(shared, pairwise(cuts), strict=True):
            if start < stop:  # only shares count, and every row has as many entries
                reduction.absorb(part, stop - start)
        result = reduction.finish()
        reduction.start()
        return result

    def _own_total(self, task: Task, reduction: Reduction, inputs: list[list[Tensor]]) -> Tensor:
        reduction.start()
        if self.trouble is None:
            try:
                for i, rows in enumerate(task.pieces):
                    reduction.add(self._local(task, [tensors[i] for tensors in inputs], rows))
            except Exception as error:  # told to the others, who wait for this sum
                self._fail(task, error)
        if self.trouble is None and reduction.total is not None:
            return reduction.total
        like = self._total_like(task, reduction)
        return torch.zeros(like.shape, dtype=like.dtype, device=self.token.device)

    def _total_like(self, task: Task, reduction: Reduction) -> Tensor:
        """A tensor without elements in memory that is like the sum over some rows."""
        reduction.start()
        tensors = []
        for argument in task.arguments:
            layout = self.stages[argument.ref].layout
            shape = layout.local_shape(1, layout.grid(Axis.COL) or 1)
            dtype = self.graph.values[argument.ref].dtype
            tensors.append(torch.empty(shape, dtype=dtype, device="meta"))
        reduction.add(self._local(task, tensors, (0, 1)))
        assert reduction.total is not None
        return reduction.total


def _joined(parts: list[Tensor], layout: Layout, spans: Sequence[Span]) -> Tensor:
    """Put pieces below each other."""
    at, width = layout.atom_of(Axis.ROW), layout.grid(Axis.COL) or 1
    assert at is not None
    wide = [
        part.reshape(layout.atom_shape(stop - start, width))
        for part, (start, stop) in zip(parts, spans, strict=True)
    ]
    rows = sum(stop - start for start, stop in spans)
    return torch.cat(wide, at).reshape(layout.local_shape(rows, width))
