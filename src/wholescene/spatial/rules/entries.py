"""Operators that treat the images of a batch one by one, where the batch is made of the scene."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Layout
from wholescene.spatial.rules.base import Built, Input, Rule, identities, is_spatial, same_op
from wholescene.spatial.rules.window import convolve

__all__ = ["ONE_BY_ONE", "one_by_one"]

aten = torch.ops.aten

ONE_BY_ONE = frozenset(
    (
        aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default,
        aten.adaptive_max_pool2d.default, aten.avg_pool1d.default, aten.avg_pool2d.default,
        aten.conv1d.default, aten.conv1d.padding, aten.conv2d.default, aten.conv2d.padding,
        aten.conv3d.default, aten.conv3d.padding, aten.conv_transpose1d.default,
        aten.conv_transpose2d.input, aten.group_norm.default, aten.max_pool1d.default,
        aten.max_pool2d.default, aten.max_pool2d_with_indices.default,
        aten.upsample_bilinear2d.vec, aten.upsample_linear1d.vec, aten.upsample_nearest1d.vec,
        aten.upsample_nearest2d.vec, convolve,
    )
)  # fmt: skip
"""Those that spectra of pixels and tiles of an image are put through as batches."""


def one_by_one(value: Value, inputs: Sequence[Input]) -> Built:
    """Rows and columns only count the batch; results go with it."""
    batch, *rest = inputs[0].layout.dims
    if any(map(is_spatial, rest)) or value.shape[0] != inputs[0].shape[0]:
        return None
    layout = Layout((batch, *Layout.plain(value.shape).dims[1:]))
    cut = [item.layout for item in inputs if item.layout.is_spatial]
    if any(found.dims[0] != batch or any(map(is_spatial, found.dims[1:])) for found in cut):
        return None
    needs = [identities(i.layout) if i.layout.is_spatial else None for i in inputs]
    return Rule(layout, tuple(needs), same_op(value))
