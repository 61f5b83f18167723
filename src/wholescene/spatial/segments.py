"""A network in segments that keep only their ends, and are computed again on the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from wholescene.spatial.deal import Task

__all__ = ["SegmentBytes", "cut_segments", "count_bytes", "repeatable"]

Step = Callable[..., tuple[Tensor, ...]]


class SegmentBytes(NamedTuple):
    """Bytes of a network's maps, cut into segments.

    Args:
        every: All maps.
        largest: Those of the segment with most.
        ends: Those that one segment hands to others, which are kept for the way back.
    """

    every: int
    largest: int
    ends: int


def cut_segments(tasks: Sequence[Task], count: int) -> list[Sequence[Task]]:
    """Cut a network into parts whose results take about as much memory.

    What is written over its argument stays in one part with it.

    Args:
        tasks: The network.
        count: Parts asked for; there may be fewer.
    """
    places = {task.value.index: place for place, task in enumerate(tasks)}
    whole = [0]
    for place, task in enumerate(tasks):
        if task.value.op is torch.ops.aten.relu_.default:
            first = places[task.value.refs()[0]]
            whole = [start for start in whole if not first < start <= place]
        whole.append(place + 1)
    total = [0, *accumulate(task.value.num_bytes for task in tasks)]
    goals = [total[-1] * k / count for k in range(1, count)]
    inner = {min(whole, key=lambda start: abs(total[start] - goal)) for goal in goals}
    ends = sorted({0, *inner, len(tasks)})
    return [tasks[start:stop] for start, stop in pairwise(ends)]


def count_bytes(tasks: Sequence[Task], count: int) -> SegmentBytes:
    """Count what segments keep.

    Args:
        tasks: The network.
        count: Segments asked for.
    """
    parts = cut_segments(tasks, count)
    home = {task.value.index: number for number, part in enumerate(parts) for task in part}
    read = {(ref, home[task.value.index]) for task in tasks for ref in task.value.refs()}
    handed = {ref for ref, number in read if home.get(ref, number) != number}
    sizes = [sum(task.value.num_bytes for task in part) for part in parts]
    ends = sum(task.value.num_bytes for task in tasks if task.value.index in handed)
    return SegmentBytes(sum(sizes), max(sizes), ends)


def repeatable(step: Step, token: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Compute a part that is computed again when its gradients are wanted.

    Every rank repeats it, at the same place among the exchanges of the way back, also one whose own
    rows had no part in it: the end of its chain of exchanges is kept as every other tensor is.

    Args:
        step: Takes token and tensors, and gives a token and tensors.
        token: Of the exchange before.
        tensors: What it reads or hands on.
    """

    def work(*given: Tensor) -> tuple[Tensor, ...]:
        token, *results = step(*given)
        return _Kept.apply(token), *results

    found: tuple[Tensor, ...] = checkpoint(
        work, token, *tensors, use_reentrant=False, preserve_rng_state=False
    )
    return found


class _Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, token: Tensor) -> Tensor:
        ctx.save_for_backward(token)
        return token.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (_,) = ctx.saved_tensors  # repeats the part, if nothing has done so yet
        return grads[0]
