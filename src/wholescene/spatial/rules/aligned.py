"""Operators of several tensors that are alike but for one dimension: joining, picking, writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from wholescene.spatial.axis import index_need
from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Atom, Axis, Dim, Layout
from wholescene.spatial.regions import Joining
from wholescene.spatial.rules.base import (
    Built,
    Input,
    Local,
    Needs,
    Rule,
    identities,
    image_axes,
    is_spatial,
    same_op,
    schema_arguments,
)
from wholescene.spatial.rules.channels import dims_of
from wholescene.spatial.rules.pointwise import leading

__all__ = ["aligned", "concatenate", "overwrite_slice"]


def concatenate(value: Value, inputs: Sequence[Input]) -> Built:
    """Concatenation along a plain dimension."""
    rule = aligned(value, inputs)
    same_kind = all(item.dtype == value.dtype for item in inputs)
    if rule is None or not same_kind or dims_of(value, len(value.shape)) != [1]:
        return rule
    is_image = image_axes(rule.layout) == (Axis.ROW, Axis.COL)
    return replace(rule, gather=Joining(rule.layout)) if is_image else rule


def aligned(value: Value, inputs: Sequence[Input]) -> Rule | None:
    """Any operator along one plain dimension of all its tensors, which some may lack."""
    (dim,) = dims_of(value, len(value.shape))
    lead = leading(inputs)
    if lead is None:
        return None
    others = [*lead.dims]
    if len(others) == len(value.shape) and is_spatial(others.pop(dim)):
        return None
    needs: list[Needs | None] = []
    adopted: dict[int, Layout] = {}
    for k, item in enumerate(inputs):
        layout = _with(others, dim, item.shape, len(value.shape))
        if layout.shape != item.shape:
            return None
        if item.is_complete and not item.layout.is_spatial:
            adopted |= {k: layout} if layout.is_spatial else {}
        elif not all(map(_is_same, item.layout.dims, layout.dims)):
            return None
        else:
            layout = item.layout
        needs.append(identities(layout) if layout.is_spatial else None)
    layout = _with(others, dim, value.shape, len(value.shape))
    return Rule(layout, tuple(needs), same_op(value), adopted)


def _with(others: Sequence[Dim], dim: int, shape: Sequence[int], rank: int) -> Layout:
    """All dimensions but one, and that one too if the tensor has as many as the result."""
    own = [(Atom(shape[dim]),)] if len(shape) == rank else []
    return Layout((*others[:dim], *own, *others[dim:]))


def _is_same(first: Dim, second: Dim) -> bool:
    """Whether two dimensions hold the same; a single row needs no mark."""
    return first == second or prod(a.size for a in first) == prod(a.size for a in second) == 1


def overwrite_slice(value: Value, inputs: Sequence[Input]) -> Built:
    """A tensor with a slice of it written over, along any one dimension (``slice_scatter``)."""
    (dim,) = dims_of(value, len(value.shape))
    target, source = (item.layout for item in inputs)
    axis = next((atom.axis for atom in target.dims[dim] if atom.axis is not None), None)
    if axis is None:
        return aligned(value, inputs)
    alike = [*target.dims]
    alike[dim] = (Atom(inputs[1].shape[dim], axis),)
    adopted = {}
    if inputs[1].is_complete and not source.is_spatial:
        source = adopted[1] = Layout(tuple(alike))
    if not target.is_alone(axis) or not all(map(_is_same, source.dims, alike)):
        return None
    whole = np.arange(value.shape[dim])
    named = schema_arguments(value)
    written = whole[named["start"] : named["end"] : named["step"]]
    place = np.full(len(whole), -1)
    place[written] = np.arange(len(written))
    needs = identities(target), {**identities(target), axis: index_need(place, len(written))}

    def run(local: Local) -> Tensor:
        x, part = local.tensors
        here = place[slice(*local.out[axis])]
        at = np.flatnonzero(here >= 0)
        chosen = torch.from_numpy(here[at] - local.span(1, axis)[0]).to(x.device)
        rows = part.index_select(dim, chosen).to(x.dtype)
        return x.index_copy(dim, torch.from_numpy(at).to(x.device), rows)

    return Rule(target, needs, run, adopted)
