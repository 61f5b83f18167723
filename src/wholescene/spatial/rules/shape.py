"""Operators that move pixels without computing: views, slices, pads, rolls, pixel shuffles."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wholescene.spatial.axis import AxisNeed, index_need, scaled_need
from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Atom, Axis, Dim, Layout, reshaped
from wholescene.spatial.rules.base import (
    Built,
    Input,
    Local,
    Rule,
    identities,
    image_axes,
    is_spatial,
)

__all__ = [
    "channel_shuffle",
    "cut",
    "expand",
    "flip",
    "laid_out",
    "lay_out",
    "pad",
    "permute",
    "pixel_shuffle",
    "pixel_unshuffle",
    "roll",
    "select",
    "view",
]


def view(value: Value, inputs: Sequence[Input]) -> Built:
    """Reshapes that keep rows and columns apart or cut them into tiles."""
    source = inputs[0].layout
    layout = reshaped(source, value.shape)
    if layout is None:
        return _reordered(value, source)
    needs: dict[Axis, AxisNeed] = {}
    for axis in Axis:
        before, after = source.grid(axis), layout.grid(axis)
        if before is not None and after is not None:
            needs[axis] = scaled_need(before, after)
        elif before is not None and before > 1:
            return None
    found = layout

    def run(local: Local) -> Tensor:
        x = local.tensors[0]
        whole = {axis: local.span(0, axis) for axis in needs}
        sizes, trims = {}, []
        for axis, (start, stop) in whole.items():
            low, high = _image_of(needs[axis], start, stop)
            sizes[axis] = high - low
            first, last = local.out[axis]
            if (low, high) != (first, last):
                trims.append((axis, first - low, last - first))
        shape = found.local_shape(sizes.get(Axis.ROW, 1), sizes.get(Axis.COL, 1))
        x = x.reshape(shape)
        for axis, start, length in trims:
            x = narrow(x, found, axis, sizes, start, length)
            sizes[axis] = length
        return x

    return Rule(layout, (needs,), run)


def _reordered(value: Value, source: Layout) -> Built:
    """Pixels read as channels and channels as pixels, as MAnet does: any may come from anywhere."""
    image = Layout.image(value.shape) if len(value.shape) == 4 else None
    if image is None or any(source.grid(axis) != image.grid(axis) for axis in Axis):
        return None

    def run(local: Local) -> Tensor:
        rows, cols = (slice(*local.out[axis]) for axis in Axis)
        return local.tensors[0].reshape(value.shape)[..., rows, cols]

    return Rule(image, (None,), run)


def lay_out(x: Tensor, layout: Layout) -> Tensor:
    """A constant, told where it has rows and columns of the scene."""
    return x


def laid_out(value: Value, inputs: Sequence[Input]) -> Built:
    """Regions of a constant."""
    layout: Layout = value.args[1]

    def run(local: Local) -> Tensor:
        x, sizes = local.tensors[0], {axis: layout.grid(axis) or 1 for axis in Axis}
        for axis, (start, stop) in local.out.items():
            if layout.grid(axis) is not None:
                x = narrow(x, layout, axis, sizes, start, stop - start)
                sizes[axis] = stop - start
        return x

    return Rule(layout, (None,), run)


def narrow(
    x: Tensor, layout: Layout, axis: Axis, sizes: dict[Axis, int], start: int, length: int
) -> Tensor:
    """Cut an interval of an axis out of a local tensor."""
    at = layout.atom_of(axis)
    assert at is not None
    shape = layout.atom_shape(sizes.get(Axis.ROW, 1), sizes.get(Axis.COL, 1))
    part = x.reshape(shape).narrow(at, start, length)
    sizes = {**sizes, axis: length}
    return part.reshape(layout.local_shape(sizes.get(Axis.ROW, 1), sizes.get(Axis.COL, 1)))


def _image_of(need: AxisNeed, start: int, stop: int) -> tuple[int, int]:
    """Outputs that whole inputs ``[start, stop)`` turn into."""
    return start * need.num_out // need.num_in, stop * need.num_out // need.num_in


def permute(value: Value, inputs: Sequence[Input]) -> Built:
    """Reorder the dimensions."""
    order = value.args[1]
    layout = inputs[0].layout
    return Rule(
        layout.permuted(order), (identities(layout),), lambda local: local.tensors[0].permute(order)
    )


def select(value: Value, inputs: Sequence[Input]) -> Built:
    """One entry of a plain dimension."""
    layout = inputs[0].layout
    dim, index = value.args[1] % len(layout.dims), value.args[2]
    if any(atom.axis is not None for atom in layout.dims[dim]):
        return None
    rest = Layout(tuple(d for i, d in enumerate(layout.dims) if i != dim))
    return Rule(rest, (identities(layout),), lambda local: local.tensors[0].select(dim, index))


def expand(value: Value, inputs: Sequence[Input]) -> Built:
    """Repeat along dimensions of size 1."""
    layout = inputs[0].layout
    lead = len(value.shape) - len(layout.dims)
    dims: list[Dim] = [(Atom(size),) for size in value.shape[:lead]]
    for dim, size in zip(layout.dims, value.shape[lead:], strict=True):
        dims.append(dim if prod(atom.size for atom in dim) == size else (Atom(size),))
    out = Layout(tuple(dims))
    if any(out.grid(axis) != layout.grid(axis) for axis in Axis):
        return None

    def run(local: Local) -> Tensor:
        sizes = [stop - start for start, stop in (local.out.get(axis, (0, 1)) for axis in Axis)]
        return local.tensors[0].expand(out.local_shape(*sizes))

    return Rule(out, (identities(layout),), run)


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


def pixel_shuffle(value: Value, inputs: Sequence[Input]) -> Built:
    """Channels into space."""
    return _shuffled(value, inputs, F.pixel_shuffle)


def pixel_unshuffle(value: Value, inputs: Sequence[Input]) -> Built:
    """Space into channels."""
    return _shuffled(value, inputs, F.pixel_unshuffle)


def channel_shuffle(value: Value, inputs: Sequence[Input]) -> Built:
    """Channels in another order."""
    layout, groups = inputs[0].layout, value.args[1]
    if is_spatial(layout.dims[1]):
        return None
    return Rule(
        layout, (identities(layout),), lambda local: F.channel_shuffle(local.tensors[0], groups)
    )


def _shuffled(value: Value, inputs: Sequence[Input], move: object) -> Built:
    layout, factor = inputs[0].layout, value.args[1]
    if image_axes(layout) != (Axis.ROW, Axis.COL):
        return None
    needs = {
        axis: scaled_need(inputs[0].shape[2 + i], value.shape[2 + i]) for i, axis in enumerate(Axis)
    }
    rows, cols = Atom(value.shape[2], Axis.ROW), Atom(value.shape[3], Axis.COL)

    def run(local: Local) -> Tensor:
        x: Tensor = move(local.tensors[0], factor)  # type: ignore[operator]
        for i, axis in enumerate(Axis):
            low, _ = _image_of(needs[axis], *local.span(0, axis))
            start, stop = local.out[axis]
            x = x.narrow(2 + i, start - low, stop - start)
        return x

    return Rule(Layout((layout.dims[0], (Atom(value.shape[1]),), (rows,), (cols,))), (needs,), run)


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
