"""The building blocks decoders share."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wholescene.errors import InputError

__all__ = ["ConvNormAct", "SeparableConv", "check_pooled", "initialise"]


class ConvNormAct(nn.Module):
    """Convolution (no bias), batch norm, ReLU; keeps height and width.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Odd kernel size in pixels.
        dilation: Distance between the kernel's taps in pixels.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h, w)."""
        return cast(Tensor, self.act(self.norm(self.conv(features))))


class SeparableConv(nn.Module):
    """Depthwise 3 x 3 convolution and batch norm, then a 1 x 1 convolution, batch norm, ReLU.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        dilation: Distance between the depthwise kernel's taps in pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels,
            in_channels,
            3,
            padding=dilation,
            dilation=dilation,
            groups=in_channels,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(in_channels)
        self.pointwise = ConvNormAct(in_channels, out_channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h, w)."""
        return cast(Tensor, self.pointwise(self.norm(self.depthwise(features))))


def check_pooled(features: Tensor, cells: int, layers: nn.Module, *, who: str) -> None:
    """Check that a batch norm on pooled features sees two values or more while training.

    Args:
        features: (B, C, h, w), not pooled yet.
        cells: Values that pooling leaves of each patch and channel.
        layers: What works on them.
        who: Name of the decoder for the message.

    Raises:
        InputError: If it sees one.
    """
    parts = layers.modules()
    if len(features) * cells < 2 and any(isinstance(p, _BatchNorm) and p.training for p in parts):
        raise InputError(
            f"{who} pools each patch to one value before a batch norm, which cannot train on "
            "1 patch per device; raise data.batch_size to 2 or more, or set train.freeze_norm: all"
        )


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
