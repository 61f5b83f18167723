"""Convolution, transposed convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
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
    Rule,
    arguments_of,
    image_axes,
    image_layout,
)

__all__ = ["average_pool", "convolution", "max_pool", "transposed_convolution"]

Axes = tuple[Axis | None, Axis | None]
Pair = tuple[int, int]


def convolution(value: Value, inputs: Sequence[Input]) -> Built:
    """2-D convolution with zero padding; other padding modes reach here as a pad before it."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    named = arguments_of(value, names)
    stride, dilation = _pair(named, "stride", 1), _pair(named, "dilation", 1)
    kernel = _as_pair(inputs[1].shape[-2:])
    pads = _paddings(named.get("padding", 0), kernel, dilation)
    rule = _Windows.of(value, inputs, kernel, stride, pads, dilation)
    if rule is None:
        return None
    has_bias, groups = len(inputs) > 2, named.get("groups", 1)

    def run(local: Local) -> Tensor:
        x = rule.bordered(local, 0.0)
        bias = local.tensors[2] if has_bias else None
        return F.conv2d(x, local.tensors[1], bias, stride, 0, dilation, groups)

    layout = image_layout(value, inputs[0].layout, rule.axes)
    return Rule(layout, (rule.needs, *[None] * (len(inputs) - 1)), run)


def transposed_convolution(value: Value, inputs: Sequence[Input]) -> Built:
    """2-D transposed convolution."""
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    named = arguments_of(value, names)
    stride, dilation = _pair(named, "stride", 1), _pair(named, "dilation", 1)
    padding, kernel = _pair(named, "padding", 0), inputs[1].shape[-2:]
    axes = image_axes(inputs[0].layout)
    if axes is None:
        return None
    needs = {
        axis: transposed_need(
            inputs[0].shape[2 + i],
            value.shape[2 + i],
            kernel=kernel[i],
            stride=stride[i],
            dilation=dilation[i],
            padding=padding[i],
        )
        for i, axis in enumerate(axes)
        if axis is not None
    }
    has_bias, groups = len(inputs) > 2, named.get("groups", 1)

    def run(local: Local) -> Tensor:
        bias = local.tensors[2] if has_bias else None
        full = F.conv_transpose2d(
            local.tensors[0], local.tensors[1], bias, stride, 0, 0, groups, dilation
        )
        for i, axis in enumerate(axes):
            start, stop, origin = 0, value.shape[2 + i], 0
            if axis is not None:
                (start, stop), origin = local.out[axis], local.span(0, axis)[0]
            first = start + padding[i] - origin * stride[i]
            full = _cut(full, 2 + i, first, first + stop - start, bias)
        return full

    layout = image_layout(value, inputs[0].layout, axes)
    return Rule(layout, (needs, *[None] * (len(inputs) - 1)), run)


def max_pool(value: Value, inputs: Sequence[Input]) -> Built:
    """2-D max pooling; what lies beyond the border never wins."""
    if value.part not in (None, 0):
        return None  # places of the maxima
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    named = arguments_of(value, names)
    kernel = _pair(named, "kernel_size", 1)
    stride = _pair(named, "stride", 1) if named.get("stride") else kernel
    padding, dilation = _pair(named, "padding", 0), _pair(named, "dilation", 1)
    pads = ((padding[0], padding[0]), (padding[1], padding[1]))
    rule = _Windows.of(value, inputs, kernel, stride, pads, dilation)
    if rule is None:
        return None

    def run(local: Local) -> Tensor:
        return F.max_pool2d(rule.bordered(local, float("-inf")), kernel, stride, 0, dilation)

    return Rule(image_layout(value, inputs[0].layout, rule.axes), (rule.needs,), run)


