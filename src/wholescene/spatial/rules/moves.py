"""Operators that put entries elsewhere along a dimension: slices, pads, rolls, repeats, picks."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wholescene.spatial.axis import index_need
from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Atom, Axis, Layout
from wholescene.spatial.rules.base import Built, Input, Local, Rule, identities, schema_arguments

__all__ = ["cut", "flip", "pad", "pick", "picked", "repeat", "repeat_each", "roll"]


def cut(value: Value, inputs: Sequence[Input]) -> Built:
    """A slice with a step, along any one dimension."""
    layout = inputs[0].layout
    arguments = dict(zip(("dim", "start", "end", "step"), value.args[1:], strict=False))
    arguments |= value.kwargs
    dim = (arguments.get("dim") or 0) % len(layout.dims)
    step = arguments.get("step") or 1
    size = inputs[0].shape[dim]
    start = min(max(_from_end(arguments.get("start") or 0, size), 0), size)
    index = start + step * np.arange(value.shape[dim])
    return _moved(layout, dim, index, size)


def flip(value: Value, inputs: Sequence[Input]) -> Built:
    """Mirror along dimensions."""
    rank, shape = len(inputs[0].shape), inputs[0].shape
    maps = {dim % rank: np.arange(shape[dim])[::-1].copy() for dim in value.args[1]}
    return _moved_many(inputs[0].layout, maps, shape)


def roll(value: Value, inputs: Sequence[Input]) -> Built:
    """Shift along dimensions, what leaves on one side coming in on the other."""
    layout = inputs[0].layout
    shifts, dims = value.args[1], value.args[2] if len(value.args) > 2 else []
    if not dims:
        return None
    maps = {}
    for shift, dim in zip(shifts, dims, strict=True):
        size = inputs[0].shape[dim]
        maps[dim % len(layout.dims)] = (np.arange(size) - shift) % size
    return _moved_many(layout, maps, inputs[0].shape)


def pad(value: Value, inputs: Sequence[Input]) -> Built:
    """Constant, reflecting, replicating and circular padding."""
    layout = inputs[0].layout
    pads = list(value.args[1])
    arguments = dict(zip(("mode", "value"), value.args[2:], strict=False)) | value.kwargs
    mode = arguments.get("mode", _mode_of(str(value.op)))
    fill = arguments.get("value") or 0.0
    maps: dict[int, NDArray[np.int64]] = {}
    for i in range(len(pads) // 2):
        before, after = pads[2 * i], pads[2 * i + 1]
        if before or after:
            dim = len(layout.dims) - 1 - i
            maps[dim] = _padded(inputs[0].shape[dim], before, after, mode)
    return _moved_many(layout, maps, inputs[0].shape, fill=float(fill))


def repeat(value: Value, inputs: Sequence[Input]) -> Built:
    """The whole tensor several times in a row along dimensions (``Tensor.repeat``)."""
    shape = inputs[0].shape
    if len(value.shape) != len(shape):
        return None
    maps = {
        dim: np.arange(after) % before
        for dim, (before, after) in enumerate(zip(shape, value.shape, strict=True))
        if before != after
    }
    return _moved_many(inputs[0].layout, maps, shape)


def repeat_each(value: Value, inputs: Sequence[Input]) -> Built:
    """Every entry of a dimension several times (``repeat_interleave``)."""
    named = schema_arguments(value)
    if named["dim"] is None:
        return None
    dim, size = named["dim"] % len(value.shape), value.shape[named["dim"]]
    return _moved(inputs[0].layout, dim, np.arange(size) // named["repeats"], inputs[0].shape[dim])


def pick(x: Tensor, dim: int, index: Sequence[int]) -> Tensor:
    """Entries of a dimension, by numbers that are known beforehand."""
    return x.index_select(dim, torch.tensor(index, device=x.device))


def picked(value: Value, inputs: Sequence[Input]) -> Built:
    """Entries of a dimension in any order and number."""
    _, dim, index = value.args
    return _moved(inputs[0].layout, dim, np.array(index), inputs[0].shape[dim])


def _mode_of(name: str) -> str:
    modes = {"reflection": "reflect", "replication": "replicate", "circular": "circular"}
    return next((mode for word, mode in modes.items() if word in name), "constant")


def _padded(size: int, before: int, after: int, mode: str) -> NDArray[np.int64]:
    """Input of each padded position; -1 is the constant."""
    index = np.arange(-before, size + after)
    if mode == "constant":
        return np.where((index < 0) | (index >= size), -1, index)
    if mode == "replicate":
        return np.clip(index, 0, size - 1)
    if mode == "circular":
        return index % size
    index = np.abs(index)
    return np.where(index >= size, 2 * (size - 1) - index, index)


def _from_end(index: int, size: int) -> int:
    return index + size if index < 0 else index


def _moved(layout: Layout, dim: int, index: NDArray[np.int64], size: int) -> Built:
    shape = [prod(atom.size for atom in d) for d in layout.dims]
    shape[dim] = size
    return _moved_many(layout, {dim: index}, tuple(shape))


def _moved_many(
    layout: Layout, maps: dict[int, NDArray[np.int64]], shape: tuple[int, ...], *, fill: float = 0.0
) -> Built:
    """Output ``i`` along a dimension is input ``maps[dim][i]``, or ``fill`` where negative."""
    dims, needs = [*layout.dims], dict(identities(layout))
    spatial: dict[int, Axis] = {}
    for dim, index in maps.items():
        axis = next((atom.axis for atom in layout.dims[dim] if atom.axis is not None), None)
        if axis is None:
            dims[dim] = (Atom(len(index)),)
        elif layout.is_alone(axis):
            dims[dim] = (Atom(len(index), axis),)
            needs[axis] = index_need(index, shape[dim])
            spatial[dim] = axis
        else:
            return None

    def run(local: Local) -> Tensor:
        x = local.tensors[0]
        for dim, index in maps.items():
            axis = spatial.get(dim)
            if axis is None:
                x = _taken(x, dim, index, fill)
                continue
            start, stop = local.out[axis]
            part = index[start:stop]
            origin = local.span(0, axis)[0]
            x = _taken(x, dim, np.where(part < 0, -1, part - origin), fill)
        return x

    return Rule(Layout(tuple(dims)), (needs,), run)


def _taken(x: Tensor, dim: int, index: NDArray[np.int64], fill: float) -> Tensor:
    """Pick along a dimension; a run of neighbours is a view."""
    inside = np.flatnonzero(index >= 0)
    if not len(inside):
        shape = list(x.shape)
        shape[dim] = len(index)
        return x.new_full(shape, fill)
    kept = index[inside]
    step = int(kept[1] - kept[0]) if len(kept) > 1 else 1
    if step >= 1 and (np.diff(kept) == step).all():
        stop = int(kept[-1]) + 1
        part = x[(slice(None),) * dim + (slice(int(kept[0]), stop, step),)]
    else:
        part = x.index_select(dim, torch.from_numpy(kept).to(x.device))
    before, after = int(inside[0]), len(index) - int(inside[-1]) - 1
    if not before and not after:
        return part
    pads = [0, 0] * (x.dim() - 1 - dim) + [before, after]
    return F.pad(part, pads, value=fill)
