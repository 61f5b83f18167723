"""FCN: a convolution on the encoder's features, and nothing else."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

from pydantic import Field
from torch import Tensor, nn

from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, LevelChoice, read_levels

__all__ = ["FCN", "FCNOptions"]


class FCNOptions(DecoderOptions):
    """Options of the FCN decoder.

    Args:
        levels: ``"last"`` reads the coarsest feature map; ``"all"`` brings every map to the size of
            the finest and stacks them, as HRNet is meant to be read.
        kernel_size: Of the convolution, in pixels; 1 is the published form on HRNet.
        channels: Channels of the convolution; ``None`` takes a quarter of its input for a 3 x 3
            kernel, and all of it for 1 x 1.
        dropout: Share of channels dropped before the classifier while training; 0 as published.
        faithful: Give the convolution a bias, which the norm after it cancels, and draw its weights
            from N(0, 0.001), as PaddleSeg does.
    """

    levels: LevelChoice = "last"
    kernel_size: Literal[1, 3] = 3
    channels: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    faithful: bool = False


class FCN(Decoder):
    """Convolution, batch norm, ReLU; dropout and 1 x 1 classifier follow in the head.

    Source:
        Long et al. 2015, arXiv:1411.4038, in the form torchvision gives it (``FCNHead``); with
        ``kernel_size=1``, ``levels="all"`` and ``dropout=0`` in that of Wang et al. 2020,
        arXiv:1908.07919, for HRNet.
    """

    Options: ClassVar[type[DecoderOptions]] = FCNOptions

    def __init__(self, levels: FeatureLevels, options: FCNOptions, num_classes: int) -> None:
        super().__init__()
        del num_classes
        self.levels: LevelChoice = options.levels
        self.reads_all = options.levels == "all"
        in_channels, kernel_size = levels.channels_of(self.levels), options.kernel_size
        usual = in_channels if kernel_size == 1 else max(1, in_channels // 4)
        self.out_channels = options.channels or usual
        self.dropout = options.dropout
        self.conv = ConvNormAct(in_channels, self.out_channels, kernel_size=kernel_size)
        initialise(self)
        if options.faithful:
            self.conv.conv.bias = nn.Parameter(self.conv.conv.weight.new_zeros(self.out_channels))
            nn.init.normal_(self.conv.conv.weight, std=0.001)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the map(s) read."""
        return cast(Tensor, self.conv(read_levels(features, self.levels)))
