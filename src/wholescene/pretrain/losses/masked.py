"""Losses of methods that fill in what was hidden."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hidden_patch_error", "hole_error", "patchify"]

SMALL = 1e-6


def patchify(images: Tensor, side: int) -> Tensor:
    """Cut images (B, C, H, W) into patches, row by row: (B, N, C * side * side)."""
    batch, bands, height, width = images.shape
    cut = images.reshape(batch, bands, height // side, side, width // side, side)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, bands * side * side)


def hidden_patch_error(
    prediction: Tensor, images: Tensor, hidden: Tensor, *, side: int, normalise: bool = True
) -> Tensor:
    """Mean squared error over hidden patches.

    Args:
        prediction: (B, N, C * side * side).
        images: (B, C, H, W).
        hidden: Whether a patch was hidden, (B, N).
        side: Side of a patch.
        normalise: Compare with patches of mean 0 and variance 1 each.

    Source:
        He et al. 2022, arXiv:2111.06377 (MAE).
    """
    target = patchify(images.float(), side)
    if normalise:
        target = (target - target.mean(-1, keepdim=True)) / (
            target.var(-1, keepdim=True) + SMALL
        ).sqrt()
    error = (prediction.float() - target).square().mean(-1)
    return (error * hidden).sum() / hidden.sum().clamp_min(1)


def hole_error(
    prediction: Tensor, images: Tensor, hole: Tensor, *, hole_weight: float = 0.99
) -> Tensor:
    """Squared error inside holes, and a little of that around them.

    Args:
        prediction: (B, C, H, W).
        images: Likewise.
        hole: Where pixels were hidden, (B, 1, H, W).
        hole_weight: Weight of the holes; the rest weighs ``1 - hole_weight``.

    Source:
        Pathak et al. 2016, arXiv:1604.07379, as GLCNet's baseline weighs it.
    """
    error = (prediction.float() - images.float()).square()
    hole = hole.expand_as(error)
    inside = error[hole].mean() if bool(hole.any()) else error.new_zeros(())
    outside = error[~hole].mean() if bool((~hole).any()) else error.new_zeros(())
    return hole_weight * inside + (1 - hole_weight) * torch.as_tensor(outside)
