"""What every decoder offers, and how its options are checked."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

__all__ = ["Decoder", "DecoderOptions"]


class DecoderOptions(BaseModel):
    """Base of the options of one decoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Decoder(nn.Module):
    """Feature maps of an encoder to one feature map.

    A subclass is built as ``Name(levels, options)``, sets ``out_channels`` and ``dropout``, and
    maps ``features`` (finest first, as its levels say) to (B, out_channels, h, w) with any stride.
    """

    Options: ClassVar[type[DecoderOptions]]
    head_kernel_size: ClassVar[int] = 1

    out_channels: int
    dropout: float

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map the encoder's feature maps to one."""
        raise NotImplementedError
