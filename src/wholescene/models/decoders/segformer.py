"""SegFormer: one linear map per level, and nothing but that."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize
from wholescene.models.decoders.top_down import first_level, size_of

__all__ = ["SegFormer", "SegFormerOptions"]


class SegFormerOptions(DecoderOptions):
    """Options of the SegFormer decoder.

    Args:
        channels: Channels of each level, and of the fused map; published are 256 for MiT-B0 and
            B1, 768 for the larger ones.
        dropout: Share of channels dropped before the classifier while training.
    """

    channels: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class SegFormer(Decoder):
    """Linear map of each level to ``channels``, resize to the finest, stack, 1 x 1 convolution.

    Reads the maps at stride 4 and coarser.

    Source:
        Xie et al. 2021, arXiv:2105.15203. Linear maps are written as 1 x 1 convolutions; the
        stack has the coarsest level first, as published.

    Raises:
        UnsupportedError: If the encoder has one scale.
    """

    Options: ClassVar[type[DecoderOptions]] = SegFormerOptions

    def __init__(self, levels: FeatureLevels, options: SegFormerOptions, num_classes: int) -> None:
        super().__init__()
        del num_classes
        self.first = first_level(levels, "SegFormer")
        inputs, channels = levels.channels[self.first :], options.channels
        self.out_channels, self.dropout = channels, options.dropout
        self.project = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in inputs)
        self.fuse = ConvNormAct(len(inputs) * channels, channels, kernel_size=1)
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the finest map read."""
        seen = features[self.first :]
        size = size_of(seen[0])
        levels = [resize(p(f), size) for p, f in zip(self.project, seen, strict=True)]
        return cast(Tensor, self.fuse(torch.cat(levels[::-1], dim=1)))
