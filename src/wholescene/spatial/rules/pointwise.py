"""Operators that treat every pixel alike: element-wise, stored norms, linear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Atom, Axis, Layout, adopt
from wholescene.spatial.rules.base import (
    Built,
    Input,
    Local,
    Rule,
    identities,
    is_spatial,
    same_op,
)

__all__ = [
    "NORM_ARGUMENTS",
    "batch_norm",
    "elementwise",
    "embedded",
    "first_only",
    "is_elementwise",
    "leading",
    "linear",
    "looked_up",
    "prelu",
]

NORM_ARGUMENTS = ("input", "weight", "bias", "mean", "var", "training", "momentum", "eps")
"""Of batch norm."""


def elementwise(value: Value, inputs: Sequence[Input]) -> Built:
    """Any operator that computes each element from the elements at the same place."""
    lead = leading(inputs)
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


def batch_norm(value: Value, inputs: Sequence[Input]) -> Built:
    """Batch norm with stored statistics."""
    if is_spatial(inputs[0].layout.dims[1]):
        return None
    return first_only(value, inputs, inputs[0].layout)


def linear(value: Value, inputs: Sequence[Input]) -> Built:
    """A linear map of the last dimension, or what else takes it to another size."""
    layout = inputs[0].layout
    if is_spatial(layout.dims[-1]):
        return None
    out = Layout((*layout.dims[:-1], (Atom(value.shape[-1]),)))
    return first_only(value, inputs, out)


def looked_up(value: Value, inputs: Sequence[Input]) -> Built:
    """Each element's place among boundaries."""
    built = first_only(value, inputs, inputs[0].layout)
    if built is None:
        return None

    def run(local: Local) -> Tensor:
        side_by_side = [tensor.contiguous() for tensor in local.tensors]  # torch warns otherwise
        return built.run(replace(local, tensors=side_by_side))

    return replace(built, run=run)


def embedded(value: Value, inputs: Sequence[Input]) -> Built:
    """A row of a table for each element."""
    table, numbers = inputs
    if table.layout.is_spatial:
        return None
    layout = Layout((*numbers.layout.dims, (Atom(value.shape[-1]),)))
    return Rule(layout, (None, identities(numbers.layout)), same_op(value))


def first_only(value: Value, inputs: Sequence[Input], layout: Layout) -> Rule | None:
    """The first argument is cut, the others are weights."""
    if any(item.layout.is_spatial for item in inputs[1:]):
        return None
    needs = (identities(inputs[0].layout), *(None for _ in inputs[1:]))
    return Rule(layout, needs, same_op(value))


def leading(inputs: Sequence[Input]) -> Layout | None:
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


def prelu(value: Value, inputs: Sequence[Input]) -> Built:
    """A slope per channel below zero."""
    if len(inputs[0].layout.dims) > 1 and is_spatial(inputs[0].layout.dims[1]):
        return None
    return first_only(value, inputs, inputs[0].layout)


_UNTAGGED = {
    "celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
    "log_sigmoid", "logit", "mish", "relu", "relu6", "selu", "silu", "softplus", "softshrink",
    "tanhshrink", "threshold", "where", "clamp", "clip", "square", "to", "_to_copy", "nan_to_num",
    "complex", "copy", "polar",
}  # fmt: skip
"""Element by element, though torch does not tag all of them so."""


def is_elementwise(op: object) -> bool:
    """Whether the operator works element by element."""
    name = str(op).removeprefix("aten.").split(".")[0]
    return name in _UNTAGGED or torch.Tag.pointwise in getattr(op, "tags", ())
