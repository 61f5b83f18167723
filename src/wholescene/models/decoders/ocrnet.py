"""OCRNet: every pixel is told about the mean of each class it resembles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, read_levels, resize
from wholescene.models.head import Head

__all__ = ["OCRNet", "OCRNetOptions", "ObjectAttention"]

FINEST_STRIDE = 4


class OCRNetOptions(DecoderOptions):
    """Options of the OCRNet decoder.

    Args:
        levels: ``"last two"`` draws regions on the second-coarsest map and refines the coarsest;
            ``"all"`` does both on all maps stacked at the finest, as HRNet is meant to be read.
        channels: Channels of pixels and regions; ``None`` takes a quarter of the map that is
            refined, 512 of 2,048.
        key_channels: Channels of queries and keys; ``None`` takes half of ``channels``.
        dropout: Share of channels dropped before the classifier while training.
        faithful: Read the map at stride 4 for both, as the published benchmark does.
    """

    levels: Literal["last two", "all"] = "last two"
    channels: int | None = Field(default=None, ge=1)
    key_channels: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    faithful: bool = False


class ObjectAttention(nn.Module):
    """Attention of pixels to regions.

    Args:
        channels: Channels of both.
        key_channels: Channels of queries, keys and values.
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.query = _two_layers(channels, key_channels)
        self.key = _two_layers(channels, key_channels)
        self.value = ConvNormAct(channels, key_channels, kernel_size=1)
        self.back = ConvNormAct(key_channels, channels, kernel_size=1)

    def forward(self, pixels: Tensor, regions: Tensor) -> Tensor:
        """Give each pixel its mixture of regions.

        Args:
            pixels: (B, channels, h, w).
            regions: (B, channels, K, 1).

        Returns:
            (B, channels, h, w).
        """
        query = self.query(pixels).flatten(2).transpose(1, 2)
        key, value = self.key(regions).flatten(2), self.value(regions).flatten(2)
        resemblance = torch.softmax(query @ key * key.shape[1] ** -0.5, dim=-1)
        mixed = (resemblance @ value.transpose(1, 2)).transpose(1, 2)
        height, width = pixels.shape[-2:]
        return cast(Tensor, self.back(mixed.reshape(len(pixels), -1, height, width)))


class OCRNet(Decoder):
    """Coarse logits, the mean feature of each of their classes, attention of pixels to those.

    Regions that are drawn on a map of another size are resized to the one refined.

    Source:
        Yuan et al. 2020, arXiv:1909.11065; layers of PaddleSeg. The published benchmark read stage
        1 of a ResNet-50 for both maps, an index that was meant for HRNet.
    """

    Options: ClassVar[type[DecoderOptions]] = OCRNetOptions
    auxiliary_weights: ClassVar[Mapping[str, float]] = {"regions": 0.4}

    def __init__(self, levels: FeatureLevels, options: OCRNetOptions, num_classes: int) -> None:
        super().__init__()
        self.reads_all = options.levels == "all" and not options.faithful
        coarse, fine = _indices(levels, faithful=options.faithful)
        self.indices = coarse, fine
        stacked = sum(levels.channels)
        coarse_channels = stacked if self.reads_all else levels.channels[coarse]
        fine_channels = stacked if self.reads_all else levels.channels[fine]
        channels = options.channels or max(1, fine_channels // 4)
        self.out_channels, self.dropout = channels, options.dropout
        self.before_regions = ConvNormAct(coarse_channels, coarse_channels, kernel_size=1)
        self.pixels = ConvNormAct(fine_channels, channels, kernel_size=3)
        self.attention = ObjectAttention(channels, options.key_channels or max(1, channels // 2))
        self.merge = ConvNormAct(2 * channels, channels, kernel_size=1)
        initialise(self)
        self.heads = nn.ModuleDict(
            {"regions": Head(coarse_channels, num_classes, kernel_size=1, dropout=0.0)}
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the map refined."""
        return self.forward_train(features)[0]

    def forward_train(
        self, features: list[Tensor], target: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As ``forward``, with the logits that draw the regions."""
        del target
        coarse, fine = self._read(features)
        logits = self.heads["regions"](self.before_regions(coarse))
        pixels = self.pixels(fine)
        context = self.attention(pixels, _region_means(pixels, logits))
        return self.merge(torch.cat([context, pixels], dim=1)), {"regions": logits}

    def _read(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        if self.reads_all:
            stacked = read_levels(features, "all")
            return stacked, stacked
        coarse, fine = self.indices
        return features[coarse], features[fine]


def _region_means(pixels: Tensor, logits: Tensor) -> Tensor:
    """Mean of the pixels' features by class, weighted by a softmax over pixels: (B, C, K, 1)."""
    height, width = pixels.shape[-2:]
    share = torch.softmax(resize(logits, (height, width)).flatten(2), dim=-1)
    means = share @ pixels.flatten(2).transpose(1, 2)
    return means.transpose(1, 2).unsqueeze(-1)


def _indices(levels: FeatureLevels, *, faithful: bool) -> tuple[int, int]:
    """Which maps draw the regions and are refined."""
    last = len(levels.channels) - 1
    if faithful:
        finest = next((i for i, r in enumerate(levels.reductions) if r >= FINEST_STRIDE), last)
        return finest, finest
    return max(0, last - 1), last


def _two_layers(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormAct(in_channels, channels, kernel_size=1),
        ConvNormAct(channels, channels, kernel_size=1),
    )
