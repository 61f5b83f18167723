"""What a decoder is told about the encoder before it, and which of its maps it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["FeatureLevels", "LevelChoice", "read_levels", "resize"]

LevelChoice = Literal["last", "all"]
"""``"last"`` reads the coarsest map; ``"all"`` brings every map to the size of the finest and
stacks them, as HRNet is meant to be read."""


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

    def channels_of(self, choice: LevelChoice) -> int:
        """Channels of the map that ``read_levels`` gives."""
        return sum(self.channels) if choice == "all" else self.channels[-1]

    def reduction_of(self, choice: LevelChoice) -> int:
        """Input pixels per pixel of the map that ``read_levels`` gives."""
        return self.reductions[0 if choice == "all" else -1]


def read_levels(features: list[Tensor], choice: LevelChoice) -> Tensor:
    """Give the coarsest map, or all maps stacked at the size of the finest."""
    if choice == "last":
        return features[-1]
    height, width = features[0].shape[-2:]
    return torch.cat([resize(f, (height, width)) for f in features], dim=1)


def resize(features: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Resize bilinearly with ``align_corners=False``, the one convention of this package.

    Args:
        features: (B, C, h, w).
        size: Rows and columns of the result.
        align_corners: Put corner pixels on corners, only to repeat what was published.
    """
    if tuple(features.shape[-2:]) == size:
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=align_corners)
