"""Batch norms that keep the statistics they start with."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wholescene.models import Segmenter

__all__ = ["FreezeNorm", "frozen_norms"]

FreezeNorm = Literal["none", "encoder", "all"]


def frozen_norms(model: Segmenter, part: FreezeNorm) -> tuple[_BatchNorm, ...]:
    """Batch norms of a part of a network."""
    frozen = {"none": nn.Identity(), "encoder": model.encoder, "all": model}[part]
    return tuple(norm for norm in frozen.modules() if isinstance(norm, _BatchNorm))
