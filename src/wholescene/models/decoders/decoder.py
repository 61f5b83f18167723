"""What every decoder offers, and how its options are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

__all__ = ["Decoder", "DecoderOptions"]


class DecoderOptions(BaseModel):
    """Base of the options of one decoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Decoder(nn.Module):
    """Feature maps of an encoder to one feature map.

    A subclass is built as ``Name(levels, options, num_classes)``, sets ``out_channels`` and
    ``dropout``, and maps ``features`` (finest first, as its levels say) to (B, out_channels, h, w)
    with any stride. One that ``makes_logits`` maps to logits (B, num_classes, h, w) instead, and
    gets no head.
    """

    Options: ClassVar[type[DecoderOptions]]
    head_kernel_size: ClassVar[int] = 1
    makes_logits: ClassVar[bool] = False
    auxiliary_weights: ClassVar[Mapping[str, float]] = {}
    """Usual weight of each further map of logits, or loss, that ``forward_train`` gives."""
    has_own_loss: ClassVar[bool] = False
    """Whether ``forward_train`` gives a loss, for which it wants the labels."""
    reads_all: bool = True
    """Whether every map is read; where not, parallel streams would have layers that never train."""

    out_channels: int
    dropout: float

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map the encoder's feature maps to one."""
        raise NotImplementedError

    def forward_train(
        self, features: list[Tensor], target: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As ``forward``, with what else trains.

        Args:
            features: As for ``forward``.
            target: Class indices (B, H, W) at the size of the padded image, for decoders with a
                loss of their own.

        Returns:
            What ``forward`` gives, and by name further logits (B, num_classes, h, w) or losses
            that are added as they are (scalars).
        """
        del target
        return self(features), {}
