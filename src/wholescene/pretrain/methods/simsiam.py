"""SimSiam: predict the other view, without negatives and without a second network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from wholescene.models import Segmenter
from wholescene.pretrain.heads import mlp
from wholescene.pretrain.losses import cosine_distance
from wholescene.pretrain.methods.method import Method, MethodOptions
from wholescene.pretrain.views import View

__all__ = ["SimSiam", "SimSiamOptions"]


class SimSiamOptions(MethodOptions):
    """Options of SimSiam.

    Args:
        features: Features of the projector's layers; published with 2048.
        bottleneck: Features between the layers of the predictor; a quarter as published.
    """

    features: int = Field(default=1024, ge=2)
    bottleneck: int = Field(default=256, ge=1)


class SimSiam(Method):
    """Negative cosine of prediction and projection, which gets no gradient, in both directions.

    Source:
        Chen and He 2020, arXiv:2011.10566.
    """

    Options: ClassVar[type[MethodOptions]] = SimSiamOptions

    def __init__(self, network: Segmenter, options: SimSiamOptions, view_px: int) -> None:
        super().__init__(network)
        del view_px
        size = options.features
        self.projector = mlp(self.encoder_channels, size, size, size, norm=True, last_norm=True)
        self.predictor = mlp(size, options.bottleneck, size, norm=True)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Mean over both directions, -1 to 1."""
        del generator
        rows = [self.embed(view.image) for view in views]
        first, second = (self.predictor(part) for part in rows)
        total = cosine_distance(first, rows[1]) + cosine_distance(second, rows[0])
        return total / 4 - 1

    def embed(self, image: Tensor) -> Tensor:
        """Projection of the pooled features."""
        return cast(Tensor, self.projector(self.features(image)))
