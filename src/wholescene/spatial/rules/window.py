"""Convolution, transposed convolution and pooling, of images and of stacks of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.spatial.axis import AxisNeed, transposed_need, window_need
from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Axis
from wholescene.spatial.rules.base import (
    Built,
    Input,
    Local,
    Needs,
    Rule,
    arguments_of,
    identities,
    image_axes,
    image_layout,
)

__all__ = [
    "CONVOLUTION_ARGUMENTS",
    "JOINED_ARGUMENTS",
    "Pads",
    "Sizes",
    "Spread",
    "Windows",
    "average_pool",
    "convolution",
    "as_pair",
    "convolve",
    "is_for_onednn",
    "max_pool",
    "transposed_convolution",
]

CONVOLUTION_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
JOINED_ARGUMENTS = (*CONVOLUTION_ARGUMENTS, "other", "is_clipped")

Pair = tuple[int, int]
Sizes = Sequence[int]
Pads = Sequence[Pair]


def convolution(value: Value, inputs: Sequence[Input]) -> Built:
    """Convolution with zero padding, with what :func:`convolve` joins to it.

    Other padding modes reach here as a pad before it.
    """
    named = arguments_of(value, JOINED_ARGUMENTS)
    other, is_clipped = named.get("other"), bool(named.get("is_clipped"))
    kernel = inputs[1].shape[2:]
    stride, dilation = (_sizes(named, name, 1, len(kernel)) for name in ("stride", "dilation"))
    pads = _paddings(named.get("padding", 0), kernel, dilation)
    rule = Windows.of(inputs[0], value.shape[2:], kernel, stride, pads, dilation)
    if rule is None:
        return None
    layout = image_layout(value, inputs[0].layout, rule.axes[-2:])
    has_bias, groups = named.get("bias") is not None, named.get("groups", 1)
    needs: list[Needs | None] = [rule.needs, *[None] * (len(inputs) - 1)]
    if other is not None:
        if inputs[-1].layout != layout:
            return None
        needs[-1] = identities(layout)

    def run(local: Local) -> Tensor:
        x = rule.bordered(local.tensors[0], 0.0)
        bias = local.tensors[2] if has_bias else None
        weight = local.tensors[1]
        if len(kernel) == 3:
            return F.conv3d(x, weight, bias, stride, 0, dilation, groups)
        added = None if other is None else local.tensors[-1]
        return convolve(x, weight, bias, stride, (0, 0), dilation, groups, added, is_clipped)

    return Rule(layout, tuple(needs), run, border={0: 0.0})


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    other: Tensor | None,
    is_clipped: bool,
) -> Tensor:
    """Convolve, add another tensor of the result's shape, and clip below zero, in one pass.

    Args:
        x: (B, C, H, W).
        weight: As for :func:`torch.nn.functional.conv2d`, and so are the next five.
        bias: One value per channel of the result.
        stride: Step.
        padding: Zeros around the image, or "same" or "valid".
        dilation: Distance between taps.
        groups: Groups of channels.
        other: Added to the result.
        is_clipped: Whether negative values become zero.
    """
    steps, spread = as_pair(stride), as_pair(dilation)
    joins = other is not None or is_clipped
    if weight.is_mkldnn or (joins and is_for_onednn(x) and not isinstance(padding, str)):
        plain = (weight, bias, as_pair(padding), steps, spread, groups)
        joined = torch.ops.mkldnn._convolution_pointwise
        result: Tensor
        if other is None:
            result = joined(x, *plain, "relu" if is_clipped else "none", [], "")
        else:
            last = "relu" if is_clipped else None
            result = joined.binary(x, other, *plain, "add", 1.0, last, [], "")
        return result
    if x.device.type == "cpu" and x.dtype.itemsize == 2 and x.shape[3] <= _NARROW:
        # oneDNN on AMX gives wrong numbers where a strided result is one column wide.
        wide = F.conv2d(F.pad(x, (0, _NARROW)), weight, bias, steps, padding, spread, groups)
        columns = F.conv2d(x.to("meta"), weight.to("meta"), None, steps, padding, spread, groups)
        result = wide[..., : columns.shape[3]].clone()
    else:
        result = F.conv2d(x, weight, bias, steps, padding, spread, groups)
    if other is not None:
        result += other
    return result.relu_() if is_clipped else result


_NARROW = 8
"""Columns up to which half-precision images are widened on a CPU."""


def is_for_onednn(x: Tensor) -> bool:
    """Whether oneDNN convolves such tensors, and can join what comes after."""
    return x.device.type == "cpu" and x.dtype in _ONEDNN and not x.is_mkldnn


_ONEDNN = (torch.float32,) if torch.backends.mkldnn.is_available() else ()  # type: ignore[no-untyped-call]


def transposed_convolution(value: Value, inputs: Sequence[Input]) -> Built:
    """2-D transposed convolution."""
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    named = arguments_of(value, names)
    stride, dilation, padding = (
        as_pair(named.get(name, default))
        for name, default in (("stride", 1), ("dilation", 1), ("padding", 0))
    )
    axes = image_axes(inputs[0].layout)
    if axes is None:
        return None
    kernel, sizes = inputs[1].shape[-2:], (inputs[0].shape[2:], value.shape[2:])
    spread = Spread(axes, sizes, kernel, stride, dilation, padding)
    has_bias, groups = len(inputs) > 2, named.get("groups", 1)

    def run(local: Local) -> Tensor:
        bias = local.tensors[2] if has_bias else None
        full = F.conv_transpose2d(
            local.tensors[0], local.tensors[1], bias, stride, 0, 0, groups, dilation
        )
        return spread.cut(full, local, bias)

    layout = image_layout(value, inputs[0].layout, axes)
    return Rule(layout, (spread.needs, *[None] * (len(inputs) - 1)), run)


class Spread:
    """Pixels that are spread over windows, which overlap and are summed.

    Args:
        axes: Axes that rows and columns count along; ``None`` for a plain one.
        sizes: Rows and columns before and after.
        kernel: Rows and columns of a window.
        stride: Distance of windows.
        dilation: Distance of a window's taps.
        padding: Rows and columns cut off at the border.
    """

    def __init__(
        self,
        axes: Sequence[Axis | None],
        sizes: tuple[Sizes, Sizes],
        kernel: Sizes,
        stride: Sizes,
        dilation: Sizes,
        padding: Sizes,
    ) -> None:
        self.axes, self.sizes, self.stride, self.padding = axes, sizes, stride, padding
        self.needs = {
            axis: transposed_need(
                sizes[0][i],
                sizes[1][i],
                kernel=kernel[i],
                stride=stride[i],
                dilation=dilation[i],
                padding=padding[i],
            )
            for i, axis in enumerate(axes)
            if axis is not None
        }

    def cut(self, full: Tensor, local: Local, bias: Tensor | None = None) -> Tensor:
        """The wanted region of what the first argument's region is spread over."""
        for i, axis in enumerate(self.axes):
            start, stop, origin = 0, self.sizes[1][i], 0
            if axis is not None:
                (start, stop), origin = local.out[axis], local.span(0, axis)[0]
            first = start + self.padding[i] - origin * self.stride[i]
            full = _cut(full, 2 + i, first, first + stop - start, bias)
        return full


