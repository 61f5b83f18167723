"""BYOL: predict what a slow copy says of the other view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from wholescene.models import Segmenter
from wholescene.pretrain.heads import mlp, pooled
from wholescene.pretrain.losses import cosine_distance
from wholescene.pretrain.methods.following import Following
from wholescene.pretrain.methods.method import MethodOptions
from wholescene.pretrain.momentum import MomentumSchedule
from wholescene.pretrain.views import View

__all__ = ["BYOL", "BYOLOptions"]


class BYOLOptions(MethodOptions):
    """Options of BYOL.

    Args:
        momentum: Share of the slow network that survives a step, at the beginning.
        schedule: Course of it.
        hidden: Features between the layers of projector and predictor.
        features: Features that are compared.
    """

    momentum: float = Field(default=0.99, ge=0, le=1)
    schedule: MomentumSchedule = "cosine"
    hidden: int = Field(default=1024, ge=1)
    features: int = Field(default=256, ge=2)


class BYOL(Following):
    """Cosine distance of a prediction and the slow projection, in both directions.

    Source:
        Grill et al. 2020, arXiv:2006.07733.
    """

    Options: ClassVar[type[MethodOptions]] = BYOLOptions

    def __init__(self, network: Segmenter, options: BYOLOptions, view_px: int) -> None:
        super().__init__(network, momentum=options.momentum, schedule=options.schedule)
        del view_px
        size, hidden = options.features, options.hidden
        self.projector = mlp(self.encoder_channels, hidden, size, norm=True)
        self.predictor = mlp(size, hidden, size, norm=True)
        self.slow_projector = self.slow_copy(self.projector)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Predict each view from the other."""
        del generator
        projections, targets = self.project(views)
        return self.predict_across(projections, targets)

    def project(self, views: Sequence[View]) -> tuple[list[Tensor], list[Tensor]]:
        """Projections and slow projections of the views."""
        projections = [self.embed(view.image) for view in views]
        with torch.no_grad():
            targets = [
                cast(Tensor, self.slow_projector(pooled(self.slow_coarsest(view.image))))
                for view in views
            ]
        return projections, targets

    def predict_across(self, projections: list[Tensor], targets: list[Tensor]) -> Tensor:
        """Sum over both directions."""
        first, second = (self.predictor(rows) for rows in projections)
        return cosine_distance(first, targets[1]) + cosine_distance(second, targets[0])

    def embed(self, image: Tensor) -> Tensor:
        """Projection of the pooled features."""
        return cast(Tensor, self.projector(self.features(image)))
