"""DenseCL: MoCo for whole views and for every cell of the feature map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from wholescene.models import Segmenter
from wholescene.pretrain.heads import dense_mlp, mlp, pooled
from wholescene.pretrain.losses import dense_info_nce, info_nce
from wholescene.pretrain.methods.following import Following
from wholescene.pretrain.methods.method import MethodOptions
from wholescene.pretrain.methods.moco import MoCoOptions
from wholescene.pretrain.queue import KeyQueue
from wholescene.pretrain.views import View

__all__ = ["DenseCL", "DenseCLOptions"]


class DenseCLOptions(MoCoOptions):
    """Options of DenseCL.

    Args:
        balance: Weight of the dense term; the global one weighs ``1 - balance``.
    """

    balance: float = Field(default=0.5, ge=0, le=1)


class DenseCL(Following):
    """Two InfoNCE terms with a queue each; the dense queue gets one mean key per image.

    Source:
        Wang et al. 2021, arXiv:2011.09157.
    """

    Options: ClassVar[type[MethodOptions]] = DenseCLOptions

    def __init__(self, network: Segmenter, options: DenseCLOptions, view_px: int) -> None:
        super().__init__(network, momentum=options.momentum, schedule=options.schedule)
        del view_px
        self.options = options
        widths = self.encoder_channels, options.hidden, options.features
        self.head, self.dense_head = mlp(*widths), dense_mlp(*widths)
        self.slow_head = self.slow_copy(self.head)
        self.slow_dense_head = self.slow_copy(self.dense_head)
        self.queue = KeyQueue(options.queue, options.features)
        self.dense_queue = KeyQueue(options.queue, options.features)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Weigh the global and the dense term, then keep the keys."""
        del generator
        options = self.options
        own = self.coarsest(views[0].image)
        with torch.no_grad():
            other = self.slow_coarsest(views[1].image, shuffle=options.shuffle)
            key = self.slow_head(pooled(other))
            dense_key = _cells(self.slow_dense_head(other))
        whole = info_nce(
            self.head(pooled(own)), key, self.queue.keys.clone(), temperature=options.temperature
        )
        dense = dense_info_nce(
            _cells(self.dense_head(own)),
            dense_key,
            self.dense_queue.keys.clone(),
            query_features=_cells(own).detach(),
            key_features=_cells(other),
            temperature=options.temperature,
        )
        self.queue.push(key)
        self.dense_queue.push(dense_key.mean(1))
        return (1 - options.balance) * whole + options.balance * dense

    def embed(self, image: Tensor) -> Tensor:
        """Global projection."""
        return cast(Tensor, self.head(self.features(image)))


def _cells(features: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h * w, C)."""
    return features.flatten(2).transpose(1, 2).float()
