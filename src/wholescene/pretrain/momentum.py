"""A second network that follows the trained one slowly."""

from __future__ import annotations

import copy
import math
from typing import Literal, TypeVar

import torch
from torch import nn

__all__ = ["MomentumSchedule", "follow", "follower", "momentum_at"]

M = TypeVar("M", bound=nn.Module)

MomentumSchedule = Literal["constant", "cosine"]


def momentum_at(done: float, base: float, schedule: MomentumSchedule) -> float:
    """Share of the following network that survives a step.

    Args:
        done: Steps done, as a share of the run.
        base: At the beginning.
        schedule: ``"cosine"`` rises to 1 at the end.

    Source:
        Grill et al. 2020, arXiv:2006.07733.

    Examples:
        >>> [round(momentum_at(t, 0.99, "cosine"), 4) for t in (0.0, 0.5, 1.0)]
        [0.99, 0.995, 1.0]
    """
    if schedule == "constant":
        return base
    return 1 - (1 - base) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def follower(module: M) -> M:
    """Copy a network as one that gets no gradients."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move the weights of ``target`` towards those of ``online``; running statistics stay."""
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        slow.lerp_(fast.detach().to(slow.dtype), 1 - momentum)
