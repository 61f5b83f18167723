"""Sums, means and variances over scenes: in double precision, without a copy of them in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "accumulator_dtype",
    "at_least_single",
    "channel_moments",
    "joined",
    "moments",
    "scaled",
    "square_total",
    "total",
]

_CACHED = 1 << 17
"""Values that the cache next to a core has room for."""
_LAUNCHED = 1 << 24
"""Values that are worth starting a kernel of a GPU for, whose copy does not count yet."""


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type in which sums over a scene are kept."""
    return torch.complex128 if dtype.is_complex else torch.float64


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """Type in which numbers of a type are computed with."""
    return torch.float32 if dtype.itemsize < 4 else dtype


def total(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Sum over some dimensions, which are kept with one entry."""
    return _Total.apply(x, tuple(dims))  # type: ignore[no-any-return]


def square_total(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Sum of squares of real numbers over some dimensions, which are kept with one entry."""
    return _SquareTotal.apply(x, tuple(dims))  # type: ignore[no-any-return]


def moments(x: Tensor, groups: int) -> Tensor:
    """Mean and variance of each group of channels, without cancellation.

    Args:
        x: ``(B, C, ...)``.
        groups: Groups of as many channels each.

    Returns:
        ``(2, B, groups)``.
    """
    return _Moments.apply(x, groups)  # type: ignore[no-any-return]


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of each image: ``(B, C)`` each.

    They are in double precision, and as near to the truth as sums of differences from a number next
    to the mean are in single precision: errors are small beside the spread, however large the mean.
    """
    last = x.movedim(1, -1)
    if last.is_contiguous():
        mean, variance = _middle_moments(last.reshape(len(x), -1, x.shape[1]))
    else:
        mean, variance = _middle_moments(x.reshape(len(x) * x.shape[1], -1, 1))
    return mean.view(x.shape[:2]), variance.view(x.shape[:2])


def joined(mean: Tensor, variance: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of sets of the same size together, the sets along a dimension."""
    common = mean.mean(dim, keepdim=True)
    return common.squeeze(dim), (variance + (mean - common) ** 2).mean(dim)


def scaled(x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``(x - centre) * scale + shift``, with a number of each for each channel: ``(B, C)``."""
    kind = at_least_single(x.dtype)
    numbers = (each.to(kind).flatten() for each in (centre, scale, shift))
    # Images as channels of one, as batch norm, which does it in one pass, has numbers per channel.
    rows = x if len(x) == 1 else x.reshape(1, -1, *x.shape[2:])
    return _Scaled.apply(rows, *numbers).view(x.shape)  # type: ignore[no-any-return]


def _middle_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the second of three dimensions.

    Where that is short, several entries of the first are taken at a time: the second look finds
    them in the cache.
    """
    room, kind = _room(x), at_least_single(x.dtype)
    found = []
    for block in x.split(max(1, room // x[0].numel())):  # type: ignore[no-untyped-call]
        pieces = block.split(max(1, room // block[:, 0].numel()), 1)
        centre = _mean([piece.sum(1, dtype=kind) for piece in pieces], x.shape[1]).to(kind)
        sums = [_sums_around(piece, centre.unsqueeze(1)) for piece in pieces]
        offset, spread = _mean(sums, x.shape[1])
        found.append(torch.stack([centre + offset, (spread - offset**2).clamp_min(0)]))
    mean, variance = torch.cat(found, 1)
    return mean, variance


def _mean(sums: list[Tensor], count: int) -> Tensor:
    return torch.stack(sums).sum(0, dtype=torch.float64) / count


def _sums_around(x: Tensor, centre: Tensor) -> Tensor:
    """Of distances and of their squares, over the second dimension."""
    distance = x - centre
    return torch.stack([distance.sum(1), distance.square_().sum(1)])


def _folded(x: Tensor, dims: Sequence[int], fold: Callable[[Tensor], Tensor]) -> Tensor:
    """Sums over some dimensions, from pieces that are next to each other in memory."""
    if x.numel() <= _room(x):
        return fold(x)
    dim = max((dim for dim in range(x.dim()) if x.shape[dim] > 1), key=x.stride)
    length = max(1, _room(x) * x.shape[dim] // x.numel())
    parts = [_folded(piece, dims, fold) for piece in x.split(length, dim)]  # type: ignore[no-untyped-call]
    if dim not in dims:
        return torch.cat(parts, dim)
    return torch.stack(parts).sum(0, dtype=accumulator_dtype(x.dtype))


def _room(x: Tensor) -> int:
    return _LAUNCHED if x.is_cuda else _CACHED


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        ctx.known = x.shape, x.dtype
        kind = accumulator_dtype(x.dtype)
        return _folded(x, dims, lambda piece: piece.sum(dims, True, dtype=kind))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        shape, dtype = ctx.known
        return grads[0].to(dtype).expand(shape), None


class _SquareTotal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x)
        return _folded(x, dims, lambda piece: piece.double().square().sum(dims, True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope = (2 * grads[0]).to(at_least_single(x.dtype))
        return (x * slope).to(x.dtype), None


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int) -> Tensor:
        mean, variance = channel_moments(x)
        grouped = len(x), groups, -1
        mean, variance = joined(mean.view(grouped), variance.view(grouped), 2)
        ctx.save_for_backward(x, mean)
        ctx.count = x[0].numel() // groups
        return torch.stack([mean, variance])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, mean = ctx.saved_tensors
        shift, slope = grads[0] / ctx.count
        parts = torch.stack([mean, shift, 2 * slope]).to(at_least_single(x.dtype))
        parts = parts.repeat_interleave(x.shape[1] // mean.shape[1], 2)
        centre, shift, slope = parts.view(*parts.shape, *[1] * (x.dim() - 2))
        return (x - centre).mul_(slope).add_(shift).to(x.dtype), None


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, centre, scale)
        return F.batch_norm(x, centre, torch.ones_like(scale), scale, shift, eps=0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        x, centre, scale = ctx.saved_tensors
        known = None, None, None, centre, torch.ones_like(scale), True, 0.0
        _, products, total = torch.ops.aten.native_batch_norm_backward(
            grads[0], x, *known, [False, True, True]
        )
        grad_x = grads[0] * scale.to(x.dtype).view(1, -1, *[1] * (x.dim() - 2))
        return grad_x, -scale * total, products, total
