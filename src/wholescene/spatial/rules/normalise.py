"""Normalisation by statistics of the whole scene, as a sum over it and a pointwise operator."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from wholescene.spatial.graph import Ref, Value
from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.precise import moments, scaled
from wholescene.spatial.rules.base import (
    Built,
    Expansion,
    Input,
    Local,
    Operation,
    Reduction,
    Rule,
    arguments_of,
    identities,
    is_spatial,
    same_op,
    schema_arguments,
)
from wholescene.spatial.rules.channels import dims_of
from wholescene.spatial.rules.reduce import Totals

__all__ = [
    "SPREADS",
    "apply_moments",
    "apply_rule",
    "group_norm",
    "instance_norm",
    "log_sum_exp",
    "log_sum_exp_rule",
    "moments_rule",
    "one_moment",
    "softmax_over_scene",
    "spread",
    "subtract_and_exp",
]

aten = torch.ops.aten


def group_norm(value: Value, inputs: Sequence[Input]) -> Built:
    """Statistics of each group over the scene, then a scale and shift."""
    named = arguments_of(value, ("input", "num_groups", "weight", "bias", "eps"))
    return _normalised(
        value, inputs, named["num_groups"], named.get("weight"), named.get("bias"), named["eps"]
    )


def instance_norm(value: Value, inputs: Sequence[Input]) -> Built:
    """Statistics of each channel over the scene; with stored statistics it is a batch norm."""
    names = ("input", "weight", "bias", "mean", "var", "use_input_stats", "momentum", "eps")
    named = arguments_of(value, names)
    x, weight, bias, eps = (named[key] for key in ("input", "weight", "bias", "eps"))
    if named["use_input_stats"]:
        return _normalised(value, inputs, value.shape[1], weight, bias, eps)
    args = (x, weight, bias, named["mean"], named["var"], False, 0.0, eps, False)
    batch_norm = aten.batch_norm.default
    return Expansion((Operation(batch_norm, args, value.shape, value.dtype),))


def _normalised(
    value: Value, inputs: Sequence[Input], groups: int, weight: object, bias: object, eps: float
) -> Built:
    layout = inputs[0].layout
    if any(is_spatial(dim) for dim in layout.dims[:2]):
        return None
    x = value.args[0]
    shape = (2, value.shape[0], groups)
    return Expansion(
        (
            Operation(moments, (x, groups), shape, torch.float64),
            Operation(apply_moments, (x, Ref(-1), weight, bias, eps), value.shape, value.dtype),
        )
    )


SPREADS = (
    aten.std.correction,
    aten.std_mean.correction,
    aten.var.correction,
    aten.var_mean.correction,
)
"""Operators that :func:`spread` is for."""


def spread(value: Value, inputs: Sequence[Input]) -> Built:
    """Variance or standard deviation over the scene, of each channel or of all together."""
    named, layout = schema_arguments(value), inputs[0].layout
    batch, *shape = inputs[0].shape
    folded = {*dims_of(value, len(layout.dims))} - ({0} if batch == 1 else set())
    if any(map(is_spatial, layout.dims[:2])) or folded | {1} != {*range(1, len(layout.dims))}:
        return None
    groups = 1 if 1 in folded else shape[0]
    count = prod(shape) // groups
    left = count - (1 if named["correction"] is None else named["correction"])
    if left <= 0:
        return None
    kind = "mean" if value.part == 1 else value.name.split("_")[0]
    found = (Ref(-1), kind, count / left, value.shape, value.dtype)
    return Expansion(
        (
            Operation(moments, (value.args[0], groups), (2, batch, groups), torch.float64),
            Operation(one_moment, found, value.shape, value.dtype),
        )
    )


def one_moment(
    found: Tensor, kind: str, factor: float, shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """The mean, or the variance times a factor or its root, out of ``moments``."""
    part = found[0] if kind == "mean" else found[1] * factor
    return (part.sqrt() if kind == "std" else part).reshape(tuple(shape)).to(dtype)


def apply_moments(
    x: Tensor, found: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalise by mean and variance, then scale and shift each channel."""
    mean, variance = found.repeat_interleave(x.shape[1] // found.shape[2], 2).unbind()
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.double()
    shift = torch.zeros_like(scale) if bias is None else bias.double().expand_as(scale)
    return scaled(x, mean, scale, shift)


class _Moments(Reduction):
    """Mean and variance over regions, merged as Chan does, without cancellation."""

    def __init__(self, value: Value, domain: Layout) -> None:
        self.value, self.domain, self.groups = value, domain, value.args[1]
        self.layout, self.needs = Layout.plain(value.shape), (identities(domain),)

    def add(self, local: Local) -> None:
        x = local.tensors[0]
        self.absorb(moments(x, self.groups), x[0].numel() // self.groups)

    def joined(self, total: Tensor, part: Tensor, count: int) -> Tensor:
        share = count / (self.count + count)
        delta = part[0] - total[0]
        mean = total[0] + delta * share
        spread = total[1] * (1 - share) + part[1] * share + delta**2 * share * (1 - share)
        return torch.stack([mean, spread])

    def finish(self) -> Tensor:
        assert self.total is not None
        return self.total


def moments_rule(value: Value, inputs: Sequence[Input]) -> Built:
    """Mean and variance of groups of channels over the scene."""
    return _Moments(value, inputs[0].layout)


def apply_rule(value: Value, inputs: Sequence[Input]) -> Built:
    """The pointwise half of a normalisation."""
    layout = inputs[0].layout
    return Rule(layout, (identities(layout), *(None for _ in inputs[1:])), same_op(value))


def softmax_over_scene(value: Value, inputs: Sequence[Input]) -> Built:
    """Softmax over rows and columns: the logarithm of the sum first, then pointwise."""
    layout = inputs[0].layout
    dim = value.args[1] % len(layout.dims)
    within = {atom.axis for atom in layout.dims[dim] if atom.axis is not None}
    outside = {axis for axis in Axis if layout.grid(axis) is not None} - within
    if not within or any(not layout.is_alone(axis) for axis in outside):
        return None
    shape = list(value.shape)
    shape[dim] = 1
    x = value.args[0]
    return Expansion(
        (
            Operation(log_sum_exp, (x, dim), tuple(shape), torch.float64),
            Operation(subtract_and_exp, (x, Ref(-1)), value.shape, value.dtype),
        )
    )


def log_sum_exp(x: Tensor, dim: int) -> Tensor:
    """Logarithm of the sum of exponentials along a dimension, in double precision."""
    return torch.logsumexp(x.double(), dim, keepdim=True)


def subtract_and_exp(x: Tensor, total: Tensor) -> Tensor:
    """Softmax, given the logarithm of its sum."""
    return torch.exp(x.double() - total).to(x.dtype)


class _LogSums(Totals):
    initial = float("-inf")

    def part(self, tensor: Tensor) -> Tensor:
        return log_sum_exp(tensor, self.dims[0])

    def joined(self, total: Tensor, part: Tensor, count: int) -> Tensor:
        return torch.logaddexp(total, part)


def log_sum_exp_rule(value: Value, inputs: Sequence[Input]) -> Built:
    """Logarithm of a sum of exponentials over the scene."""
    return _LogSums(value, inputs[0].layout, [value.args[1]])
