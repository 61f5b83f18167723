"""SimCLR: tell two views of a window from the views of all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from wholescene.models import Segmenter
from wholescene.pretrain.heads import mlp
from wholescene.pretrain.losses import pair_contrast
from wholescene.pretrain.methods.method import Method, MethodOptions
from wholescene.pretrain.views import View

__all__ = ["SimCLR", "SimCLROptions"]


class SimCLROptions(MethodOptions):
    """Options of SimCLR.

    Args:
        temperature: Divides cosines.
        decoupled: Leave the positive out of the denominator.
        hidden: Features between the layers of the head.
        features: Features that are compared.
    """

    temperature: float = Field(default=0.2, gt=0)
    decoupled: bool = False
    hidden: int = Field(default=512, ge=1)
    features: int = Field(default=128, ge=2)


class SimCLR(Method):
    """Contrast within the batch, over all ranks.

    Source:
        Chen et al. 2020, arXiv:2002.05709.
    """

    Options: ClassVar[type[MethodOptions]] = SimCLROptions

    def __init__(self, network: Segmenter, options: SimCLROptions, view_px: int) -> None:
        super().__init__(network)
        del view_px
        self.options = options
        self.head = mlp(self.encoder_channels, options.hidden, options.features, norm=True)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Contrast two views."""
        del generator
        rows = [self.embed(view.image) for view in views]
        options = self.options
        return pair_contrast(*rows, temperature=options.temperature, decoupled=options.decoupled)

    def embed(self, image: Tensor) -> Tensor:
        """Projection of the pooled features."""
        return cast(Tensor, self.head(self.features(image)))
