"""What a decoder is told about the encoder before it."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

__all__ = ["FeatureLevels", "resize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureLevels:
    """Feature maps of an encoder, from the finest to the coarsest.

    Args:
        encoder: Name for error messages.
        channels: Channels of each map.
        reductions: Input pixels per feature pixel of each map, not decreasing.
    """

    encoder: str
    channels: tuple[int, ...]
    reductions: tuple[int, ...]

    @property
    def is_pyramid(self) -> bool:
        """Whether there is more than one scale."""
        return len(set(self.reductions)) > 1


def resize(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly with ``align_corners=False``, the one convention of this package.

    Args:
        features: (B, C, h, w).
        size: Rows and columns of the result.
    """
    if tuple(features.shape[-2:]) == size:
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)