def max_pool(value: Value, inputs: Sequence[Input]) -> Built:
    """Max pooling; what lies beyond the border never wins."""
    if value.part not in (None, 0):
        return None  # places of the maxima
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    named = arguments_of(value, names)
    kernel, stride, pads = _pooling(named, len(value.shape) - 2)
    dilation = _sizes(named, "dilation", 1, len(kernel))
    rule = Windows.of(inputs[0], value.shape[2:], kernel, stride, pads, dilation)
    if rule is None:
        return None
    lowest = float("-inf")
    pool: Any = F.max_pool3d if len(kernel) == 3 else F.max_pool2d

    def run(local: Local) -> Tensor:
        x = rule.bordered(local.tensors[0], lowest)
        return pool(x, kernel, stride, 0, dilation)  # type: ignore[no-any-return]

    layout = image_layout(value, inputs[0].layout, rule.axes[-2:])
    return Rule(layout, (rule.needs,), run, border={0: lowest})


def average_pool(value: Value, inputs: Sequence[Input]) -> Built:
    """Average pooling, with or without the padding in the mean."""
    names = ("input", "kernel_size", "stride", "padding")
    rest = ("ceil_mode", "count_include_pad", "divisor_override")
    named = arguments_of(value, (*names, *rest))
    kernel, stride, pads = _pooling(named, len(value.shape) - 2)
    rule = Windows.of(inputs[0], value.shape[2:], kernel, stride, pads, [1] * len(kernel))
    if rule is None:
        return None
    divisor = named.get("divisor_override")
    includes = named.get("count_include_pad", True)
    counts = [
        _window_counts(need, pad if includes else 0)
        for need, (pad, _) in zip(rule.along, pads, strict=True)
    ]
    pool: Any = F.avg_pool3d if len(kernel) == 3 else F.avg_pool2d

    def run(local: Local) -> Tensor:
        x = rule.bordered(local.tensors[0], 0.0)
        total = pool(x, kernel, stride, 0, divisor_override=1)
        if divisor:
            return torch.div(total, divisor)
        sizes = (
            (count if axis is None else count[slice(*local.out[axis])]).to(x)
            for count, axis in zip(counts, rule.axes, strict=True)
        )
        return torch.div(total, prod(torch.meshgrid(*sizes, indexing="ij")))

    layout = image_layout(value, inputs[0].layout, rule.axes[-2:])
    return Rule(layout, (rule.needs,), run, border={0: 0.0})


