"""Operators that treat every pixel alike: element-wise, concatenation, channel norms, linear."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Atom, Axis, Dim, Layout, adopt
from wholescene.spatial.regions import Joining
from wholescene.spatial.rules.base import (
    Builder,
    Built,
    Input,
    Rule,
    arguments_of,
    identities,
    image_axes,
    is_spatial,
    same_op,
)

__all__ = [
    "NORM_ARGUMENTS",
    "along_plain_dims",
    "batch_norm",
    "concatenate",
    "elementwise",
    "gated",
    "is_elementwise",
    "linear",
    "prelu",
    "reduced",
    "stack",
]

NORM_ARGUMENTS = ("input", "weight", "bias", "mean", "var", "training", "momentum", "eps")
"""Of batch norm."""


def elementwise(value: Value, inputs: Sequence[Input]) -> Built:
    """Any operator that computes each element from the elements at the same place."""
    lead = _lead(inputs)
    if lead is None:
        return None
    adopted = {
        k: adopt(item.shape, lead)
        for k, item in enumerate(inputs)
        if item.is_complete and not item.layout.is_spatial
    }
    layouts = [adopted.get(k, item.layout) for k, item in enumerate(inputs)]
    layout = _broadcast(layouts, value.shape)
    if layout is None:
        return None
    needs = tuple(identities(found) if found.is_spatial else None for found in layouts)
    adopted = {k: found for k, found in adopted.items() if found.is_spatial}
    return Rule(layout, needs, same_op(value), adopted)


def along_plain_dims(dims: Sequence[int]) -> Builder:
    """Operators over some dimensions (softmax, layer norm), local unless those are spatial."""

    def build(value: Value, inputs: Sequence[Input]) -> Built:
        layout = inputs[0].layout
        touched = [layout.dims[dim] for dim in dims]
        if any(is_spatial(dim) for dim in touched):
            return None
        return _first_only(value, inputs, layout)

    return build


def reduced(value: Value, inputs: Sequence[Input], dims: Sequence[int]) -> Built:
    """Reduce plain dimensions of every pixel."""
    layout, rank = inputs[0].layout, len(value.shape)
    keeps = rank == len(layout.dims)
    kept = [
        (Atom(1),) if i in dims else dim
        for i, dim in enumerate(layout.dims)
        if keeps or i not in dims
    ]
    return _first_only(value, inputs, Layout(tuple(kept)))


def batch_norm(value: Value, inputs: Sequence[Input]) -> Built:
    """Batch norm with stored statistics."""
    if is_spatial(inputs[0].layout.dims[1]):
        return None
    return _first_only(value, inputs, inputs[0].layout)


def linear(value: Value, inputs: Sequence[Input]) -> Built:
    """A linear map of the last dimension."""
    layout = inputs[0].layout
    if is_spatial(layout.dims[-1]):
        return None
    out = Layout((*layout.dims[:-1], (Atom(value.shape[-1]),)))
    return _first_only(value, inputs, out)


def concatenate(value: Value, inputs: Sequence[Input]) -> Built:
    """Concatenation along a plain dimension."""
    dim = (value.args[1] if len(value.args) > 1 else value.kwargs.get("dim", 0)) % len(value.shape)
    lead = _lead(inputs)
    if lead is None or is_spatial(lead.dims[dim]):
        return None
    adopted: dict[int, Layout] = {}
    layouts: list[Layout] = []
    for k, item in enumerate(inputs):
        layout = item.layout
        if item.is_complete and not layout.is_spatial:
            layout = adopted[k] = adopt(item.shape, lead)
        layouts.append(layout)
        pairs = zip(layout.dims, lead.dims, strict=True)
        if not all(i == dim or _is_same(a, b) for i, (a, b) in enumerate(pairs)):
            return None
    dims = [*lead.dims]
    dims[dim] = (Atom(value.shape[dim]),)
    needs = tuple(identities(found) if found.is_spatial else None for found in layouts)
    adopted = {k: found for k, found in adopted.items() if found.is_spatial}
    layout = Layout(tuple(dims))
    same_kind = all(item.dtype == value.dtype for item in inputs)
    is_image = dim == 1 and image_axes(layout) == (Axis.ROW, Axis.COL)
    gather = Joining(layout) if is_image and same_kind else None
    return Rule(layout, needs, same_op(value), adopted, gather=gather)


def _is_same(first: Dim, second: Dim) -> bool:
    """Whether two dimensions hold the same; a single row needs no mark."""
    return first == second or prod(a.size for a in first) == prod(a.size for a in second) == 1


def stack(value: Value, inputs: Sequence[Input]) -> Built:
    """Stacking along a new dimension."""
    dim = (value.args[1] if len(value.args) > 1 else value.kwargs.get("dim", 0)) % len(value.shape)
    layout = inputs[0].layout
    if any(item.layout != layout for item in inputs):
        return None
    dims = [*layout.dims]
    dims.insert(dim, (Atom(len(inputs)),))
    return Rule(Layout(tuple(dims)), tuple(identities(layout) for _ in inputs), same_op(value))


def _first_only(value: Value, inputs: Sequence[Input], layout: Layout) -> Built:
    """The first argument is cut, the others are weights."""
    if any(item.layout.is_spatial for item in inputs[1:]):
        return None
    needs = (identities(inputs[0].layout), *(None for _ in inputs[1:]))
    return Rule(layout, needs, same_op(value))


def _lead(inputs: Sequence[Input]) -> Layout | None:
    """Layout of the spatial argument with the most dimensions."""
    spatial = [item.layout for item in inputs if item.layout.is_spatial]
    return max(spatial, key=lambda layout: (len(layout.dims), prod(layout.shape)), default=None)


def _broadcast(layouts: Sequence[Layout], shape: tuple[int, ...]) -> Layout | None:
    dims: list[tuple[Atom, ...]] = []
    for position in range(-len(shape), 0):
        present = [found.dims[position] for found in layouts if len(found.dims) >= -position]
        wide = [dim for dim in present if prod(atom.size for atom in dim) == shape[position]]
        spatial = {dim for dim in wide if any(atom.axis is not None for atom in dim)}
        narrow_spatial = any(
            atom.axis is not None for dim in present if dim not in wide for atom in dim
        )
        plain_wide = shape[position] != 1 and any(
            all(atom.axis is None for atom in dim) for dim in wide
        )
        if len(spatial) > 1 or narrow_spatial or (spatial and plain_wide):
            return None
        dims.append(next(iter(spatial)) if spatial else (Atom(shape[position]),))
    layout = Layout(tuple(dims))
    ours = {axis: layout.grid(axis) for axis in Axis}
    torn = any(found.grid(axis) not in (None, ours[axis]) for found in layouts for axis in Axis)
    return None if torn else layout


def gated(value: Value, inputs: Sequence[Input]) -> Built:
    """Half of the channels times the sigmoid of the other half (GLU)."""
    layout = inputs[0].layout
    dim = arguments_of(value, ("input", "dim")).get("dim", -1) % len(layout.dims)
    if is_spatial(layout.dims[dim]):
        return None
    dims = [*layout.dims]
    dims[dim] = (Atom(value.shape[dim]),)
    return _first_only(value, inputs, Layout(tuple(dims)))


def prelu(value: Value, inputs: Sequence[Input]) -> Built:
    """A slope per channel below zero."""
    if len(inputs[0].layout.dims) > 1 and is_spatial(inputs[0].layout.dims[1]):
        return None
    return _first_only(value, inputs, inputs[0].layout)


_UNTAGGED = {
    "celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
    "log_sigmoid", "logit", "mish", "relu", "relu6", "selu", "silu", "softplus", "softshrink",
    "tanhshrink", "threshold", "where", "clamp", "clip", "square", "to", "_to_copy", "nan_to_num",
}  # fmt: skip
"""Element by element, though torch does not tag all of them so."""


def is_elementwise(op: object) -> bool:
    """Whether the operator works element by element."""
    name = str(op).removeprefix("aten.").split(".")[0]
    return name in _UNTAGGED or torch.Tag.pointwise in getattr(op, "tags", ())
