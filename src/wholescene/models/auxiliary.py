"""A second, small head that trains on one of the encoder's maps and never predicts."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from wholescene.models.decoders import FCN, FCNOptions, FeatureLevels
from wholescene.models.head import Head

__all__ = ["AuxiliaryHead", "AuxiliaryOptions"]


class AuxiliaryOptions(BaseModel):
    """What the auxiliary head reads and is made of.

    Args:
        level: Number of the map, counted from the finest (0), or negative from the coarsest (-1).
        kernel_size: Of its convolution, in pixels.
        channels: Of its convolution; ``None`` takes a quarter of its input for a 3 x 3 kernel, 256
            of 1,024 as PSPNet publishes it, and all of it for 1 x 1.
        dropout: Share of channels dropped before its classifier while training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: int = -2
    kernel_size: Literal[1, 3] = 3
    channels: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class AuxiliaryHead(nn.Module):
    """FCN decoder and head on one map.

    Args:
        levels: Maps of the encoder.
        options: Which of them, and the layers on it.
        num_classes: Classes.
    """

    def __init__(self, levels: FeatureLevels, options: AuxiliaryOptions, num_classes: int) -> None:
        super().__init__()
        self.level = level = options.level
        seen = FeatureLevels(
            encoder=levels.encoder,
            channels=(levels.channels[level],),
            reductions=(levels.reductions[level],),
        )
        made = FCNOptions(
            kernel_size=options.kernel_size, channels=options.channels, dropout=options.dropout
        )
        self.decoder = FCN(seen, made, num_classes)
        self.head = Head(
            self.decoder.out_channels, num_classes, kernel_size=1, dropout=self.decoder.dropout
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to logits at the stride of the one it reads."""
        logits: Tensor = self.head(self.decoder([features[self.level]]))
        return logits
