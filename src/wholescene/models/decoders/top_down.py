"""A feature pyramid network, which several decoders start with."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from wholescene.errors import UnsupportedError
from wholescene.models.decoders.blocks import ConvNormAct
from wholescene.models.decoders.levels import FeatureLevels, resize

__all__ = ["TopDown", "first_level", "size_of"]

FINEST_STRIDE = 4


class TopDown(nn.Module):
    """1 x 1 laterals, sums from coarse to fine, one 3 x 3 convolution per level.

    Args:
        in_channels: Channels of each map, finest first.
        channels: Channels of every map that comes out.

    Source:
        Lin et al. 2017, arXiv:1612.03144, with batch norm and ReLU after each convolution.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(ConvNormAct(c, channels, kernel_size=1) for c in in_channels)
        self.smooth = nn.ModuleList(
            ConvNormAct(channels, channels, kernel_size=3) for _ in in_channels
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map feature maps, finest first, to as many of ``channels`` channels."""
        found: list[Tensor] = []
        top: Tensor | None = None
        steps = zip(reversed(features), reversed(self.laterals), reversed(self.smooth), strict=True)
        for feature, lateral, smooth in steps:
            own = lateral(feature)
            top = own if top is None else own + resize(top, size_of(own))
            found.append(cast(Tensor, smooth(top)))
        return found[::-1]


def first_level(levels: FeatureLevels, decoder: str) -> int:
    """Index of the finest map at stride 4 or coarser.

    Raises:
        UnsupportedError: If there are not two such maps of different scale.
    """
    first = next((i for i, r in enumerate(levels.reductions) if r >= FINEST_STRIDE), 0)
    seen = levels.reductions[first:]
    if len(set(seen)) < 2 or seen[0] < FINEST_STRIDE:
        raise UnsupportedError(
            f"encoder {levels.encoder!r} gives features at strides {levels.reductions}, and "
            f"{decoder} needs at least two maps of different scale at stride 4 or coarser; choose "
            "an encoder with a pyramid, such as 'resnet50' or 'convnext_tiny', or set "
            "model.encoder_options.pyramid = true for a plain ViT"
        )
    return first


def size_of(features: Tensor) -> tuple[int, int]:
    """Rows and columns of a map."""
    height, width = features.shape[-2:]
    return height, width
