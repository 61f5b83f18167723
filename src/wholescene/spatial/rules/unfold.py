"""Windows as they are, side by side in another dimension."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from wholescene.spatial.axis import window_need
from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Atom, Axis, Layout
from wholescene.spatial.rules.base import (
    Built,
    Input,
    Local,
    Rule,
    identities,
    is_spatial,
    same_op,
    schema_arguments,
)
from wholescene.spatial.rules.window import Spread, Windows

__all__ = ["fold", "patches", "unfold"]


def patches(value: Value, inputs: Sequence[Input]) -> Built:
    """Windows as channels, all places in one dimension (im2col)."""
    named = schema_arguments(value)
    kernel, dilation, padding, stride = (
        named[name] for name in ("kernel_size", "dilation", "padding", "stride")
    )
    if len(inputs[0].shape) != 4:
        return None
    pads = [(pad, pad) for pad in padding]
    places = [
        (size + 2 * pad - dilated * (taps - 1) - 1) // step + 1
        for size, pad, dilated, taps, step in zip(
            inputs[0].shape[2:], padding, dilation, kernel, stride, strict=True
        )
    ]
    rule = Windows.of(inputs[0], places, kernel, stride, pads, dilation)
    if rule is None:
        return None

    def run(local: Local) -> Tensor:
        x = rule.bordered(local.tensors[0], 0.0)
        return F.unfold(x, kernel, dilation, 0, stride)

    batch, channels = inputs[0].layout.dims[0], (Atom(value.shape[1]),)
    where = tuple(Atom(size, axis) for size, axis in zip(places, rule.axes, strict=True))
    return Rule(Layout((batch, channels, where)), (rule.needs,), run, border={0: 0.0})


def fold(value: Value, inputs: Sequence[Input]) -> Built:
    """Windows that are laid down where they belong and summed where they overlap (col2im)."""
    named = schema_arguments(value)
    kernel, dilation, padding, stride = (
        named[name] for name in ("kernel_size", "dilation", "padding", "stride")
    )
    where = inputs[0].layout.dims[-1]
    if len(value.shape) != 4 or any(map(is_spatial, inputs[0].layout.dims[:2])):
        return None
    places = [atom.size for atom in where]
    axes = [atom.axis for atom in where]
    if axes != [Axis.ROW, Axis.COL]:
        return None
    spread = Spread(axes, (places, value.shape[2:]), kernel, stride, dilation, padding)

    def run(local: Local) -> Tensor:
        counts = [stop - start for start, stop in (local.span(0, axis) for axis in Axis)]
        sizes = [
            (count - 1) * step + dilated * (taps - 1) + 1
            for count, step, dilated, taps in zip(counts, stride, dilation, kernel, strict=True)
        ]
        full = F.fold(local.tensors[0], tuple(sizes), kernel, dilation, 0, stride)
        return spread.cut(full, local)

    layout = Layout((inputs[0].layout.dims[0], *Layout.image(value.shape).dims[1:]))
    return Rule(layout, (spread.needs,), run)


def unfold(value: Value, inputs: Sequence[Input]) -> Built:
    """Windows along one dimension as a new last dimension (``Tensor.unfold``)."""
    layout = inputs[0].layout
    dim, size, step = value.args[1] % len(layout.dims), *value.args[2:]
    axis = next((atom.axis for atom in layout.dims[dim] if atom.axis is not None), None)
    if axis is not None and not layout.is_alone(axis):
        return None
    dims, needs = [*layout.dims, (Atom(size),)], identities(layout)
    dims[dim] = (Atom(value.shape[dim], axis),)
    if axis is not None:
        counts = inputs[0].shape[dim], value.shape[dim]
        needs[axis] = window_need(*counts, kernel=size, stride=step)
    return Rule(Layout(tuple(dims)), (needs,), same_op(value))
