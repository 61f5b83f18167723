"""STDC encoders, which timm lacks; they are entered among its models, and built as those are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from wholescene.models.decoders.blocks import initialise

__all__ = ["STDCNet"]

PARTS = 4
"""Convolutions whose maps a module stacks."""
CHANNELS = (256, 512, 1024)
"""Of the stages at strides 8, 16 and 32."""

default_cfgs = generate_default_cfgs(
    {name: {"first_conv": "features.0.conv", "classifier": ()} for name in ("stdc1", "stdc2")}
)


class ConvUnit(nn.Module):
    """Convolution (no bias), batch norm, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h / stride, w / stride)."""
        return cast(Tensor, self.relu(self.bn(self.conv(features))))


class ConcatModule(nn.Module):
    """A 1 x 1 and three 3 x 3 convolutions in a row, each with half the channels, stacked.

    Args:
        in_channels: Channels in.
        out_channels: Channels out, of which the four have a half, a quarter, an eighth and an
            eighth.
        stride: 1, or 2 to halve the map: the first part is averaged, the second reads it through
            a depthwise convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        widths = [out_channels // 2 ** min(part, PARTS - 1) for part in range(1, PARTS + 1)]
        first = ConvUnit(in_channels, widths[0], kernel_size=1)
        others = [ConvUnit(a, b) for a, b in pairwise(widths)]
        self.conv_list = nn.ModuleList([first, *others])
        self.avd_layer: nn.Module = nn.Identity()
        self.skip: nn.Module = nn.Identity()
        if stride == 2:
            self.avd_layer = nn.Sequential(
                nn.Conv2d(
                    widths[0], widths[0], 3, stride=2, padding=1, groups=widths[0], bias=False
                ),
                nn.BatchNorm2d(widths[0]),
            )
            self.skip = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h / stride, w / stride)."""
        first = self.conv_list[0](features)
        maps, last = [self.skip(first)], self.avd_layer(first)
        for part in self.conv_list[1:]:
            last = part(last)
            maps.append(last)
        return torch.cat(maps, 1)


class STDCNet(nn.Module):
    """Short-term dense concatenate network, without the classifier.

    Its tensors have the names of the published files.

    Args:
        depths: Modules at strides 8, 16 and 32.
        in_chans: Bands.
        num_classes: As timm asks of every model; only 0, for there is no classifier.

    Source:
        Fan et al. 2021, arXiv:2104.13188.
    """

    def __init__(self, depths: tuple[int, ...], in_chans: int = 3, num_classes: int = 0) -> None:
        super().__init__()
        if num_classes:
            raise ValueError(f"no classifier for num_classes = {num_classes}")
        self.num_classes = num_classes
        layers: list[nn.Module] = [ConvUnit(in_chans, 32, stride=2), ConvUnit(32, 64, stride=2)]
        ends, last = [0, 1], 64
        for channels, depth in zip(CHANNELS, depths, strict=True):
            for number in range(depth):
                layers.append(ConcatModule(last, channels, stride=1 if number else 2))
                last = channels
            ends.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self.feature_info = [
            {"num_chs": channels, "reduction": 2 << level, "module": f"features.{end}"}
            for level, (end, channels) in enumerate(zip(ends, (32, 64, *CHANNELS), strict=True))
        ]
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_chans, H, W) to (B, 1024, H / 32, W / 32)."""
        return cast(Tensor, self.features(image))

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Say which layer a parameter belongs to, as timm's layer decay asks."""
        del coarse
        return {"blocks": r"^features\.(\d+)"}


def _build(variant: str, depths: tuple[int, ...], pretrained: bool, **options: Any) -> nn.Module:
    options.setdefault("num_classes", 0)
    net: nn.Module = build_model_with_cfg(
        STDCNet,
        variant,
        pretrained,
        feature_cfg={"flatten_sequential": True},
        depths=depths,
        **options,
    )
    return net


@register_model
def stdc1(pretrained: bool = False, **options: Any) -> nn.Module:
    """Two modules in each stage."""
    return _build("stdc1", (2, 2, 2), pretrained, **options)


@register_model
def stdc2(pretrained: bool = False, **options: Any) -> nn.Module:
    """Four, five and three modules."""
    return _build("stdc2", (4, 5, 3), pretrained, **options)
