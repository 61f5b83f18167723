"""UPerNet: pyramid pooling on the coarsest map, then a feature pyramid."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from wholescene.errors import InputError, UnsupportedError
from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize

__all__ = ["UPerNet", "UPerNetOptions"]

FINEST_STRIDE = 4


class UPerNetOptions(DecoderOptions):
    """Options of the UPerNet decoder.

    Args:
        channels: Channels of every layer.
        bins: Side of each pooled grid, in cells over the whole input.
        dropout: Share of channels dropped before the classifier while training.
    """

    channels: int = Field(default=512, ge=1)
    bins: tuple[int, ...] = Field(default=(1, 2, 3, 6), min_length=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class PyramidPooling(nn.Module):
    """Average the map over grids of a few cells, and stack the averages onto it.

    Args:
        in_channels: Channels in.
        channels: Channels out, and of each grid.
        bins: Cells along each side of each grid.
    """

    def __init__(self, in_channels: int, channels: int, *, bins: tuple[int, ...]) -> None:
        super().__init__()
        self.bins = bins
        self.reduce = nn.ModuleList(ConvNormAct(in_channels, channels, kernel_size=1) for _ in bins)
        self.merge = ConvNormAct(in_channels + len(bins) * channels, channels, kernel_size=3)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, h, w)."""
        batch, _, height, width = features.shape
        if self.training and batch * min(self.bins) ** 2 < 2:
            raise InputError(
                "UPerNet pools each patch to one value before a batch norm, which cannot train on "
                "1 patch per device; raise data.batch_size to 2 or more"
            )
        pooled = [
            resize(reduce(F.adaptive_avg_pool2d(features, bins)), (height, width))
            for reduce, bins in zip(self.reduce, self.bins, strict=True)
        ]
        return cast(Tensor, self.merge(torch.cat([features, *pooled], dim=1)))


class UPerNet(Decoder):
    """Pyramid pooling, top-down sums of 1 x 1 laterals, one 3 x 3 convolution per level, fusion.

    Reads the maps at stride 4 and coarser.

    Source:
        Xiao et al. 2018, arXiv:1807.10221. Every resize has ``align_corners=False``, inside and
        out; the published PaddleSeg head mixes both and holds a convolution it never uses.

    Raises:
        UnsupportedError: If the encoder has one scale.
    """

    Options: ClassVar[type[DecoderOptions]] = UPerNetOptions

    def __init__(self, levels: FeatureLevels, options: UPerNetOptions, num_classes: int) -> None:
        super().__init__()
        del num_classes
        self.first = next(
            (i for i, r in enumerate(levels.reductions) if r >= FINEST_STRIDE),
            len(levels.reductions),
        )
        inputs = levels.channels[self.first :]
        if not levels.is_pyramid or len(inputs) < 2:
            raise UnsupportedError(
                f"encoder {levels.encoder!r} gives features at strides {levels.reductions}, and "
                "UPerNet needs at least two maps of different scale at stride 4 or coarser; choose "
                "an encoder with a pyramid, such as 'resnet50' or 'convnext_tiny', or "
                "model.decoder = 'fcn'"
            )
        channels = options.channels
        self.out_channels, self.dropout = channels, options.dropout
        self.pool = PyramidPooling(inputs[-1], channels, bins=options.bins)
        finer = inputs[:-1]
        self.laterals = nn.ModuleList(ConvNormAct(c, channels, kernel_size=1) for c in finer)
        self.smooth = nn.ModuleList(ConvNormAct(channels, channels, kernel_size=3) for _ in finer)
        self.fuse = ConvNormAct(len(inputs) * channels, channels, kernel_size=3)
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the finest map read."""
        *finer, coarsest = features[self.first :]
        top = self.pool(coarsest)
        levels = [top]
        for feature, lateral, smooth in zip(
            reversed(finer), reversed(self.laterals), reversed(self.smooth), strict=True
        ):
            top = lateral(feature) + resize(top, _size(feature))
            levels.append(smooth(top))
        stacked = torch.cat([resize(level, _size(top)) for level in reversed(levels)], dim=1)
        return cast(Tensor, self.fuse(stacked))


def _size(features: Tensor) -> tuple[int, int]:
    height, width = features.shape[-2:]
    return height, width