def _pooling(named: dict[str, Any], rank: int) -> tuple[Sizes, Sizes, Pads]:
    """Kernel, stride and padding of a pooling over so many dimensions."""
    kernel = _sizes(named, "kernel_size", 1, rank)
    stride = _sizes(named, "stride", 1, rank) if named.get("stride") else kernel
    return kernel, stride, [(pad, pad) for pad in _sizes(named, "padding", 0, rank)]


def _window_counts(need: AxisNeed, padding: int) -> Tensor:
    """How many pixels each window is divided by, along one axis."""
    low = torch.from_numpy(need.lo).clamp(min=-padding)
    return torch.from_numpy(need.hi).clamp(max=need.num_in + padding) - low


class Windows:
    """Windows over rows and columns, or over planes, rows and columns of a volume.

    Args:
        axes: Axes they count along; ``None`` along planes.
        along: Rule of each of these dimensions, plain ones included.
    """

    def __init__(self, axes: Sequence[Axis | None], along: Sequence[AxisNeed]) -> None:
        self.axes, self.along = axes, along
        self.needs = {
            axis: need for axis, need in zip(axes, along, strict=True) if axis is not None
        }

    @classmethod
    def of(
        cls,
        source: Input,
        places: Sizes,
        kernel: Sizes,
        stride: Sizes,
        pads: Pads,
        dilation: Sizes,
    ) -> Windows | None:
        """So many windows of a tensor; ``None`` if its last dimensions are not rows and columns."""
        found = image_axes(source.layout, len(kernel) + 2)
        if found is None:
            return None
        along = [
            window_need(
                source.shape[2 + i],
                places[i],
                kernel=kernel[i],
                stride=stride[i],
                dilation=dilation[i],
                padding=pads[i][0],
            )
            for i in range(len(kernel))
        ]
        return cls([*[None] * (len(kernel) - 2), *found], along)

    def bordered(self, x: Tensor, fill: float) -> Tensor:
        """Pad dimensions that are no axis of the scene; along the others a region comes padded."""
        pads: list[int] = []
        for axis, need in zip(self.axes, self.along, strict=True):
            low, high = need.need(0, need.num_out)
            pads = [*((-low, high - need.num_in) if axis is None else (0, 0)), *pads]
        # A negative pad cuts off pixels that no window reaches.
        return F.pad(x, pads, value=fill) if any(pads) else x


def _paddings(padding: Any, kernel: Sizes, dilation: Sizes) -> Pads:
    """Padding before and after along each axis; 'same' puts an odd pixel after."""
    if padding == "valid":
        return [(0, 0) for _ in kernel]
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(size // 2, -(-size // 2)) for size in total]
    return [(pad, pad) for pad in _sizes({"padding": padding}, "padding", 0, len(kernel))]


def _cut(x: Tensor, dim: int, start: int, stop: int, bias: Tensor | None) -> Tensor:
    """Cut ``[start, stop)``; outputs that no input reaches are the bias."""
    size = x.shape[dim]
    if start >= 0 and stop <= size:
        return x.narrow(dim, start, stop - start)
    shape = list(x.shape)
    shape[dim] = stop - start
    result = x.new_zeros(shape)
    if bias is not None:
        result += bias.view(-1, 1, 1)
    first, last = max(start, 0), min(stop, size)
    if first < last:
        result.narrow(dim, first - start, last - first).copy_(x.narrow(dim, first, last - first))
    return result


def _sizes(named: dict[str, Any], name: str, default: int, count: int) -> list[int]:
    """An argument that is one number or one for each dimension."""
    item = named.get(name, default)
    found = [item] if isinstance(item, int) else [int(part) for part in item]
    return found * count if len(found) == 1 else found


def as_pair(item: Any) -> Pair:
    """One number or two, for rows and columns."""
    rows, cols = _sizes({"item": item}, "item", 0, 2)
    return rows, cols
