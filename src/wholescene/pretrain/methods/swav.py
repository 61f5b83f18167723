"""SwAV: predict the cluster codes of one view from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from wholescene.errors import ConfigError
from wholescene.models import Segmenter
from wholescene.pretrain.heads import Prototypes, mlp
from wholescene.pretrain.losses import swapped_prediction
from wholescene.pretrain.methods.method import Method, MethodOptions
from wholescene.pretrain.views import SmallViews, View

__all__ = ["SwAV", "SwAVOptions"]


class SwAVOptions(MethodOptions):
    """Options of SwAV.

    Args:
        prototypes: Clusters; published with 3,000 for a million images.
        temperature: Divides the scores that predict.
        epsilon: Softness of the codes.
        iterations: Rounds of balancing the codes.
        freeze_steps: Steps at the beginning in which prototypes stay.
        small_views: Smaller views of each window.
        small_px: Their side, a multiple of the encoder's stride.
        small_area: Smallest and largest share of the window they show.
        hidden: Features between the layers of the head.
        features: Features that are compared.
    """

    prototypes: int = Field(default=300, ge=2)
    temperature: float = Field(default=0.1, gt=0)
    epsilon: float = Field(default=0.05, gt=0)
    iterations: int = Field(default=3, ge=1)
    freeze_steps: int = Field(default=300, ge=0)
    small_views: int = Field(default=6, ge=0)
    small_px: int = Field(default=96, ge=8)
    small_area: tuple[float, float] = (0.05, 0.14)
    hidden: int = Field(default=512, ge=1)
    features: int = Field(default=128, ge=2)


class SwAV(Method):
    """Swapped prediction with two full views and several small ones.

    Source:
        Caron et al. 2020, arXiv:2006.09882; its queue is left out.

    Raises:
        ConfigError: If small views do not fit the stride of the encoder.
    """

    Options: ClassVar[type[MethodOptions]] = SwAVOptions

    def __init__(self, network: Segmenter, options: SwAVOptions, view_px: int) -> None:
        super().__init__(network)
        del view_px
        if options.small_views and options.small_px % network.stride:
            raise ConfigError(
                f"method.options.small_px = {options.small_px} is no multiple of the stride "
                f"{network.stride} of the encoder; set it to a multiple"
            )
        self.options = options
        self.head = mlp(self.encoder_channels, options.hidden, options.features, norm=True)
        self.prototypes = Prototypes(options.features, options.prototypes)
        self._is_frozen = options.freeze_steps > 0

    @property
    def small_views(self) -> SmallViews | None:
        """As the options say."""
        options = self.options
        if options.small_views == 0:
            return None
        return SmallViews(
            count=options.small_views, view_px=options.small_px, area=options.small_area
        )

    def before_step(self, step: int, steps: int) -> None:
        """Let the prototypes go once their time is over."""
        del steps
        self._is_frozen = step < self.options.freeze_steps

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Predict the codes of each full view."""
        del generator
        options = self.options
        scores = [self.prototypes(self.embed(view.image), frozen=self._is_frozen) for view in views]
        return swapped_prediction(
            scores,
            num_full=self.num_views,
            temperature=options.temperature,
            epsilon=options.epsilon,
            iterations=options.iterations,
        )

    def embed(self, image: Tensor) -> Tensor:
        """Projection of the pooled features."""
        return cast(Tensor, self.head(self.features(image)))
