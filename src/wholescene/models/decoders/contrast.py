"""FCN whose features also learn to be alike within a class and unlike between classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from wholescene.losses.pixel_contrast import PixelContrast
from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, LevelChoice, read_levels
from wholescene.models.head import Head

__all__ = ["Contrast", "ContrastOptions"]


class ContrastOptions(DecoderOptions):
    """Options of the decoder with pixel contrast.

    Args:
        levels: ``"all"`` stacks every feature map at the size of the finest, as HRNet is meant to
            be read; ``"last"`` reads the coarsest.
        channels: Channels before the classifier; ``None`` takes those of the input.
        embedding_channels: Length of the vectors that are compared; ``None`` takes those of the
            input.
        temperature: The smaller, the more the nearest vectors count.
        max_anchors: Vectors compared per batch, at most.
        min_pixels: A class of an image counts if it has more than this many feature pixels.
        dropout: Share of channels dropped before the classifier while training.
    """

    levels: LevelChoice = "all"
    channels: int | None = Field(default=None, ge=1)
    embedding_channels: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.1, gt=0)
    max_anchors: int = Field(default=1024, ge=2)
    min_pixels: int = Field(default=100, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class Contrast(Decoder):
    """3 x 3 convolution and classifier; beside them a projection that only trains.

    Source:
        Wang et al. 2021, arXiv:2101.11939, in PaddleSeg's form for HRNet, without a memory of
        earlier batches. Its classifier has no bias; ours starts at 0.
    """

    Options: ClassVar[type[DecoderOptions]] = ContrastOptions
    makes_logits: ClassVar[bool] = True
    has_own_loss: ClassVar[bool] = True
    auxiliary_weights: ClassVar[Mapping[str, float]] = {"contrast": 0.1}

    def __init__(self, levels: FeatureLevels, options: ContrastOptions, num_classes: int) -> None:
        super().__init__()
        self.levels: LevelChoice = options.levels
        self.reads_all = options.levels == "all"
        in_channels = levels.channels_of(self.levels)
        channels = options.channels or in_channels
        self.out_channels, self.dropout = num_classes, options.dropout
        self.conv = ConvNormAct(in_channels, channels, kernel_size=3)
        self.project = nn.Sequential(
            ConvNormAct(in_channels, in_channels, kernel_size=1),
            nn.Conv2d(in_channels, options.embedding_channels or in_channels, 1),
        )
        initialise(self)
        self.heads = nn.ModuleDict(
            {"out": Head(channels, num_classes, kernel_size=1, dropout=options.dropout)}
        )
        self.loss = PixelContrast(
            temperature=options.temperature,
            max_anchors=options.max_anchors,
            min_pixels=options.min_pixels,
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to logits (B, num_classes, h, w) at the stride of the map(s) read."""
        return self._classify(read_levels(features, self.levels))

    def forward_train(
        self, features: list[Tensor], target: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As ``forward``, with the contrast between pixels where a target is given."""
        read = read_levels(features, self.levels)
        logits = self._classify(read)
        if target is None:
            return logits, {}
        embeddings = F.normalize(self.project(read), dim=1)
        return logits, {"contrast": self.loss(embeddings, logits.argmax(1), target)}

    def _classify(self, read: Tensor) -> Tensor:
        return cast(Tensor, self.heads["out"](self.conv(read)))
