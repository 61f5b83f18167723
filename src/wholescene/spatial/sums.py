"""Sums over the pixels of a scene that many ranks share, for losses that are alike on all."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from wholescene.losses.pixels import Sums
from wholescene.spatial.wire import Wire

__all__ = ["SceneSums"]


class SceneSums(Sums):
    """Sums over all ranks; every rank then has the same loss, and its own part of the gradient.

    Args:
        group: The ranks that share the scene; ``None`` for this process alone.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.wire = Wire(group)

    def total(self, part: Tensor) -> Tensor:
        """Sum over all pixels, from that over those that are here."""
        return _Total.apply(part, self.wire)  # type: ignore[no-any-return]

    def everything(self, part: Tensor) -> Tensor:
        """All pixels, the last dimension, from those that are here."""
        return _Everything.apply(part, self.wire)  # type: ignore[no-any-return]


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, wire: Wire) -> Tensor:
        return wire.sum(part.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # The loss is the same on every rank, and so is its slope.
        return grads[0], None


class _Everything(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, wire: Wire) -> Tensor:
        counts = [int(count) for count in wire.gather(torch.tensor([part.shape[-1]]))]
        ctx.place = sum(counts[: wire.rank]), part.shape[-1]
        # As bytes, so that every type travels, and as long as the longest, so that all are alike.
        wide = part.new_zeros((*part.shape[:-1], max(counts)))
        wide[..., : part.shape[-1]] = part
        raw = wide.contiguous().view(torch.uint8)
        parts = [found.view(part.dtype) for found in wire.gather(raw)]
        return torch.cat([p[..., :n] for p, n in zip(parts, counts, strict=True)], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].narrow(-1, *ctx.place), None
