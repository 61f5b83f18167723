"""One rule per operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wholescene.spatial.chance import scene_dropout
from wholescene.spatial.graph import Value
from wholescene.spatial.precise import moments
from wholescene.spatial.rules import (
    aligned,
    attention,
    channels,
    entries,
    moves,
    normalise,
    pointwise,
    reduce,
    resize,
    shape,
    unfold,
    window,
)
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


def _softmax(value: Value, inputs: Sequence[Input]) -> Built:
    """Over channels it is local, over the scene it needs a sum first."""
    local = channels.along_dims(value, inputs)
    return local or normalise.softmax_over_scene(value, inputs)


def _reduced(builder: Builder) -> Builder:
    """Reductions over plain dimensions only are local."""

    def build(value: Value, inputs: Sequence[Input]) -> Built:
        return channels.along_dims(value, inputs) or builder(value, inputs)

    return build


RULES: dict[object, Builder] = {
    aten.conv2d.default: window.convolution,
    aten.conv2d.padding: window.convolution,
    aten.conv3d.default: window.convolution,
    aten.conv3d.padding: window.convolution,
    window.convolve: window.convolution,
    aten.conv_transpose2d.input: window.transposed_convolution,
    aten.max_pool2d.default: window.max_pool,
    aten.max_pool2d_with_indices.default: window.max_pool,
    aten.max_pool3d.default: window.max_pool,
    aten.avg_pool2d.default: window.average_pool,
    aten.avg_pool3d.default: window.average_pool,
    aten.unfold.default: unfold.unfold,
    aten.im2col.default: unfold.patches,
    aten.col2im.default: unfold.fold,
    aten.upsample_nearest2d.vec: resize.resize("nearest"),
    aten.upsample_nearest2d.default: resize.resize("nearest"),
    aten._upsample_nearest_exact2d.vec: resize.resize("nearest-exact"),
    aten._upsample_nearest_exact2d.default: resize.resize("nearest-exact"),
    aten.upsample_bilinear2d.vec: resize.resize("bilinear"),
    aten.upsample_bilinear2d.default: resize.resize("bilinear"),
    aten.upsample_bicubic2d.vec: resize.resize("bicubic"),
    aten.upsample_bicubic2d.default: resize.resize("bicubic"),
    aten.batch_norm.default: pointwise.batch_norm,
    aten.group_norm.default: normalise.group_norm,
    aten.instance_norm.default: normalise.instance_norm,
    moments: normalise.moments_rule,
    normalise.apply_moments: normalise.apply_rule,
    normalise.log_sum_exp: normalise.log_sum_exp_rule,
    normalise.subtract_and_exp: pointwise.elementwise,
    aten.linear.default: pointwise.linear,
    aten.prelu.default: pointwise.prelu,
    scene_dropout: pointwise.elementwise,
    aten._prelu_kernel.default: pointwise.elementwise,
    **dict.fromkeys(channels.ALONG_DIMS, channels.along_dims),
    aten.softmax.int: _softmax,
    aten._softmax.default: _softmax,
    aten._cdist_forward.default: pointwise.linear,
    aten._euclidean_dist.default: pointwise.linear,
    aten.embedding.default: pointwise.embedded,
    aten.bucketize.Tensor: pointwise.looked_up,
    aten.cat.default: aligned.concatenate,
    aten.gather.default: aligned.aligned,
    aten.scatter.src: aligned.aligned,
    aten.scatter.value: aligned.aligned,
    aten.select_scatter.default: aligned.aligned,
    aten.slice_scatter.default: aligned.overwrite_slice,
    aten.stack.default: aligned.aligned,
    aten.reshape.default: shape.view,
    shape.lay_out: shape.laid_out,
    aten.permute.default: shape.permute,
    aten.select.int: shape.select,
    aten.expand.default: shape.expand,
    aten.slice.Tensor: moves.cut,
    aten.flip.default: moves.flip,
    aten.roll.default: moves.roll,
    aten.pad.default: moves.pad,
    aten.constant_pad_nd.default: moves.pad,
    aten.reflection_pad2d.default: moves.pad,
    aten.replication_pad2d.default: moves.pad,
    aten.repeat.default: moves.repeat,
    aten.repeat_interleave.self_int: moves.repeat_each,
    moves.pick: moves.picked,
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
    aten.max.dim: _reduced(reduce.extremum(is_max=True)),
    aten.min.default: _reduced(reduce.extremum(is_max=False)),
    aten.min.dim: _reduced(reduce.extremum(is_max=False)),
    aten.linalg_vector_norm.default: _reduced(reduce.vector_norm),
    **dict.fromkeys(normalise.SPREADS, _reduced(normalise.spread)),
    aten.matmul.default: attention.matrix_product,
    aten.mm.default: attention.matrix_product,
    aten.einsum.default: attention.einsum,
    aten.bmm.default: attention.matrix_product,
    aten.addmm.default: attention.added_product,
    aten.baddbmm.default: attention.added_product,
    attention.scaled_sum: pointwise.elementwise,
    aten.scaled_dot_product_attention.default: attention.attention,
    attention.attend_both: attention.attention_over_both,
    attention.attend_in_chunks: attention.attention_in_chunks,
}


def build_rule(value: Value, inputs: Sequence[Input]) -> Built:
    """Rule of an operator over these inputs; ``None`` if it has none and must run whole."""
    builder = RULES.get(value.op)
    if builder is None:
        builder = pointwise.elementwise if pointwise.is_elementwise(value.op) else None
    built = builder(value, inputs) if builder is not None else None
    if built is None and value.op in entries.ONE_BY_ONE:
        return entries.one_by_one(value, inputs)
    return built


def family(op: object) -> str:
    """Room of the rule of an operator; empty if it has none."""
    builder = RULES.get(op)
    if builder is not None:
        return "reduce" if builder.__module__ == __name__ else builder.__module__.split(".")[-1]
    if pointwise.is_elementwise(op):
        return "pointwise"
    return "entries" if op in entries.ONE_BY_ONE else ""
