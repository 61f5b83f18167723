"""What every pretext task offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from wholescene.models import Segmenter
from wholescene.pretrain.heads import pooled
from wholescene.pretrain.views import SmallViews, View

__all__ = ["Method", "MethodOptions"]


class MethodOptions(BaseModel):
    """Base of the options of one method."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(nn.Module):
    """A pretext task around a network: views to a loss.

    A subclass is built as ``Name(network, options, view_px)``. What it trains besides the network
    lies outside ``network``, so that a model file holds the network alone.

    Args:
        network: Encoder and decoder that are trained.
        uses_decoder: Whether the decoder is trained too; it stays as it is otherwise.
    """

    Options: ClassVar[type[MethodOptions]]
    num_views: ClassVar[int] = 2

    def __init__(self, network: Segmenter, *, uses_decoder: bool = False) -> None:
        super().__init__()
        self.network = network
        self.uses_decoder = uses_decoder
        network.head.requires_grad_(False)
        if network.auxiliary is not None:
            network.auxiliary.requires_grad_(False)
        if not uses_decoder:
            network.decoder.requires_grad_(False)

    @property
    def small_views(self) -> SmallViews | None:
        """Smaller views it wants besides."""
        return None

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Loss of a batch.

        Args:
            views: ``num_views`` of full size, then the small ones.
            generator: Source of draws, on the device of the views.
        """
        raise NotImplementedError

    def before_step(self, step: int, steps: int) -> None:
        """Prepare for step ``step`` (from 0) of ``steps``."""

    def after_step(self, step: int, steps: int) -> None:
        """Follow what the optimiser did in step ``step`` (from 0) of ``steps``."""

    def coarsest(self, image: Tensor) -> Tensor:
        """Coarsest map of the encoder, (B, C, h, w)."""
        return self.maps(image)[-1]

    def maps(self, image: Tensor) -> list[Tensor]:
        """Feature maps of the encoder."""
        return cast("list[Tensor]", self.network.encoder(image))

    def features(self, image: Tensor) -> Tensor:
        """What is transferred, as one row per image: pooled features of the encoder, (B, C)."""
        return pooled(self.coarsest(image))

    def embed(self, image: Tensor) -> Tensor:
        """What the loss compares, (B, D); to watch for collapse."""
        return self.features(image)

    @property
    def encoder_channels(self) -> int:
        """Channels of the coarsest map."""
        return self.network.encoder.channels[-1]

    @property
    def trained(self) -> str:
        """What of the network was trained, in the words of ``train.init_part``."""
        return "all" if self.uses_decoder else "encoder"
