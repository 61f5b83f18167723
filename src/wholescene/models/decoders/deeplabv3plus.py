"""DeepLabV3+: atrous spatial pyramid pooling, refined with the map at stride 4."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from wholescene.errors import UnsupportedError
from wholescene.models.decoders.aspp import ASPP, usual_rates
from wholescene.models.decoders.blocks import ConvNormAct, SeparableConv, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize

__all__ = ["DeepLabV3Plus", "DeepLabV3PlusOptions"]

LOW_STRIDE = 4


class DeepLabV3PlusOptions(DecoderOptions):
    """Options of the DeepLabV3+ decoder.

    Args:
        channels: Channels of every layer but the low-level one.
        low_channels: Channels that the map at stride 4 is reduced to.
        rates: Dilation of each 3 x 3 convolution, in feature pixels, each >= 1; ``None`` reaches
            the same distance in the image whatever the output stride: 12, 24, 36 at 8.
        separable: Whether the 3 x 3 convolutions are depthwise-separable.
        aspp_dropout: Share of values dropped after the pyramid pooling while training.
        dropout: Share of channels dropped before the classifier while training.
    """

    channels: int = Field(default=256, ge=1)
    low_channels: int = Field(default=48, ge=1)
    rates: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)
    separable: bool = True
    aspp_dropout: float = Field(default=0.1, ge=0, lt=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class DeepLabV3Plus(Decoder):
    """Pyramid pooling brought to stride 4, stacked with the map there, two 3 x 3 convolutions.

    Source:
        Chen et al. 2018, arXiv:1802.02611, with PaddleSeg's separable convolutions (a batch norm
        between the depthwise and the 1 x 1 one). Its rates are 12, 24, 36 at every output stride,
        so that at 32 most taps of a 512 px patch fall into the padding; give ``rates`` for that.

    Raises:
        UnsupportedError: If the encoder has no map between stride 4 and its coarsest.
    """

    Options: ClassVar[type[DecoderOptions]] = DeepLabV3PlusOptions
    reads_all = False

    def __init__(
        self, levels: FeatureLevels, options: DeepLabV3PlusOptions, num_classes: int
    ) -> None:
        super().__init__()
        del num_classes
        self.low = _low_level(levels)
        channels, low_channels = options.channels, options.low_channels
        self.out_channels, self.dropout = channels, options.dropout
        self.aspp = ASPP(
            levels.channels[-1],
            channels,
            rates=options.rates or usual_rates(levels.reductions[-1]),
            separable=options.separable,
            who="DeepLabV3+",
        )
        self.drop = nn.Dropout(options.aspp_dropout)
        self.reduce = ConvNormAct(levels.channels[self.low], low_channels, kernel_size=1)
        self.refine = nn.Sequential(
            _conv(channels + low_channels, channels, separable=options.separable),
            _conv(channels, channels, separable=options.separable),
        )
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at stride 4."""
        low = self.reduce(features[self.low])
        height, width = low.shape[-2:]
        context = resize(self.drop(self.aspp(features[-1])), (height, width))
        return cast(Tensor, self.refine(torch.cat([context, low], dim=1)))


def _conv(in_channels: int, out_channels: int, *, separable: bool) -> nn.Module:
    if separable:
        return SeparableConv(in_channels, out_channels)
    return ConvNormAct(in_channels, out_channels, kernel_size=3)


def _low_level(levels: FeatureLevels) -> int:
    """Index of the finest map at stride 4 or coarser, which must be finer than the coarsest."""
    for i, reduction in enumerate(levels.reductions):
        if LOW_STRIDE <= reduction < levels.reductions[-1]:
            return i
    raise UnsupportedError(
        f"encoder {levels.encoder!r} gives features at strides {levels.reductions}, and DeepLabV3+ "
        "needs a map at stride 4 or coarser that is finer than the last; choose an encoder with a "
        "pyramid, such as 'resnet50', or model.decoder = 'deeplabv3'"
    )
