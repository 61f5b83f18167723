"""STDC: context from the coarse maps, detail from the map at stride 8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from wholescene.errors import UnsupportedError
from wholescene.losses.detail import detail_loss
from wholescene.models.decoders.blocks import ConvNormAct, check_pooled, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize
from wholescene.models.decoders.top_down import size_of

__all__ = ["STDC", "STDCOptions"]

FINEST_STRIDE = 8


class STDCOptions(DecoderOptions):
    """Options of the STDC decoder.

    Args:
        context_channels: Channels of the maps that carry context.
        channels: Channels of the fused map.
        dropout: Share of channels dropped before the classifier while training.
        faithful: Make the target of the detail loss as published (``losses.detail``).
    """

    context_channels: int = Field(default=128, ge=1)
    channels: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    faithful: bool = False


class Refinement(nn.Module):
    """3 x 3 convolution, weighted by channel from its own mean."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, channels, kernel_size=3)
        self.weigh = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, channels, h, w)."""
        out = self.conv(features)
        return cast(Tensor, out * self.weigh(out.mean((2, 3), keepdim=True)))


class Fusion(nn.Module):
    """1 x 1 convolution of two stacked maps, plus itself weighted by channel."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, channels, kernel_size=1)
        narrow = max(1, channels // 4)
        self.weigh = nn.Sequential(
            nn.Conv2d(channels, narrow, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(narrow, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """Map (B, C, h, w) and (B, C', h, w) to (B, channels, h, w)."""
        out = self.conv(torch.cat([detail, context], dim=1))
        return cast(Tensor, out * (1 + self.weigh(out.mean((2, 3), keepdim=True))))


class STDC(Decoder):
    """Attention-refined coarse maps, summed from coarse to fine, fused with the map at stride 8.

    While training, that map also learns where classes change (loss ``"detail"``), and the context
    maps classify (``"context0"`` and so on, finest first). Reads the maps at stride 8 and coarser,
    of any encoder.

    Source:
        Fan et al. 2021, arXiv:2104.13188, after BiSeNet, Yu et al. 2018, arXiv:1808.00897.

    Raises:
        UnsupportedError: If there are not two maps at stride 8 and coarser.
    """

    Options: ClassVar[type[DecoderOptions]] = STDCOptions
    has_own_loss: ClassVar[bool] = True
    auxiliary_weights: ClassVar[Mapping[str, float]] = {"detail": 1.0} | {
        f"context{i}": 1.0 for i in range(4)
    }

    def __init__(self, levels: FeatureLevels, options: STDCOptions, num_classes: int) -> None:
        super().__init__()
        self.first = next((i for i, r in enumerate(levels.reductions) if r >= FINEST_STRIDE), 0)
        self.reads_all = self.first == 0
        inputs = levels.channels[self.first :]
        if len(inputs) < 2 or levels.reductions[self.first] < FINEST_STRIDE:
            raise UnsupportedError(
                f"encoder {levels.encoder!r} gives features at strides {levels.reductions}, and "
                "STDC needs at least two maps at stride 8 or coarser; choose "
                "an encoder with a pyramid, such as 'resnet18'"
            )
        context, channels = options.context_channels, options.channels
        self.out_channels, self.dropout, self.faithful = channels, options.dropout, options.faithful
        self.refine = nn.ModuleList(Refinement(c, context) for c in inputs[1:])
        self.smooth = nn.ModuleList(
            ConvNormAct(context, context, kernel_size=3) for _ in inputs[1:]
        )
        self.pooled = ConvNormAct(inputs[-1], context, kernel_size=1)
        self.fuse = Fusion(inputs[0] + context, channels)
        self.last = ConvNormAct(channels, channels, kernel_size=3)
        self.detail = _classifier(inputs[0], 1)
        self.contexts = nn.ModuleList(_classifier(context, num_classes) for _ in inputs[1:])
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at the stride of the finest map read."""
        seen = features[self.first :]
        return self._fuse(seen[0], self._contexts(seen)[0])

    def forward_train(
        self, features: list[Tensor], target: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As ``forward``, with logits of each context map, and with a target the detail loss."""
        seen = features[self.first :]
        contexts = self._contexts(seen)
        further = {
            f"context{i}": classify(context)
            for i, (classify, context) in enumerate(zip(self.contexts, contexts, strict=True))
        }
        if target is not None:
            further["detail"] = detail_loss(self.detail(seen[0]), target, faithful=self.faithful)
        return self._fuse(seen[0], contexts[0]), further

    def _contexts(self, seen: list[Tensor]) -> list[Tensor]:
        """Context of each map but the finest, finest first, at the next finer size."""
        check_pooled(seen[-1], 1, self.pooled, who="STDC")
        context = self.pooled(seen[-1].mean((2, 3), keepdim=True)).expand(
            -1, -1, *seen[-1].shape[-2:]
        )
        found: list[Tensor] = []
        parts = zip(seen[:-1], seen[1:], self.refine, self.smooth, strict=True)
        for finer, feature, refine, smooth in reversed(list(parts)):
            total = refine(feature) + context
            context = smooth(resize(total, size_of(finer)))
            found.append(context)
        return found[::-1]

    def _fuse(self, finest: Tensor, context: Tensor) -> Tensor:
        return cast(Tensor, self.last(self.fuse(finest, context)))


def _classifier(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormAct(in_channels, 64, kernel_size=3), nn.Conv2d(64, out_channels, 1)
    )
