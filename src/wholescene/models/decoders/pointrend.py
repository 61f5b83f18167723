"""PointRend: a coarse map, refined pixel by pixel by a small network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from wholescene.losses.point import labels_at, point_cross_entropy, sample_at, uncertain_points
from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize
from wholescene.models.decoders.top_down import TopDown, first_level, size_of

__all__ = ["PointRend", "PointRendOptions"]


class PointRendOptions(DecoderOptions):
    """Options of the PointRend decoder.

    Args:
        channels: Channels of the feature pyramid and of the point network.
        coarse_channels: Channels of the coarse head.
        layers: Hidden layers of the point network.
        points: Points per image that the point network trains on.
        oversample: Points drawn for each point kept, from which the least certain are taken.
        importance: Share of the points that are taken for being uncertain.
        scale: Refined pixels per pixel of the finest map read, along each side; ``None`` refines
            every pixel of the image.
    """

    channels: int = Field(default=256, ge=1)
    coarse_channels: int = Field(default=128, ge=1)
    layers: int = Field(default=3, ge=1)
    points: int = Field(default=2048, ge=1)
    oversample: float = Field(default=3.0, ge=1)
    importance: float = Field(default=0.75, ge=0, le=1)
    scale: int | None = Field(default=None, ge=1)


class PointNetwork(nn.Module):
    """Features and coarse logits of points to logits; each layer sees the coarse logits again."""

    def __init__(self, in_channels: int, num_classes: int, *, channels: int, layers: int) -> None:
        super().__init__()
        widths = (in_channels, *(channels,) * layers)
        self.hidden = nn.ModuleList(nn.Linear(w + num_classes, channels) for w in widths[:-1])
        self.classify = nn.Linear(channels + num_classes, num_classes)

    def forward(self, features: Tensor, coarse: Tensor) -> Tensor:
        """Map (B, ..., in_channels) and (B, ..., K) to logits (B, ..., K)."""
        for layer in self.hidden:
            features = F.relu(layer(torch.cat([features, coarse], dim=-1)))
        return cast(Tensor, self.classify(torch.cat([features, coarse], dim=-1)))


class PointRend(Decoder):
    """Semantic FPN for coarse logits, and a point network on them and the pyramid's finest map.

    While training, the coarse logits are the output, and the point network gives a loss of its own
    at points where the coarse logits are uncertain. To predict, the point network is applied to
    every pixel. The published subdivision applies it to the least certain ones of each doubling
    only, which depends on the whole image; with as many points as there are pixels it gives what
    this gives.

    Reads the maps at stride 4 and coarser.

    Source:
        Kirillov et al. 2020, arXiv:1912.08193; coarse head of Kirillov et al. 2019,
        arXiv:1901.02446, with one convolution per level instead of one per doubling.

    Raises:
        UnsupportedError: If the encoder has one scale.
    """

    Options: ClassVar[type[DecoderOptions]] = PointRendOptions
    makes_logits: ClassVar[bool] = True
    has_own_loss: ClassVar[bool] = True
    auxiliary_weights: ClassVar[Mapping[str, float]] = {"points": 1.0}

    def __init__(self, levels: FeatureLevels, options: PointRendOptions, num_classes: int) -> None:
        super().__init__()
        self.options = options
        self.out_channels, self.dropout = num_classes, 0.0
        self.first = first_level(levels, "PointRend")
        inputs = levels.channels[self.first :]
        self.scale = options.scale or levels.reductions[self.first]
        self.pyramid = TopDown(inputs, options.channels)
        self.level_heads = nn.ModuleList(
            ConvNormAct(options.channels, options.coarse_channels, kernel_size=3) for _ in inputs
        )
        self.classify = nn.Conv2d(options.coarse_channels, num_classes, 1)
        self.points = PointNetwork(
            options.channels, num_classes, channels=options.channels, layers=options.layers
        )
        initialise(self)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.normal_(self.points.classify.weight, std=0.001)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to logits (B, K, h, w), each refined by the point network."""
        fine, coarse = self._coarse(features)
        height, width = (side * self.scale for side in size_of(fine))
        seen = (resize(part, (height, width)).permute(0, 2, 3, 1) for part in (fine, coarse))
        return cast(Tensor, self.points(*seen).permute(0, 3, 1, 2))

    def forward_train(
        self, features: list[Tensor], target: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Give coarse logits, and with a target the loss ``"points"`` of the point network."""
        fine, coarse = self._coarse(features)
        if target is None:
            return coarse, {}
        where = uncertain_points(
            coarse.detach(),
            self.options.points,
            oversample=self.options.oversample,
            importance=self.options.importance,
        )
        seen = (sample_at(part, where).transpose(1, 2) for part in (fine, coarse))
        logits = self.points(*seen).transpose(1, 2)
        return coarse, {"points": point_cross_entropy(logits, labels_at(target, where))}

    def _coarse(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Finest map of the pyramid, and coarse logits of its size."""
        levels = self.pyramid(features[self.first :])
        size = size_of(levels[0])
        parts = [
            resize(head(level), size) for head, level in zip(self.level_heads, levels, strict=True)
        ]
        return levels[0], self.classify(torch.stack(parts).sum(0))
