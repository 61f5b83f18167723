"""The building block every decoder shares."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

__all__ = ["ConvNormAct", "initialise"]


class ConvNormAct(nn.Module):
    """Convolution (no bias), batch norm, ReLU; keeps height and width.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Odd kernel size in pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h, w)."""
        return cast(Tensor, self.act(self.norm(self.conv(features))))


def initialise(module: nn.Module) -> None:
    """Draw convolutions from He's normal distribution for ReLU; norms start as the identity."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
