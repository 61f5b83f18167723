"""SETR: a plain transformer's map, enlarged in one step or in several."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize
from wholescene.models.decoders.top_down import size_of

__all__ = ["SETR", "SETROptions"]


class SETROptions(DecoderOptions):
    """Options of the SETR decoder.

    Args:
        form: ``"naive"`` is one 1 x 1 convolution; ``"pup"`` (progressive upsampling) alternates
            3 x 3 convolutions and doublings until the size of the image is reached.
        channels: Channels of every convolution.
        dropout: Share of channels dropped before the classifier while training.
    """

    form: Literal["naive", "pup"] = "pup"
    channels: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class SETR(Decoder):
    """Layer norm of the last map, then convolutions, with or without doublings between them.

    Source:
        Zheng et al. 2021, arXiv:2012.15840. The stride need not be 16: there are as many doublings
        as fit into it, and the logits are brought to the image's size like everybody's.
    """

    Options: ClassVar[type[DecoderOptions]] = SETROptions

    def __init__(self, levels: FeatureLevels, options: SETROptions, num_classes: int) -> None:
        super().__init__()
        del num_classes
        in_channels, channels = levels.channels[-1], options.channels
        self.out_channels, self.dropout = channels, options.dropout
        self.reads_all = len(levels.channels) == 1
        self.grows = options.form == "pup"
        self.norm = nn.LayerNorm(in_channels, eps=1e-6)
        steps = max(1, levels.reductions[-1].bit_length() - 1) if self.grows else 1
        self.convs = nn.ModuleList(
            ConvNormAct(in_channels if i == 0 else channels, channels, kernel_size=size)
            for i, size in enumerate((3 if self.grows else 1,) * steps)
        )
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w), at the image's size if ``"pup"``."""
        out: Tensor = self.norm(features[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for conv in self.convs:
            out = conv(out)
            if self.grows:
                height, width = size_of(out)
                out = resize(out, (2 * height, 2 * width))
        return out
