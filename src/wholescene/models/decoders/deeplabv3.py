"""DeepLabV3: atrous spatial pyramid pooling on the coarsest map."""

from __future__ import annotations

from typing import ClassVar, cast

from pydantic import Field, PositiveInt
from torch import Tensor

from wholescene.models.decoders.aspp import ASPP, usual_rates
from wholescene.models.decoders.blocks import initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, LevelChoice, read_levels

__all__ = ["DeepLabV3", "DeepLabV3Options"]


class DeepLabV3Options(DecoderOptions):
    """Options of the DeepLabV3 decoder.

    Args:
        levels: ``"last"`` reads the coarsest feature map, ``"all"`` all maps stacked.
        channels: Channels of every layer.
        rates: Dilation of each 3 x 3 convolution, in feature pixels, each >= 1; ``None`` reaches
            the same distance in the image whatever the output stride: 12, 24, 36 at 8.
        separable: Whether those convolutions are depthwise-separable.
        dropout: Share of channels dropped before the classifier while training.
    """

    levels: LevelChoice = "last"
    channels: int = Field(default=256, ge=1)
    rates: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)
    separable: bool = False
    dropout: float = Field(default=0.1, ge=0, lt=1)


class DeepLabV3(Decoder):
    """Atrous spatial pyramid pooling; dropout and 1 x 1 classifier follow in the head.

    Source:
        Chen et al. 2017, arXiv:1706.05587. torchvision's head adds a 3 x 3 convolution.
    """

    Options: ClassVar[type[DecoderOptions]] = DeepLabV3Options

    def __init__(self, levels: FeatureLevels, options: DeepLabV3Options, num_classes: int) -> None:
        super().__init__()
        del num_classes
        self.levels: LevelChoice = options.levels
        self.reads_all = options.levels == "all"
        self.out_channels, self.dropout = options.channels, options.dropout
        self.aspp = ASPP(
            levels.channels_of(self.levels),
            options.channels,
            rates=options.rates or usual_rates(levels.reduction_of(self.levels)),
            separable=options.separable,
            who="DeepLabV3",
        )
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the map(s) read."""
        return cast(Tensor, self.aspp(read_levels(features, self.levels)))
