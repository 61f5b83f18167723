"""Optimisers and their parameter groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from timm.optim.lars import Lars
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from wholescene.models import Segmenter
from wholescene.train.layers import encoder_layers
from wholescene.train.settings import OptimSettings

__all__ = [
    "ParameterGroup",
    "build_optimizer",
    "decays_by_nature",
    "make_optimizer",
    "parameter_groups",
]

POSITION_NAMES = frozenset(
    {
        "absolute_pos_embed",
        "cls_token",
        "dist_token",
        "pos_embed",
        "reg_token",
        "relative_position_bias_table",
    }
)
"""Learned positions and tokens of timm's transformers, which do not decay either."""


class ParameterGroup(TypedDict):
    """One group as torch optimisers take it, with a name."""

    name: str
    params: list[nn.Parameter]
    lr: float
    weight_decay: float


def build_optimizer(model: Segmenter, settings: OptimSettings) -> Optimizer:
    """Build the optimiser over the trainable parameters of a segmenter."""
    return make_optimizer(parameter_groups(model, settings), settings)


def make_optimizer(groups: Sequence[ParameterGroup], settings: OptimSettings) -> Optimizer:
    """Build the optimiser that ``settings`` name over groups of parameters."""
    plain = [dict(group) for group in groups]
    match settings.name:
        case "adamw":
            return AdamW(plain, lr=settings.lr, betas=settings.betas)
        case "adam":
            return Adam(plain, lr=settings.lr, betas=settings.betas)
        case "sgd":
            return SGD(plain, lr=settings.lr, momentum=settings.momentum)
        case "lars":  # what does not decay is not scaled either
            return Lars(plain, lr=settings.lr, momentum=settings.momentum)


def parameter_groups(model: Segmenter, settings: OptimSettings) -> list[ParameterGroup]:
    """Group trainable parameters by learning rate and weight decay.

    Biases, norms, other 1-D parameters and learned positions do not decay, unless ``decay_all``
    says so. With ``layer_decay``
    d, layer i of an encoder with n layers learns at ``lr * encoder_lr_factor * d ** (n - i)``;
    decoder and head at ``lr``.

    Returns:
        Groups named ``part.decay`` or ``part.plain``, part one of ``encoder``, ``encoder.<i>``,
        ``decoder``; in the order of the parameters, so that checkpoints fit.
    """
    scales = _encoder_scales(model, settings)
    groups: dict[str, ParameterGroup] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part, scale = scales.get(name, ("decoder", 1.0))
        decays = settings.decay_all or decays_by_nature(name, parameter)
        key = f"{part}.{'decay' if decays else 'plain'}"
        group = groups.setdefault(
            key,
            ParameterGroup(
                name=key,
                params=[],
                lr=settings.lr * scale,
                weight_decay=settings.weight_decay if decays else 0.0,
            ),
        )
        group["params"].append(parameter)
    return list(groups.values())


def _encoder_scales(model: Segmenter, settings: OptimSettings) -> dict[str, tuple[str, float]]:
    """Part and learning-rate factor of each encoder parameter, by its name in the segmenter."""
    factor = settings.encoder_lr_factor
    if settings.layer_decay is None:
        names = (f"encoder.{name}" for name, _ in model.encoder.named_parameters())
        return dict.fromkeys(names, ("encoder", factor))
    layers = encoder_layers(model.encoder, model.spec.architecture.encoder)
    last = max(layers.values()) + 1
    return {
        f"encoder.{name}": (f"encoder.{layer}", factor * settings.layer_decay ** (last - layer))
        for name, layer in layers.items()
    }


def decays_by_nature(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay is meant for a parameter: no bias, norm or learned position."""
    leaf = name.rsplit(".", 1)[-1]
    return parameter.ndim > 1 and leaf != "bias" and leaf not in POSITION_NAMES
