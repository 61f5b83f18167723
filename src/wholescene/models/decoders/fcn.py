"""FCN: a convolution on the encoder's features, and nothing else."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize

__all__ = ["FCN", "FCNOptions"]


class FCNOptions(DecoderOptions):
    """Options of the FCN decoder.

    Args:
        levels: ``"last"`` reads the coarsest feature map; ``"all"`` brings every map to the size of
            the finest and stacks them, as HRNet is meant to be read.
        channels: Channels of the convolution; ``None`` takes a quarter of its input.
        dropout: Share of channels dropped before the classifier while training.
    """

    levels: Literal["last", "all"] = "last"
    channels: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class FCN(Decoder):
    """3 x 3 convolution, batch norm, ReLU; dropout and 1 x 1 classifier follow in the head.

    Source:
        Long et al. 2015, arXiv:1411.4038, in the form torchvision gives it (``FCNHead``).
    """

    Options: ClassVar[type[DecoderOptions]] = FCNOptions

    def __init__(self, levels: FeatureLevels, options: FCNOptions, num_classes: int) -> None:
        super().__init__()
        del num_classes
        self.reads_all = options.levels == "all"
        in_channels = sum(levels.channels) if self.reads_all else levels.channels[-1]
        self.out_channels = options.channels or max(1, in_channels // 4)
        self.dropout = options.dropout
        self.conv = ConvNormAct(in_channels, self.out_channels, kernel_size=3)
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the map(s) read."""
        if self.reads_all:
            height, width = features[0].shape[-2:]
            stacked = torch.cat([resize(f, (height, width)) for f in features], dim=1)
        else:
            stacked = features[-1]
        return cast(Tensor, self.conv(stacked))
