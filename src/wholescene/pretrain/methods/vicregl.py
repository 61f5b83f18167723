"""VICRegL: variance, invariance and covariance of views and of matched cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from wholescene.models import Segmenter
from wholescene.pretrain.heads import dense_mlp, mlp
from wholescene.pretrain.losses import (
    VicregWeights,
    cell_places,
    matched_vicreg,
    nearest_features,
    nearest_places,
    vicreg,
)
from wholescene.pretrain.methods.method import Method, MethodOptions
from wholescene.pretrain.views import View

__all__ = ["VICRegL", "VICRegLOptions"]


class VICRegLOptions(MethodOptions):
    """Options of VICRegL.

    Args:
        balance: Weight of the global term; the local one weighs ``1 - balance``.
        matches: Pairs of cells of each image, by place and by features.
        invariance: Weight of the distance of partners.
        variance: Weight of the least spread of every feature.
        covariance: Weight of the covariance of features.
        features: Features of the global expander; published with 8192.
        local_features: Features of the local one; published with 512.
    """

    balance: float = Field(default=0.75, gt=0, lt=1)
    matches: int = Field(default=20, ge=1)
    invariance: float = Field(default=25.0, ge=0)
    variance: float = Field(default=25.0, ge=0)
    covariance: float = Field(default=1.0, ge=0)
    features: int = Field(default=1024, ge=2)
    local_features: int = Field(default=256, ge=2)


class VICRegL(Method):
    """VICReg of pooled features, and of cells matched by place and by features, in both directions.

    Source:
        Bardes et al. 2022, arXiv:2210.01571.
    """

    Options: ClassVar[type[MethodOptions]] = VICRegLOptions

    def __init__(self, network: Segmenter, options: VICRegLOptions, view_px: int) -> None:
        super().__init__(network)
        del view_px
        self.options = options
        self.weights = VicregWeights(
            invariance=options.invariance,
            variance=options.variance,
            covariance=options.covariance,
        )
        size, local = options.features, options.local_features
        self.expander = mlp(self.encoder_channels, size, size, size, norm=True)
        self.local_expander = dense_mlp(self.encoder_channels, local, local, local, norm=True)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Weigh the global and the local term."""
        del generator
        maps = [self.coarsest(view.image) for view in views]
        first, second = (self.expander(features.float().mean((2, 3))) for features in maps)
        whole = vicreg(first, second, self.weights)
        balance = self.options.balance
        return balance * whole + (1 - balance) * self._local(views, maps)

    def _local(self, views: Sequence[View], maps: list[Tensor]) -> Tensor:
        """Mean over matches by place and by features and over both directions."""
        cells = [self.local_expander(m).flatten(2).transpose(1, 2).float() for m in maps]
        height, width = maps[0].shape[2:]
        places = [cell_places(view.maps, (height, width), view.window_px) for view in views]
        terms = []
        for here, there in ((0, 1), (1, 0)):
            matches = (
                nearest_places(places[here], places[there], self.options.matches),
                nearest_features(cells[here], cells[there], self.options.matches),
            )
            terms += [matched_vicreg(cells[here], cells[there], m, self.weights) for m in matches]
        return torch.stack(terms).mean()

    def embed(self, image: Tensor) -> Tensor:
        """Expanded pooled features."""
        return cast(Tensor, self.expander(self.features(image)))
