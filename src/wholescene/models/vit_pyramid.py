"""Several scales from a plain vision transformer, which has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from wholescene.errors import ConfigError

__all__ = ["PyramidNeck", "build_neck", "split_pyramid"]

NUM_LEVELS = 4
DEPTHS = (1 / 3, 1 / 2, 2 / 3, 1.0)
"""Parts of the depth after which the four maps are taken, finest first. Where two fall on one
block, all four are made from the last."""


class PyramidNeck(nn.Module):
    """Maps of one stride to four: enlarged by 4 and by 2, as it is, and halved.

    Args:
        channels: Channels of the four maps, which stay.
        stride: Input pixels per pixel of each; a multiple of 4.

    Source:
        Li et al. 2022, arXiv:2203.16527 (simple feature pyramid, where all four maps are the last
        one), and Bao et al. 2022, arXiv:2106.08254 (maps of four depths). Transposed convolutions,
        layer norm and GELU between the two that enlarge by 4.
    """

    def __init__(self, channels: tuple[int, ...], stride: int) -> None:
        super().__init__()
        finest, finer = channels[:2]
        self.channels = channels
        self.reductions = (stride // 4, stride // 2, stride, stride * 2)
        self.grow4 = nn.Sequential(
            nn.ConvTranspose2d(finest, finest, 2, stride=2),
            LayerNorm2d(finest),
            nn.GELU(),
            nn.ConvTranspose2d(finest, finest, 2, stride=2),
        )
        self.grow2 = nn.ConvTranspose2d(finer, finer, 2, stride=2)
        self.shrink = nn.MaxPool2d(2)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map one map, or four of rising depth, to four of falling size."""
        finest, finer, same, coarser = features if len(features) > 1 else features * NUM_LEVELS
        return [self.grow4(finest), self.grow2(finer), same, self.shrink(coarser)]


def split_pyramid(name: str, options: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Part off whether a pyramid is asked for, and choose the depths unless they are given.

    Args:
        name: timm name of the encoder.
        options: Its options; ``pyramid`` is ours.

    Returns:
        Whether one is asked for, and the options of timm.

    Raises:
        ConfigError: If ``pyramid`` is not true or false, or the encoder has no blocks to count.
    """
    theirs = dict(options)
    wanted = theirs.pop("pyramid", False)
    if not isinstance(wanted, bool):
        raise ConfigError(f"model.encoder_options.pyramid is {wanted!r}; set true or false")
    if wanted and "out_indices" not in theirs:
        depth = theirs.get("depth") or _count_blocks(name)
        taps = tuple(max(1, round(part * depth)) - 1 for part in DEPTHS)
        theirs["out_indices"] = taps if len(set(taps)) == NUM_LEVELS else taps[-1:]
    return wanted, theirs


def build_neck(name: str, channels: tuple[int, ...], reductions: tuple[int, ...]) -> PyramidNeck:
    """Build the pyramid for an encoder's maps.

    Raises:
        ConfigError: If they are not one or four maps of one stride, a multiple of 4.
    """
    if len(set(reductions)) != 1:
        raise ConfigError(
            f"encoder {name!r} gives features at strides {reductions}, a pyramid of its own; leave "
            "out model.encoder_options.pyramid"
        )
    if len(channels) not in (1, NUM_LEVELS):
        raise ConfigError(
            f"model.encoder_options.pyramid reads one map or {NUM_LEVELS}, and encoder {name!r} "
            f"gives {len(channels)}; set model.encoder_options.out_indices to {NUM_LEVELS} blocks, "
            "or leave it out"
        )
    stride = reductions[0]
    if stride % 4:
        raise ConfigError(
            f"encoder {name!r} has patches of {stride} px, which make no whole strides of a "
            "quarter; set model.encoder_options.patch_size to 16, to which pretrained patch "
            "embeddings are resized"
        )
    return PyramidNeck(channels if len(channels) > 1 else channels * NUM_LEVELS, stride)


def _count_blocks(name: str) -> int:
    with torch.device("meta"):
        blocks = getattr(timm.create_model(name), "blocks", None)
    if not isinstance(blocks, nn.ModuleList | nn.Sequential) or not len(blocks):
        raise ConfigError(
            f"encoder {name!r} is no plain transformer, whose blocks could be counted; leave out "
            "model.encoder_options.pyramid, or set out_indices"
        )
    return len(blocks)
