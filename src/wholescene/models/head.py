"""The last layer: features to logits."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

__all__ = ["Head"]


class Head(nn.Module):
    """Dropout of whole channels, then a convolution with bias.

    Args:
        in_channels: Channels of the decoder.
        num_classes: Classes.
        kernel_size: Odd kernel size in pixels.
        dropout: Share of channels dropped while training.
    """

    def __init__(
        self, in_channels: int, num_classes: int, *, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.drop = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(in_channels, num_classes, kernel_size, padding=kernel_size // 2)
        # Small weights: the first predictions are near even, and so is the first loss.
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, self.classify.bias))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to logits (B, num_classes, h, w)."""
        return cast(Tensor, self.classify(self.drop(features)))
