"""UPerNet: pyramid pooling on the coarsest map, then a feature pyramid."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from wholescene.errors import UnsupportedError
from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize
from wholescene.models.decoders.pspnet import PyramidPooling

__all__ = ["UPerNet", "UPerNetOptions"]

FINEST_STRIDE = 4


class UPerNetOptions(DecoderOptions):
    """Options of the UPerNet decoder.

    Args:
        channels: Channels of every layer.
        bins: Side of each pooled grid, in cells over the whole input.
        dropout: Share of channels dropped before the classifier while training; 0 as published.
        faithful: Resize with aligned corners inside the decoder and hold a convolution that is
            never used (here it is not trained either), as PaddleSeg does.
    """

    channels: int = Field(default=512, ge=1)
    bins: tuple[PositiveInt, ...] = Field(default=(1, 2, 3, 6), min_length=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    faithful: bool = False


class UPerNet(Decoder):
    """Pyramid pooling, top-down sums of 1 x 1 laterals, one 3 x 3 convolution per level, fusion.

    Reads the maps at stride 4 and coarser.

    Source:
        Xiao et al. 2018, arXiv:1807.10221. Every resize has ``align_corners=False``, inside and
        out; PaddleSeg's aligns corners inside and not outside.

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
        self.align_corners = options.faithful
        self.pool = PyramidPooling(
            inputs[-1],
            channels,
            pooled_channels=channels,
            bins=options.bins,
            align_corners=self.align_corners,
            who="UPerNet",
        )
        finer = inputs[:-1]
        self.laterals = nn.ModuleList(ConvNormAct(c, channels, kernel_size=1) for c in finer)
        self.smooth = nn.ModuleList(ConvNormAct(channels, channels, kernel_size=3) for _ in finer)
        self.fuse = ConvNormAct(len(inputs) * channels, channels, kernel_size=3)
        if options.faithful:
            self.unused = ConvNormAct(len(inputs) * channels, channels, kernel_size=3)
            self.unused.requires_grad_(requires_grad=False)
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the finest map read."""
        *finer, coarsest = features[self.first :]
        top = self.pool(coarsest)
        levels = [top]
        for feature, lateral, smooth in zip(
            reversed(finer), reversed(self.laterals), reversed(self.smooth), strict=True
        ):
            top = lateral(feature) + self._grow(top, feature)
            levels.append(smooth(top))
        stacked = torch.cat([self._grow(level, top) for level in reversed(levels)], dim=1)
        return cast(Tensor, self.fuse(stacked))

    def _grow(self, features: Tensor, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        return resize(features, (height, width), align_corners=self.align_corners)
