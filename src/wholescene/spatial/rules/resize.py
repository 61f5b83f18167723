"""Resizing with the scene's own scale, never the region's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wholescene.spatial.axis import AxisNeed
from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Axis
from wholescene.spatial.regions import Enlarging, Span
from wholescene.spatial.rules.base import Built, Input, Local, Rule, image_axes, image_layout

__all__ = ["resize"]

_AT_ONCE = 32
"""Outputs that are blended by one product."""

_STREAMED_FROM = 1 << 20
"""Elements from which a small map enlarged is not kept whole."""


@dataclass(frozen=True)
class _Taps:
    """Inputs and weights of each output along one axis.

    Args:
        index: Input of each tap, clamped to the scene: ``(num_out, taps)``.
        weight: Its weight: ``(num_out, taps)``; ``None`` where every output copies one input.
    """

    index: NDArray[np.int64]
    weight: Tensor | None

    def need(self, num_in: int) -> AxisNeed:
        """Turn the taps into an axis rule."""
        return AxisNeed(self.index.min(axis=1), self.index.max(axis=1) + 1, num_in)


def resize(mode: str) -> Callable[[Value, Sequence[Input]], Built]:
    """Nearest, nearest-exact, bilinear or bicubic, by size or by scale."""

    def build(value: Value, inputs: Sequence[Input]) -> Built:
        given = inputs[0].layout
        if not given.is_spatial and prod(value.shape) < _STREAMED_FROM:
            return None
        axes_in = image_axes(given)
        if axes_in is None:
            return None
        axes = _axes_out(axes_in)
        layout = image_layout(value, given, axes)
        align, scales = _options(value, mode)
        sizes = list(zip(inputs[0].shape[2:], value.shape[2:], strict=True))
        taps = [
            _taps(mode, *size, align=align, scale=scale)
            for size, scale in zip(sizes, scales, strict=True)
        ]
        needs = {
            axis: taps[i].need(sizes[i][0]) for i, axis in enumerate(axes_in) if axis is not None
        }

        factors = _factors(sizes) if axes_in == tuple(Axis) else None
        repeats = factors is not None and _repeats(taps, factors)
        is_smooth = mode == "bilinear" and not align and scales in ((None, None), factors)

        def run(local: Local) -> Tensor:
            x = local.tensors[0]
            if factors is not None and (repeats or is_smooth):
                return _enlarge(x, factors, local, "nearest" if repeats else "bilinear")
            for i, axis in reversed(list(enumerate(axes))):
                origin = 0 if axes_in[i] is None else local.span(0, axis)[0]
                x = _blend(x, taps[i], 2 + i, local.out[axis], origin)
            return x

        # A map without rows or columns (a pooled one) is needed whole, but gains them here.
        return Rule(
            layout,
            (needs if given.is_spatial else None,),
            run,
            gather=Enlarging(layout, factors) if factors is not None and repeats else None,
        )

    return build


def _factors(sizes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Whole numbers that both sides grow by; nothing where one does not."""
    if any(num_out % num_in for num_in, num_out in sizes):
        return None
    rows, cols = (num_out // num_in for num_in, num_out in sizes)
    return rows, cols


def _repeats(taps: Sequence[_Taps], factors: Sequence[int]) -> bool:
    """Whether every pixel is repeated so many times."""
    return all(
        found.weight is None
        and np.array_equal(found.index[:, 0], np.arange(len(found.index)) // times)
        for found, times in zip(taps, factors, strict=True)
    )


def _enlarge(x: Tensor, factors: tuple[int, int], local: Local, mode: str) -> Tensor:
    """Enlarge a region by whole factors, without what lies outside the region asked for.

    The first pixel of a region is enlarged to where the scene has it, so that the operator itself
    does it. Where it lacks a neighbour inside the scene, its result was not asked for.
    """
    size = tuple(side * times for side, times in zip(x.shape[2:], factors, strict=True))
    x = F.interpolate(x, size=size, mode=mode)
    for i, axis in enumerate(Axis):
        start, stop = local.out[axis]
        if stop - start < size[i]:
            x = x.narrow(2 + i, start - local.span(0, axis)[0] * factors[i], stop - start)
    return x


def _axes_out(axes: tuple[Axis | None, Axis | None]) -> tuple[Axis, Axis]:
    """Plain dimensions become the axis that is missing."""
    transposed = axes[0] is Axis.COL or axes[1] is Axis.ROW
    return (Axis.COL, Axis.ROW) if transposed else (Axis.ROW, Axis.COL)


def _options(value: Value, mode: str) -> tuple[bool, tuple[float | None, float | None]]:
    """``align_corners`` and the scale factors, if the resize was asked for by scale."""
    arguments: list[Any] = list(value.args[1:])
    if mode.startswith("nearest"):
        align, rest = False, arguments
    else:
        align, rest = bool(arguments[1]), [arguments[0], *arguments[2:]]
    if str(value.op).endswith(".vec"):
        factors = rest[1] if len(rest) > 1 else value.kwargs.get("scale_factors")
        given = tuple(factors) if factors else (None, None)
    else:
        given = tuple(rest[1:3]) if len(rest) >= 3 else (None, None)
    return align, (given[0], given[1])


def _taps(mode: str, num_in: int, num_out: int, *, align: bool, scale: float | None) -> _Taps:
    out = np.arange(num_out, dtype=np.float64)
    step = 1 / scale if scale else num_in / num_out
    if num_in == num_out and mode in ("nearest", "bilinear"):
        return _Taps(np.arange(num_out, dtype=np.int64)[:, None], None)  # whatever the scale
    if mode == "nearest" and num_out == 2 * num_in:
        return _Taps(np.arange(num_out, dtype=np.int64)[:, None] // 2, None)
    if mode == "nearest":
        # torch computes the source in float32, and so which pixel is nearest.
        position = np.float32(step) * out.astype(np.float32)
        return _Taps(np.clip(np.floor(position), 0, num_in - 1).astype(np.int64)[:, None], None)
    if mode == "nearest-exact":
        position = (out.astype(np.float32) + np.float32(0.5)) * np.float32(step)
        return _Taps(np.clip(np.floor(position), 0, num_in - 1).astype(np.int64)[:, None], None)
    if align:
        position = out * ((num_in - 1) / (num_out - 1) if num_out > 1 else 0.0)
    else:
        position = (out + 0.5) * step - 0.5
    if mode == "bilinear":
        position = np.maximum(position, 0.0)
        base = np.minimum(np.floor(position).astype(np.int64), num_in - 1)
        part = position - base
        index = np.stack([base, np.minimum(base + 1, num_in - 1)], axis=1)
        return _Taps(index, torch.from_numpy(np.stack([1 - part, part], axis=1)))
    base = np.floor(position).astype(np.int64)
    part = position - base
    index = np.clip(base[:, None] + np.arange(-1, 3), 0, num_in - 1)
    return _Taps(index, torch.from_numpy(_cubic(part)))


def _cubic(part: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the four taps of Keys' cubic kernel with a = -0.75, as torch has it."""
    a = -0.75

    def near(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return np.stack([far(part + 1), near(part), near(1 - part), far(2 - part)], axis=1)


def _blend(x: Tensor, taps: _Taps, dim: int, out: tuple[int, int], origin: int) -> Tensor:
    """Blend the taps of outputs ``out`` along rows (2) or columns (3) of an image."""
    if taps.weight is None:
        index = torch.from_numpy(taps.index[out[0] : out[1], 0] - origin).to(x.device)
        return x.index_select(dim, index)
    if dim == 3:  # one product for all rows instead of one for each
        return _blend(x.mT, taps, 2, out, origin).mT
    batch, channels, _, width = x.shape
    given = x.permute(0, 2, 3, 1).reshape(batch, -1, width * channels)
    result: Tensor = _Blended.apply(given, taps, out, origin)
    return result.view(batch, -1, width, channels).permute(0, 3, 1, 2)


class _Blended(torch.autograd.Function):
    """Blends entries along the middle of three dimensions.

    A few outputs at a time are a product with a matrix of weights, which reads and writes each
    value once; backwards with the matrix transposed.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, taps: _Taps, out: tuple[int, int], origin: int) -> Tensor:
        ctx.known = given.shape, taps, out, origin
        result = given.new_empty(given.shape[0], out[1] - out[0], given.shape[2])
        for (first, last), (low, high), weight in _products(taps, out, origin):
            each = weight.to(given.device, given.dtype).expand(given.shape[0], -1, -1)
            torch.bmm(each, given[:, low:high], out=result[:, first:last])
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        shape, taps, out, origin = ctx.known
        (grad,) = grads
        result = grad.new_zeros(shape)
        for (first, last), (low, high), weight in _products(taps, out, origin):
            each = weight.T.to(grad.device, grad.dtype).expand(shape[0], -1, -1)
            result[:, low:high].baddbmm_(each, grad[:, first:last])
        return result, None, None, None


def _products(
    taps: _Taps, out: tuple[int, int], origin: int
) -> Iterator[tuple[Span, Span, Tensor]]:
    """Outputs from 0, inputs from ``origin`` and the weights between them, a few at a time."""
    assert taps.weight is not None
    for first in range(out[0], out[1], _AT_ONCE):
        last = min(first + _AT_ONCE, out[1])
        index = torch.from_numpy(taps.index[first:last] - origin)
        low, high = int(index.min()), int(index.max()) + 1
        weight = taps.weight.new_zeros(last - first, high - low)
        weight.scatter_add_(1, index - low, taps.weight[first:last])
        yield (first - out[0], last - out[0]), (low, high), weight
