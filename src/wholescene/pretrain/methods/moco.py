"""MoCo v2: tell the other view of a window from a queue of earlier windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from wholescene.models import Segmenter
from wholescene.pretrain.heads import mlp, pooled
from wholescene.pretrain.losses import info_nce
from wholescene.pretrain.methods.following import Following
from wholescene.pretrain.methods.method import MethodOptions
from wholescene.pretrain.momentum import MomentumSchedule
from wholescene.pretrain.queue import KeyQueue
from wholescene.pretrain.views import View

__all__ = ["MoCo", "MoCoOptions"]


class MoCoOptions(MethodOptions):
    """Options of MoCo v2.

    Args:
        temperature: Divides cosines.
        momentum: Share of the key network that survives a step.
        schedule: Course of it.
        queue: Keys of earlier windows; published with 65,536 for a million images.
        shuffle: Form the key network's batches anew from the windows of all processes.
        hidden: Features between the layers of the head.
        features: Features that are compared.
    """

    temperature: float = Field(default=0.2, gt=0)
    momentum: float = Field(default=0.999, ge=0, le=1)
    schedule: MomentumSchedule = "constant"
    queue: int = Field(default=4096, ge=2)
    shuffle: bool = True
    hidden: int = Field(default=512, ge=1)
    features: int = Field(default=128, ge=2)


class MoCo(Following):
    """InfoNCE of the first view's query and the second view's key.

    Source:
        Chen et al. 2020, arXiv:2003.04297.
    """

    Options: ClassVar[type[MethodOptions]] = MoCoOptions

    def __init__(self, network: Segmenter, options: MoCoOptions, view_px: int) -> None:
        super().__init__(network, momentum=options.momentum, schedule=options.schedule)
        del view_px
        self.options = options
        self.head = mlp(self.encoder_channels, options.hidden, options.features)
        self.slow_head = self.slow_copy(self.head)
        self.queue = KeyQueue(options.queue, options.features)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Contrast the query with its key, then keep the key."""
        del generator
        query = self.embed(views[0].image)
        with torch.no_grad():
            other = self.slow_coarsest(views[1].image, shuffle=self.options.shuffle)
            key = self.slow_head(pooled(other))
        loss = info_nce(query, key, self.queue.keys.clone(), temperature=self.options.temperature)
        self.queue.push(key)
        return loss

    def embed(self, image: Tensor) -> Tensor:
        """Projection of the pooled features."""
        return cast(Tensor, self.head(self.features(image)))
