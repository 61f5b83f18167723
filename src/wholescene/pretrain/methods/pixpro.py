"""PixPro: cells of two views that show the same place agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from wholescene.models import Segmenter
from wholescene.pretrain.heads import Propagation, dense_mlp, pooled
from wholescene.pretrain.losses import near_agreement, near_cells
from wholescene.pretrain.methods.following import Following
from wholescene.pretrain.methods.method import MethodOptions
from wholescene.pretrain.momentum import MomentumSchedule
from wholescene.pretrain.views import View

__all__ = ["PixPro", "PixProOptions"]


class PixProOptions(MethodOptions):
    """Options of PixPro.

    Args:
        reach: Largest distance of two cells that shall agree, in diagonals of the larger one.
        sharpness: Power of the cosine when features are propagated.
        momentum: Share of the slow network that survives a step, at the beginning.
        schedule: Course of it.
        hidden: Features between the layers of the head.
        features: Features that are compared.
    """

    reach: float = Field(default=0.7, gt=0)
    sharpness: float = Field(default=2.0, gt=0)
    momentum: float = Field(default=0.99, ge=0, le=1)
    schedule: MomentumSchedule = "cosine"
    hidden: int = Field(default=1024, ge=1)
    features: int = Field(default=256, ge=2)


class PixPro(Following):
    """Agreement of propagated cells with the slow cells near them, in both directions.

    Source:
        Xie et al. 2021, arXiv:2011.10043, without the instance branch.
    """

    Options: ClassVar[type[MethodOptions]] = PixProOptions

    def __init__(self, network: Segmenter, options: PixProOptions, view_px: int) -> None:
        super().__init__(network, momentum=options.momentum, schedule=options.schedule)
        del view_px
        self.options = options
        size = options.features
        self.head = dense_mlp(self.encoder_channels, options.hidden, size, norm=True)
        self.slow_head = self.slow_copy(self.head)
        self.propagate = Propagation(size, sharpness=options.sharpness)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Sum over both directions, -4 to 4."""
        del generator
        first, second = views
        online = [self.propagate(self.head(self.coarsest(view.image))) for view in views]
        with torch.no_grad():
            slow = [self.slow_head(self.slow_coarsest(view.image)) for view in views]
        height, width = online[0].shape[2:]
        near = near_cells(
            first.maps,
            second.maps,
            (height, width),
            window_px=first.window_px,
            reach=self.options.reach,
        )
        flat = [part.flatten(2).transpose(1, 2) for part in (*online, *slow)]
        there = near_agreement(flat[0], flat[3], near)
        return there + near_agreement(flat[1], flat[2], near.transpose(1, 2))

    def embed(self, image: Tensor) -> Tensor:
        """Pooled projection."""
        return pooled(cast(Tensor, self.head(self.coarsest(image))))
