"""Parts of a network that training leaves as they are."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wholescene.models import Segmenter

__all__ = ["Freeze", "FreezeNorm", "freeze_weights", "resting_parts"]

Freeze = Literal["none", "encoder"]
FreezeNorm = Literal["none", "encoder", "all"]


def freeze_weights(model: Segmenter, part: Freeze) -> None:
    """Take the weights of a part out of training: no gradient, no optimiser state."""
    if part == "encoder":
        model.encoder.requires_grad_(False)


def resting_parts(
    model: Segmenter, *, freeze: Freeze, freeze_norm: FreezeNorm
) -> tuple[nn.Module, ...]:
    """Parts that stay in evaluation mode: frozen weights with all around them, frozen norms."""
    resting: tuple[nn.Module, ...] = (model.encoder,) if freeze == "encoder" else ()
    if freeze_norm == "none":
        return resting
    inside = model.encoder if freeze_norm == "encoder" else model
    return (*resting, *(part for part in inside.modules() if isinstance(part, _BatchNorm)))
