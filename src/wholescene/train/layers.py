"""Which layer of a timm encoder a parameter belongs to."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models._manipulate import group_parameters
from torch import nn

from wholescene.errors import ConfigError

__all__ = ["encoder_layers"]


def encoder_layers(encoder: nn.Module, name: str) -> dict[str, int]:
    """Number the layers of an encoder from its input, as timm's own layer decay does.

    timm states the layers of a *classifier*; feature extractors rename its modules
    (``stages.0`` becomes ``stages_0`` or ``model.stages.0``), so timm's matcher finds nothing in
    them and every parameter lands in one group. Here the names are matched back first.

    Args:
        encoder: Module that holds the feature extractor.
        name: timm name it was built from.

    Returns:
        Layer of each parameter of ``encoder``, 0 at the input. Parameters the classifier does not
        have, such as those of an added pyramid, come after the last layer.

    Raises:
        ConfigError: If timm states no layers for this encoder.
    """
    reference: Any = _classifier(name)
    if not hasattr(reference, "group_matcher"):
        raise ConfigError(
            f"optim.layer_decay: timm states no layers for encoder {name!r}; unset it, or use "
            "optim.encoder_lr_factor"
        )
    numbers: dict[str, int] = group_parameters(
        reference, reference.group_matcher(coarse=False), reverse=True
    )
    known = {_flat(key): number for key, number in numbers.items()}
    beyond = max(known.values()) + 1
    found = {key: _lookup(key, known) for key, _ in encoder.named_parameters()}
    if len(set(found.values()) - {None}) < 2:
        raise ConfigError(
            f"optim.layer_decay: cannot tell the layers of encoder {name!r} apart; unset it, or "
            "use optim.encoder_lr_factor"
        )
    return {key: beyond if number is None else number for key, number in found.items()}


def _classifier(name: str) -> nn.Module:
    """Build the classifier for its parameter names only, without memory where it can."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, num_classes=0)
    except (NotImplementedError, RuntimeError):  # some models compute values while they are built
        return timm.create_model(name, num_classes=0)


def _flat(key: str) -> str:
    return key.replace(".", "_")


def _lookup(key: str, known: dict[str, int]) -> int | None:
    """Find a parameter by its name without the wrappers around the extractor."""
    parts = key.split(".")
    tails = ("_".join(parts[start:]) for start in range(len(parts)))
    return next((known[tail] for tail in tails if tail in known), None)
