"""PSPNet: averages over grids of a few cells, stacked onto the coarsest map."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from wholescene.models.decoders.blocks import ConvNormAct, check_pooled, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, LevelChoice, read_levels, resize

__all__ = ["PSPNet", "PSPNetOptions", "PyramidPooling"]


class PyramidPooling(nn.Module):
    """Average a map over grids of a few cells, and stack the averages onto it.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        pooled_channels: Channels of each grid.
        bins: Cells along each side of each grid.
        align_corners: How the averages are brought back to size.
        who: Name of the decoder for messages.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        pooled_channels: int,
        bins: tuple[int, ...],
        align_corners: bool = False,
        who: str,
    ) -> None:
        super().__init__()
        self.bins = bins
        self.align_corners = align_corners
        self.who = who
        self.reduce = nn.ModuleList(
            ConvNormAct(in_channels, pooled_channels, kernel_size=1) for _ in bins
        )
        stacked = in_channels + len(bins) * pooled_channels
        self.merge = ConvNormAct(stacked, out_channels, kernel_size=3)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h, w)."""
        height, width = features.shape[-2:]
        check_pooled(features, min(self.bins) ** 2, self.reduce, who=self.who)
        pooled = [
            resize(
                reduce(F.adaptive_avg_pool2d(features, bins)),
                (height, width),
                align_corners=self.align_corners,
            )
            for reduce, bins in zip(self.reduce, self.bins, strict=True)
        ]
        return cast(Tensor, self.merge(torch.cat([features, *pooled], dim=1)))


class PSPNetOptions(DecoderOptions):
    """Options of the PSPNet decoder.

    Args:
        levels: ``"last"`` reads the coarsest feature map, ``"all"`` all maps stacked.
        channels: Channels after pooling; ``None`` takes half of the input, 1,024 of 2,048.
        bins: Side of each pooled grid, in cells over the whole input. Together the grids have as
            many channels as the input.
        dropout: Share of channels dropped before the classifier while training.
    """

    levels: LevelChoice = "last"
    channels: int | None = Field(default=None, ge=1)
    bins: tuple[PositiveInt, ...] = Field(default=(1, 2, 3, 6), min_length=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class PSPNet(Decoder):
    """Pyramid pooling, then a 3 x 3 convolution.

    Source:
        Zhao et al. 2017, arXiv:1612.01105; widths of PaddleSeg (1,024 after pooling, where the
        authors have 512). Its auxiliary head is ``model.auxiliary``.
    """

    Options: ClassVar[type[DecoderOptions]] = PSPNetOptions

    def __init__(self, levels: FeatureLevels, options: PSPNetOptions, num_classes: int) -> None:
        super().__init__()
        del num_classes
        self.levels: LevelChoice = options.levels
        self.reads_all = options.levels == "all"
        in_channels = levels.channels_of(self.levels)
        self.out_channels = options.channels or max(1, in_channels // 2)
        self.dropout = options.dropout
        self.pool = PyramidPooling(
            in_channels,
            self.out_channels,
            pooled_channels=max(1, in_channels // len(options.bins)),
            bins=options.bins,
            who="PSPNet",
        )
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the map(s) read."""
        return cast(Tensor, self.pool(read_levels(features, self.levels)))
