"""DANet: attention between positions and between channels of the coarsest map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, LevelChoice, read_levels
from wholescene.models.head import Head

__all__ = ["ChannelAttention", "DANet", "DANetOptions", "PositionAttention"]


class DANetOptions(DecoderOptions):
    """Options of the DANet decoder.

    Args:
        levels: ``"last"`` reads the coarsest feature map, ``"all"`` all maps stacked.
        channels: Channels of every layer; ``None`` takes a quarter of the input, 512 of 2,048.
        dropout: Share of channels dropped before each classifier while training.
        faithful: Pass the position branch through the classifier of the channel branch, and keep
            its own, which never trains, as PaddleSeg does.
    """

    levels: LevelChoice = "last"
    channels: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    faithful: bool = False


class PositionAttention(nn.Module):
    """Every position takes from all others what resembles it; at first the identity.

    Args:
        channels: Channels in and out; queries and keys have an eighth.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        key_channels = max(1, channels // 8)
        self.query = nn.Conv2d(channels, key_channels, 1)
        self.key = nn.Conv2d(channels, key_channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, h, w) to the same shape."""
        query, key, value = (
            part(features).flatten(2).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return features + self.scale * mixed.transpose(1, 2).reshape(features.shape)


class ChannelAttention(nn.Module):
    """Every channel takes from all others, most from those unlike it; at first the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        flat = features.flatten(2)
        energy = flat @ flat.transpose(1, 2)
        # Published as the softmax of (largest of the row - energy), which is the same.
        mixed = torch.softmax(-energy, dim=-1) @ flat
        return features + self.scale * mixed.reshape(features.shape)


class DANet(Decoder):
    """Both attentions between 3 x 3 convolutions, added up; dropout and classifier in the head.

    While training, each attention and the map before them have a classifier of their own.

    Source:
        Fu et al. 2019, arXiv:1809.02983, with PaddleSeg's extra classifiers and weights. Not
        repeated: its last resize, which maps pixel corners to pixel centres.
    """

    Options: ClassVar[type[DecoderOptions]] = DANetOptions
    auxiliary_weights: ClassVar[Mapping[str, float]] = {
        "channel": 1.0,
        "position": 1.0,
        "coarsest": 0.4,
    }

    def __init__(self, levels: FeatureLevels, options: DANetOptions, num_classes: int) -> None:
        super().__init__()
        self.levels: LevelChoice = options.levels
        self.reads_all = options.levels == "all"
        in_channels = levels.channels_of(self.levels)
        channels = options.channels or max(1, in_channels // 4)
        self.out_channels, self.dropout = channels, options.dropout
        self.position = nn.Sequential(
            ConvNormAct(in_channels, channels, kernel_size=3), PositionAttention(channels)
        )
        self.channel = nn.Sequential(
            ConvNormAct(in_channels, channels, kernel_size=3), ChannelAttention()
        )
        self.after_position = ConvNormAct(channels, channels, kernel_size=3)
        self.after_channel = ConvNormAct(channels, channels, kernel_size=3)
        initialise(self)
        self.heads = nn.ModuleDict(
            {
                name: Head(width, num_classes, kernel_size=1, dropout=options.dropout)
                for name, width in (
                    ("channel", channels),
                    ("position", channels),
                    ("coarsest", in_channels),
                )
            }
        )
        self.position_head = "channel" if options.faithful else "position"
        if options.faithful:
            self.heads["position"].requires_grad_(requires_grad=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the map(s) read."""
        position, channel = self._branches(read_levels(features, self.levels))
        return position + channel

    def forward_train(
        self, features: list[Tensor], target: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As ``forward``, with logits of each attention and of the map before them."""
        del target
        read = read_levels(features, self.levels)
        position, channel = self._branches(read)
        further = {
            "channel": self.heads["channel"](channel),
            "position": self.heads[self.position_head](position),
            "coarsest": self.heads["coarsest"](read),
        }
        return position + channel, further

    def _branches(self, read: Tensor) -> tuple[Tensor, Tensor]:
        position = self.after_position(self.position(read))
        channel = self.after_channel(self.channel(read))
        return cast(Tensor, position), cast(Tensor, channel)
