"""Operators that take a tensor for one of another shape: views, permutations, pixel shuffles."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor

from wholescene.spatial.axis import AxisNeed, scaled_need
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
    "expand",
    "laid_out",
    "lay_out",
    "permute",
    "pixel_shuffle",
    "pixel_unshuffle",
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
