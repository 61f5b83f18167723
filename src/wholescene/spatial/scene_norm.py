"""Batch norm in training over a scene that many ranks share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.spatial.precise import at_least_single, channel_moments, joined
from wholescene.spatial.wire import Wire

__all__ = ["scene_batch_norm"]


def scene_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor, Tensor] | None,
    momentum: float,
    eps: float,
    wire: Wire,
    token: Tensor,
) -> tuple[Tensor, Tensor]:
    """Normalise by mean and variance over all rows of the scene, on whichever rank they are.

    Args:
        x: This rank's rows: ``(B, C, ...)``; there may be none.
        weight: Scale of each channel.
        bias: Shift of each channel.
        running: Running mean and variance; they move by ``momentum``, alike on all ranks.
        momentum: Share of this scene in them.
        eps: Added to the variance.
        wire: The ranks.
        token: Of the exchange before.

    Returns:
        The normalised rows, and the next token.
    """
    mean, var, count = _moments(x.detach(), wire)
    if running is not None:
        with torch.no_grad():
            running[0].lerp_(mean.to(running[0]), momentum)
            running[1].lerp_((var * (count / max(count - 1, 1))).to(running[1]), momentum)
    inverse = (var + eps).rsqrt()
    kind = at_least_single(x.dtype)
    mean, inverse = mean.to(kind), inverse.to(kind)
    return _Normalised.apply(token, x, weight, bias, mean, inverse, count, wire)  # type: ignore[no-any-return]


def _moments(x: Tensor, wire: Wire) -> tuple[Tensor, Tensor, int]:
    """Mean and variance of each channel over the scene in double precision, and the count."""
    channels = x.shape[1]
    count = x.numel() // channels
    found = x.new_zeros(3, channels, dtype=torch.float64)
    if count:
        mean, var = _own_moments(x)
        found = torch.stack([mean, var, torch.full_like(mean, count)])
    parts = torch.stack(wire.gather(found))
    counts = parts[:, 2]
    total = counts.sum(0)
    mean = (parts[:, 0] * counts).sum(0) / total
    spread = (parts[:, 1] + (parts[:, 0] - mean) ** 2) * counts
    return mean, spread.sum(0) / total, int(total[0])


def _own_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over these rows, in double precision.

    On CPUs torch's kernel adds value by value: with channels first in three times the time of this,
    with channels last in single precision, which a scene has too many pixels for.
    """
    channels = x.shape[1]
    if x.is_cuda:
        wide = x.to(at_least_single(x.dtype))
        mean, var = torch.batch_norm_update_stats(wide, None, None, 0.0)
        return mean.double(), var.double()
    if x.movedim(1, -1).is_contiguous():
        x = x.movedim(1, -1).reshape(1, -1, channels).movedim(-1, 1)
    return joined(*channel_moments(x), dim=0)


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        inverse: Tensor,
        count: int,
        wire: Wire,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.known = count, wire, bias is not None
        # The variance that a norm with stored statistics and no eps takes the root of.
        y = F.batch_norm(x, mean, inverse**-2, weight, bias, False, 0.0, 0.0) if x.numel() else x
        return (y.clone() if y is x else y), token.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        count, wire, has_bias = ctx.known
        grad, token = grads
        wide, rows = grad.to(mean.dtype), x.to(mean.dtype)
        sums = _sums(wide, rows, mean, inverse)
        total = wire.sum(sums.to(torch.float64, copy=True)).to(mean.dtype) / count
        scale = inverse if weight is None else inverse * weight.to(inverse)
        # scale * (grad - total[0] - total[1] * (x - mean) * inverse), in two passes
        slope = -scale * inverse * total[1]
        grad_x = _affine(rows, slope, -scale * total[0] - slope * mean)
        grad_x.addcmul_(wide, scale.view(1, -1, *[1] * (x.dim() - 2)))
        grad_weight = None if weight is None else sums[1].to(weight.dtype)
        grad_bias = sums[0].to(x.dtype if weight is None else weight.dtype) if has_bias else None
        return token, grad_x.to(x.dtype), grad_weight, grad_bias, None, None, None, None


def _sums(grad: Tensor, x: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    """Over these rows: gradients, and gradients times normalised values; a row per sum."""
    if not x.numel():
        return mean.new_zeros(2, len(mean))
    known = None, None, None, mean, inverse, True, 0.0
    _, products, total = torch.ops.aten.native_batch_norm_backward(
        grad, x, *known, [False, True, True]
    )
    return torch.stack([total, products])


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """A scale and a shift per channel."""
    if not x.numel():
        return torch.zeros_like(x)
    return F.batch_norm(x, torch.zeros_like(scale), torch.ones_like(scale), scale, shift, eps=0.0)
