"""Exponential moving average of weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]

M = TypeVar("M", bound=nn.Module)

WARMUP_OFFSET = 10


class WeightAverage(Generic[M]):
    """A copy of a network whose weights follow the original slowly.

    Floating-point parameters and buffers (running statistics) are averaged; counters are copied.

    Args:
        model: Network to follow.
        decay: Share of the average that survives one update, 0 <= decay < 1.
        warmup: Use ``min(decay, (1 + n) / (10 + n))`` at update ``n``, so that the first weights,
            which are random, are forgotten soon.
    """

    def __init__(self, model: M, *, decay: float, warmup: bool = True) -> None:
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)
        self.updates = 0
        self._decay = decay
        self._warmup = warmup

    def decay_at(self, update: int) -> float:
        """Decay that update ``update`` uses, counted from 0."""
        if not self._warmup:
            return self._decay
        return min(self._decay, (1 + update) / (WARMUP_OFFSET + update))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights of ``model``."""
        weight = 1 - self.decay_at(self.updates)
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        source = model.state_dict()
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                averaged.append(value)
                current.append(source[name].to(value.device, value.dtype))
            else:
                value.copy_(source[name])
        torch._foreach_lerp_(averaged, current, weight)
        self.updates += 1

    def to(self, device: torch.device) -> None:
        """Move the average to a device."""
        self.model.to(device)

    def state_dict(self) -> dict[str, object]:
        """Everything a checkpoint needs to continue."""
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from :meth:`state_dict`."""
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]
