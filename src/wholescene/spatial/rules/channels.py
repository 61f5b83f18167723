"""Operators of one tensor along dimensions: local where no rows or columns are in these."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Atom, Layout
from wholescene.spatial.rules.base import Built, Input, is_spatial, schema_arguments
from wholescene.spatial.rules.pointwise import first_only

__all__ = ["ALONG_DIMS", "along_dims", "dims_of"]

aten = torch.ops.aten

ALONG_DIMS = (
    aten.all.dim, aten.all.dims, aten.aminmax.default, aten.any.dim, aten.any.dims,
    aten.argmax.default, aten.argmin.default, aten.cummax.default, aten.cummin.default,
    aten.cumprod.default, aten.cumsum.default, aten.glu.default, aten.kthvalue.default,
    aten.layer_norm.default, aten.log_softmax.int, aten._log_softmax.default,
    aten.logcumsumexp.default, aten.logsumexp.default, aten.median.dim, aten.mode.default,
    aten.nanmedian.dim, aten.nansum.default, aten.norm.ScalarOpt_dim, aten.prod.dim_int,
    aten.rms_norm.default, aten.sort.default, aten.sort.stable, aten.topk.default,
)  # fmt: skip
"""Operators that run whole where they work along rows or columns."""


def along_dims(value: Value, inputs: Sequence[Input]) -> Built:
    """An operator along dimensions that keep their size, change it or vanish."""
    layout = inputs[0].layout
    dims = dims_of(value, len(layout.dims))
    if any(is_spatial(layout.dims[dim]) for dim in dims):
        return None
    if len(value.shape) < len(layout.dims):
        kept = [dim for i, dim in enumerate(layout.dims) if i not in dims]
    else:
        sizes = zip(layout.dims, layout.shape, value.shape, strict=True)
        kept = [dim if before == after else (Atom(after),) for dim, before, after in sizes]
    return first_only(value, inputs, Layout(tuple(kept)))


def dims_of(value: Value, rank: int) -> list[int]:
    """Dimensions that an operator works along, counted from 0; all of them if it names none."""
    named = schema_arguments(value)
    if "normalized_shape" in named:
        return [*range(rank - len(named["normalized_shape"]), rank)]
    dims = named.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    return [dim % rank for dim in (dims or range(rank))]
