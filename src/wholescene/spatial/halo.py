"""Convolutions over rows that are dealt out to ranks, without a copy of those rows.

Only the first and last rows of a rank's result need rows of its neighbours. The convolution of its
own rows, with zeros around them, gives all others; while it runs, the neighbours' rows are on the
way, and the edges are computed from thin strips afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from wholescene.spatial.cuts import Route, Span, rows_of
from wholescene.spatial.exchange import begin_regions, begin_rows
from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Axis
from wholescene.spatial.rules import image_axes
from wholescene.spatial.rules.base import arguments_of
from wholescene.spatial.rules.window import (
    CONVOLUTION_ARGUMENTS,
    as_pair,
    convolve,
    is_for_onednn,
)
from wholescene.spatial.wire import Wire

__all__ = ["CONVOLUTIONS", "Edges", "convolve_rows", "find_edges"]

aten = torch.ops.aten

CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding, convolve)

Pair = tuple[int, int]


@dataclass(frozen=True)
class Edges:
    """What of a convolution's result needs more than this rank's rows.

    Args:
        route: Brings the strips that the edges are computed from.
        own: Per strip, where this rank's own rows are in it.
        rows: Per strip, rows of this rank's result that are computed from it.
        stride: Of the convolution, and so are the next two.
        dilation: Distance between taps.
        groups: Groups of channels.
        padding: Zeros around this rank's rows that give a result of the right size and place.
    """

    route: Route
    own: tuple[Span, ...]
    rows: tuple[Span, ...]
    stride: Pair
    dilation: Pair
    groups: int
    padding: Pair


def find_edges(
    value: Value, weight: Sequence[int], route: Route, out: Span, rank: int
) -> Edges | None:
    """The edges of a rank's result; ``None`` where a copy with all rows is better or needed.

    Args:
        value: A convolution.
        weight: Shape of its weight.
        route: What every rank needs of its image.
        out: This rank's rows of the result.
        rank: This rank.
    """
    if image_axes(route.layout) != (Axis.ROW, Axis.COL):
        return None
    named = arguments_of(value, CONVOLUTION_ARGUMENTS)
    stride, dilation = as_pair(named.get("stride", 1)), as_pair(named.get("dilation", 1))
    start, stop = rows_of(route.owned, rank)
    kernel, width = weight[2:], route.layout.grid(Axis.COL) or 1
    if weight[1] * (stop - start) * width < prod(weight):
        return None  # the copy is smaller than a second gradient of the weight
    ((low, high),) = route.wanted[rank]
    count, step, reach = out[1] - out[0], stride[0], dilation[0] * (kernel[0] - 1)
    padding = start - low, -route.cols[0]
    sizes = stop - start, width
    if min(padding) < 0:
        return None
    given = [
        (size + 2 * pad - far * (taps - 1) - 1) // by + 1
        for size, pad, far, taps, by in zip(sizes, padding, dilation, kernel, stride, strict=True)
    ]
    if given != [count, value.shape[3]]:
        return None
    top = -(-padding[0] // step) if start else 0
    below = max(0, -(-(stop - low - reach) // step)) if high > stop else count
    bottom = below if stop < route.owned[-1] else count
    rows = tuple(span for span in ((0, top), (bottom, count)) if span[0] < span[1])
    strips = tuple((low + a * step, low + (b - 1) * step + reach + 1) for a, b in rows)
    if top > bottom or any(last < start or first > stop for first, last in strips):
        return None
    wanted = (*route.wanted[:rank], strips, *route.wanted[rank + 1 :])
    own = tuple((max(start, a) - a, min(stop, b) - a) for a, b in strips)
    groups = named.get("groups", 1)
    return Edges(replace(route, wanted=wanted), own, rows, stride, dilation, groups, padding)


def convolve_rows(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    edges: Edges,
    wire: Wire,
    token: Tensor,
    *,
    learns: bool,
    other: Tensor | None = None,
    is_clipped: bool = False,
) -> tuple[Tensor, Tensor]:
    """Convolve this rank's rows as part of the scene.

    Args:
        x: This rank's rows: ``(B, C, h, W)``.
        weight: As for :func:`torch.nn.functional.conv2d`.
        bias: One value per channel of the result.
        edges: Of the result.
        wire: The ranks.
        token: Of the exchange before.
        learns: Whether gradients go back to the rows, the same on every rank.
        other: Added to the result; not where gradients go back.
        is_clipped: Whether negative values become zero, likewise.

    Returns:
        The result, and the next token.
    """
    tail = (other, is_clipped)
    return _Convolved.apply(token, x, weight, bias, edges, wire, learns, tail)  # type: ignore[no-any-return]


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        edges: Edges,
        wire: Wire,
        learns: bool,
        tail: tuple[Tensor | None, bool],
    ) -> tuple[Tensor, Tensor]:
        (other, is_clipped), how = tail, (edges.dilation, edges.groups)
        awaited = begin_regions(x, edges.route, wire)
        try:
            result = convolve(x, weight, bias, edges.stride, edges.padding, *how, *tail)
        finally:  # the others wait for these rows, whatever happens here
            strips = awaited()
        for strip, (first, last), (start, stop) in zip(strips, edges.rows, edges.own, strict=True):
            added = None if other is None else other[:, :, first:last]
            edge = convolve(strip, weight, bias, edges.stride, 0, *how, added, is_clipped)
            result[:, :, first:last] = edge
            # On the way back own rows get theirs with all others.
            strip[:, :, start:stop] = 0
        ctx.save_for_backward(x, weight, *strips)
        ctx.known = edges, wire, learns, None if bias is None else [bias.numel()]
        return result, token.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, weight, *strips = ctx.saved_tensors
        edges, wire, learns, bias = ctx.known
        grad, token = grads
        wants = [learns, ctx.needs_input_grad[2], bias is not None and ctx.needs_input_grad[3]]

        def back(grad: Tensor, x: Tensor, padding: Pair, wants: list[bool]) -> list[Any]:
            how = [*map(list, (edges.stride, padding, edges.dilation)), False, [0, 0]]
            is_turned = wants[1] and _is_turned_first(x, weight)
            some = [wants[0], wants[1] and not is_turned, wants[2]]
            given = aten.convolution_backward(grad, x, weight, bias, *how, edges.groups, some)
            if not is_turned:
                return list(given)
            plain = grad.contiguous(), x.contiguous()
            only = [False, True, False]
            turned = aten.convolution_backward(*plain, weight, bias, *how, edges.groups, only)
            return [given[0], turned[1], given[2]]

        thin = [
            back(grad[:, :, first:last], strip, (0, 0), [*wants[:2], False])
            for strip, (first, last) in zip(strips, edges.rows, strict=True)
        ]
        awaited = (
            begin_rows([part[0] for part in thin], edges.route, wire, grad) if learns else None
        )
        rows, grad_weight, grad_bias = back(grad, x, edges.padding, wants)
        if wants[1]:
            for part in thin:
                grad_weight += part[1]
        if awaited is not None:
            awaited(rows)
        return token, rows, grad_weight, grad_bias, None, None, None, None


def _is_turned_first(x: Tensor, weight: Tensor) -> bool:
    """Whether a copy with channels first gives the gradient of the weight sooner.

    With AVX2 oneDNN takes two to four times as long in channels last as in channels first, where
    the kernel is dense and channels are many; the copies are a tenth of that.
    """
    if not is_for_onednn(x) or x.is_contiguous():
        return False
    out, channels, *taps = weight.shape
    is_large = channels == x.shape[1] and min(out, channels) >= _MANY and prod(taps) > 1
    return is_large and torch.backends.cpu.get_cpu_capability() == "AVX2"


_MANY = 32
