"""MoCoBYOL: BYOL with a little contrast against a queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from wholescene.models import Segmenter
from wholescene.pretrain.losses import info_nce
from wholescene.pretrain.methods.byol import BYOL, BYOLOptions
from wholescene.pretrain.methods.method import MethodOptions
from wholescene.pretrain.queue import KeyQueue
from wholescene.pretrain.views import View

__all__ = ["MoCoBYOL", "MoCoBYOLOptions"]


class MoCoBYOLOptions(BYOLOptions):
    """Options of MoCoBYOL.

    Args:
        contrast: Weight of the contrast.
        temperature: Divides its cosines.
        queue: Slow projections of earlier views, of both kinds; published with 65,536.
    """

    contrast: float = Field(default=0.03, ge=0)
    temperature: float = Field(default=0.2, gt=0)
    queue: int = Field(default=4096, ge=2)


class MoCoBYOL(BYOL):
    """BYOL's loss and, weighed, InfoNCE of projections and slow projections.

    Source:
        The configuration PaddlePaddle's PASSL publishes under this name.
    """

    Options: ClassVar[type[MethodOptions]] = MoCoBYOLOptions

    def __init__(self, network: Segmenter, options: MoCoBYOLOptions, view_px: int) -> None:
        super().__init__(network, options, view_px)
        self.options = options
        self.queue = KeyQueue(options.queue, options.features)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Predict across views; contrast both with one queue; keep both."""
        del generator
        projections, targets = self.project(views)
        earlier = self.queue.keys.clone()
        contrasts = [
            info_nce(query, key, earlier, temperature=self.options.temperature)
            for query, key in zip(projections, reversed(targets), strict=True)
        ]
        for key in targets:
            self.queue.push(key)
        loss = self.predict_across(projections, targets)
        return loss + self.options.contrast * (contrasts[0] + contrasts[1])
