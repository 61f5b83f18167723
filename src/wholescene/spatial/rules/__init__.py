"""One rule per operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wholescene.spatial.chance import scene_dropout
from wholescene.spatial.graph import Value
from wholescene.spatial.rules import attention, normalise, pointwise, reduce, resize, shape, window
from wholescene.spatial.rules.base import (
    Builder,
    Built,
    Expansion,
    Input,
    Local,
    Needs,
    Reduction,
    Rule,
    image_axes,
)

__all__ = [
    "Built",
    "Expansion",
    "Input",
    "Local",
    "Needs",
    "Reduction",
    "Rule",
    "build_rule",
    "family",
    "image_axes",
]

aten = torch.ops.aten


def _over_dims(value: Value, inputs: Sequence[Input]) -> Built:
    """Softmax: over channels it is local, over the scene it needs a sum first."""
    local = pointwise.along_plain_dims([value.args[1]])(value, inputs)
    return local or normalise.softmax_over_scene(value, inputs)


def _over_channels(value: Value, inputs: Sequence[Input]) -> Built:
    return pointwise.along_plain_dims([value.args[1]])(value, inputs)


def _layer_norm(value: Value, inputs: Sequence[Input]) -> Built:
    return pointwise.along_plain_dims(range(-len(value.args[1]), 0))(value, inputs)


def _reduced(builder: Builder) -> Builder:
    """Reductions over plain dimensions only are local."""

    def build(value: Value, inputs: Sequence[Input]) -> Built:
        dims = _dims_of(value)
        rank = len(inputs[0].shape)
        dims = [dim % rank for dim in (range(rank) if dims is None else dims)]
        if reduce.is_over_plain(inputs[0].layout, dims):
            return pointwise.reduced(value, inputs, dims)
        return builder(value, inputs)

    return build


def _dims_of(value: Value) -> Sequence[int] | None:
    at = 2 if value.op is aten.linalg_vector_norm.default else 1
    dims = value.args[at] if len(value.args) > at else value.kwargs.get("dim")
    return [dims] if isinstance(dims, int) else (dims or None)


RULES: dict[object, Builder] = {
    aten.conv2d.default: window.convolution,
    aten.conv2d.padding: window.convolution,
    window.convolve: window.convolution,
    aten.conv_transpose2d.input: window.transposed_convolution,
    aten.max_pool2d.default: window.max_pool,
    aten.max_pool2d_with_indices.default: window.max_pool,
    aten.avg_pool2d.default: window.average_pool,
    aten.upsample_nearest2d.vec: resize.resize("nearest"),
    aten.upsample_nearest2d.default: resize.resize("nearest"),
    aten._upsample_nearest_exact2d.vec: resize.resize("nearest-exact"),
    aten._upsample_nearest_exact2d.default: resize.resize("nearest-exact"),
    aten.upsample_bilinear2d.vec: resize.resize("bilinear"),
    aten.upsample_bilinear2d.default: resize.resize("bilinear"),
    aten.upsample_bicubic2d.vec: resize.resize("bicubic"),
    aten.upsample_bicubic2d.default: resize.resize("bicubic"),
    aten.batch_norm.default: pointwise.batch_norm,
    aten.layer_norm.default: _layer_norm,
    aten.rms_norm.default: _layer_norm,
    aten.group_norm.default: normalise.group_norm,
    aten.instance_norm.default: normalise.instance_norm,
    normalise.moments: normalise.moments_rule,
    normalise.apply_moments: normalise.apply_rule,
    normalise.log_sum_exp: normalise.log_sum_exp_rule,
    normalise.subtract_and_exp: pointwise.elementwise,
    aten.linear.default: pointwise.linear,
    aten.prelu.default: pointwise.prelu,
    scene_dropout: pointwise.elementwise,
    aten._prelu_kernel.default: pointwise.elementwise,
    aten.glu.default: pointwise.gated,
    aten.softmax.int: _over_dims,
    aten._softmax.default: _over_dims,
    aten.log_softmax.int: _over_channels,
    aten.cat.default: pointwise.concatenate,
    aten.stack.default: pointwise.stack,
    aten.reshape.default: shape.view,
    shape.lay_out: shape.laid_out,
    aten.permute.default: shape.permute,
    aten.select.int: shape.select,
    aten.slice.Tensor: shape.cut,
    aten.expand.default: shape.expand,
    aten.flip.default: shape.flip,
    aten.roll.default: shape.roll,
    aten.pad.default: shape.pad,
    aten.constant_pad_nd.default: shape.pad,
    aten.reflection_pad2d.default: shape.pad,
    aten.replication_pad2d.default: shape.pad,
    aten.channel_shuffle.default: shape.channel_shuffle,
    aten.pixel_shuffle.default: shape.pixel_shuffle,
    aten.pixel_unshuffle.default: shape.pixel_unshuffle,
    aten.adaptive_avg_pool2d.default: reduce.adaptive_average_pool,
    aten.adaptive_max_pool2d.default: reduce.adaptive_max_pool,
    aten.mean.dim: _reduced(reduce.mean),
    aten.sum.dim_IntList: _reduced(reduce.sum_over),
    aten.amax.default: _reduced(reduce.extremum(is_max=True)),
    aten.amin.default: _reduced(reduce.extremum(is_max=False)),
    aten.max.default: _reduced(reduce.extremum(is_max=True)),
    aten.min.default: _reduced(reduce.extremum(is_max=False)),
    aten.linalg_vector_norm.default: _reduced(reduce.vector_norm),
    aten.matmul.default: attention.matrix_product,
    aten.einsum.default: attention.einsum,
    aten.bmm.default: attention.matrix_product,
    aten.scaled_dot_product_attention.default: attention.attention,
    attention.attend_both: attention.attention_over_both,
    attention.attend_in_chunks: attention.attention_in_chunks,
}


def build_rule(value: Value, inputs: Sequence[Input]) -> Built:
    """Rule of an operator over these inputs; ``None`` if it has none and must run whole."""
    builder = RULES.get(value.op)
    if builder is None:
        builder = pointwise.elementwise if pointwise.is_elementwise(value.op) else None
    return builder(value, inputs) if builder is not None else None


def family(op: object) -> str:
    """Room of the rule of an operator; empty if it has none."""
    builder = RULES.get(op)
    if builder is not None:
        return "reduce" if builder.__module__ == __name__ else builder.__module__.split(".")[-1]
    return "pointwise" if pointwise.is_elementwise(op) else ""