def average_pool(value: Value, inputs: Sequence[Input]) -> Built:
    """2-D average pooling, with or without the padding in the mean."""
    names = ("input", "kernel_size", "stride", "padding")
    rest = ("ceil_mode", "count_include_pad", "divisor_override")
    named = arguments_of(value, (*names, *rest))
    kernel = _pair(named, "kernel_size", 1)
    stride = _pair(named, "stride", 1) if named.get("stride") else kernel
    padding = _pair(named, "padding", 0)
    pads = ((padding[0], padding[0]), (padding[1], padding[1]))
    rule = _Windows.of(value, inputs, kernel, stride, pads, (1, 1))
    if rule is None:
        return None
    divisor = named.get("divisor_override")
    includes = named.get("count_include_pad", True)
    counts = [
        _window_counts(need, padding[i] if includes else 0) for i, need in enumerate(rule.along)
    ]

    def run(local: Local) -> Tensor:
        x = rule.bordered(local, 0.0)
        total = F.avg_pool2d(x, kernel, stride, 0, divisor_override=1)
        if divisor:
            return torch.div(total, divisor)
        rows, cols = (
            (count if axis is None else count[slice(*local.out[axis])]).to(x)
            for count, axis in zip(counts, rule.axes, strict=True)
        )
        return torch.div(total, rows[:, None] * cols[None, :])

    return Rule(image_layout(value, inputs[0].layout, rule.axes), (rule.needs,), run)


def _window_counts(need: AxisNeed, padding: int) -> Tensor:
    """How many pixels each window is divided by, along one axis."""
    low = torch.from_numpy(need.lo).clamp(min=-padding)
    return torch.from_numpy(need.hi).clamp(max=need.num_in + padding) - low


class _Windows:
    """Windows over the last two dimensions.

    Args:
        axes: Axes they count along.
        along: Rule of each of the two dimensions, plain ones included.
    """

    def __init__(self, axes: Axes, along: Sequence[AxisNeed]) -> None:
        self.axes, self.along = axes, along
        self.needs = {
            axis: need for axis, need in zip(axes, along, strict=True) if axis is not None
        }

    @classmethod
    def of(
        cls,
        value: Value,
        inputs: Sequence[Input],
        kernel: Pair,
        stride: Pair,
        pads: tuple[Pair, Pair],
        dilation: Pair,
    ) -> _Windows | None:
        axes = image_axes(inputs[0].layout)
        if axes is None:
            return None
        along = [
            window_need(
                inputs[0].shape[2 + i],
                value.shape[2 + i],
                kernel=kernel[i],
                stride=stride[i],
                dilation=dilation[i],
                padding=pads[i][0],
            )
            for i in range(2)
        ]
        return cls(axes, along)

    def bordered(self, local: Local, fill: float) -> Tensor:
        """Put what stands beyond the scene's border around the region."""
        pads: list[int] = []
        for axis, need in zip(self.axes, self.along, strict=True):
            if axis is not None:
                before, after = local.border(0, axis)
            else:
                low, high = need.need(0, need.num_out)
                before, after = -low, high - need.num_in
            pads = [before, after, *pads]
        return _padded(local.tensors[0], pads, fill) if any(pads) else local.tensors[0]


def _paddings(padding: Any, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """Padding before and after along each axis; 'same' puts an odd pixel after."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, -(-total[0] // 2)), (total[1] // 2, -(-total[1] // 2))
    rows, cols = _as_pair(padding)
    return (rows, rows), (cols, cols)


def _padded(x: Tensor, pads: Sequence[int], fill: float) -> Tensor:
    """Pad the last two dimensions; a negative pad cuts off pixels that no window reaches."""
    if min(pads) >= 0:
        return F.pad(x, list(pads), value=fill)
    x = F.pad(x, [max(0, pad) for pad in pads], value=fill)
    left, right, top, bottom = (max(0, -pad) for pad in pads)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


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


def _pair(named: dict[str, Any], name: str, default: int) -> Pair:
    return _as_pair(named.get(name, default))


def _as_pair(item: Any) -> Pair:
    if isinstance(item, int):
        return item, item
    found = tuple(int(part) for part in item)
    return (found[0], found[0]) if len(found) == 1 else (found[0], found[1])
