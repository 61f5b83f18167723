"""Linear: nothing between the encoder's features and the classifier but a norm."""

from __future__ import annotations

from typing import ClassVar, cast

from pydantic import Field
from torch import Tensor, nn

from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, LevelChoice, read_levels

__all__ = ["Linear", "LinearOptions"]


class LinearOptions(DecoderOptions):
    """Options of the linear decoder.

    Args:
        levels: ``"all"`` brings every feature map to the size of the finest and stacks them;
            ``"last"`` reads the coarsest.
        dropout: Share of channels dropped before the classifier while training.
    """

    levels: LevelChoice = "all"
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Linear(Decoder):
    """Batch norm, which makes features of any scale learnable at one rate; the head classifies.

    In prediction norm and 1 x 1 classifier are one linear map of the features, so that with
    ``train.freeze: encoder`` this is a linear probe.
    """

    Options: ClassVar[type[DecoderOptions]] = LinearOptions

    def __init__(self, levels: FeatureLevels, options: LinearOptions, num_classes: int) -> None:
        super().__init__()
        del num_classes
        self.levels: LevelChoice = options.levels
        self.reads_all = options.levels == "all"
        self.out_channels, self.dropout = levels.channels_of(self.levels), options.dropout
        self.norm = nn.BatchNorm2d(self.out_channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the map(s) read."""
        return cast(Tensor, self.norm(read_levels(features, self.levels)))
