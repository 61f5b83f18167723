"""Atrous spatial pyramid pooling, of DeepLabV3 and DeepLabV3+."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from wholescene.models.decoders.blocks import ConvNormAct, SeparableConv, check_pooled
from wholescene.models.decoders.levels import resize

__all__ = ["ASPP", "usual_rates"]

REACH_PX = (96, 192, 288)
"""What the published rates 12, 24, 36 mean at output stride 8, in pixels of the image."""


def usual_rates(reduction: int) -> tuple[int, ...]:
    """Rates that reach as far in the image as the published ones do at output stride 8.

    Args:
        reduction: Input pixels per feature pixel.

    Examples:
        >>> usual_rates(8), usual_rates(16), usual_rates(32)
        ((12, 24, 36), (6, 12, 18), (3, 6, 9))
    """
    return tuple(max(1, round(reach / reduction)) for reach in REACH_PX)


class ASPP(nn.Module):
    """A 1 x 1 convolution, dilated 3 x 3 ones and the mean of the image, stacked and merged.

    Args:
        in_channels: Channels in.
        channels: Channels of each branch and of the result.
        rates: Dilation of each 3 x 3 convolution, in feature pixels.
        separable: Whether those are depthwise-separable.
        who: Name of the decoder for messages.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        rates: tuple[int, ...],
        separable: bool,
        who: str,
    ) -> None:
        super().__init__()
        self.who = who
        self.branches = nn.ModuleList([ConvNormAct(in_channels, channels, kernel_size=1)])
        for rate in rates:
            self.branches.append(
                SeparableConv(in_channels, channels, dilation=rate)
                if separable
                else ConvNormAct(in_channels, channels, kernel_size=3, dilation=rate)
            )
        self.image = ConvNormAct(in_channels, channels, kernel_size=1)
        self.merge = ConvNormAct((len(rates) + 2) * channels, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, h, w)."""
        height, width = features.shape[-2:]
        check_pooled(features, 1, self.image, who=self.who)
        image = self.image(features.mean((2, 3), keepdim=True))
        parts = [*(branch(features) for branch in self.branches), resize(image, (height, width))]
        return cast(Tensor, self.merge(torch.cat(parts, dim=1)))
