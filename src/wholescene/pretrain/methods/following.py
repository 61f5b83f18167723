"""Methods with a second network that follows the trained one."""

from __future__ import annotations

from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from wholescene.models import Segmenter
from wholescene.pretrain.gather import run_shuffled
from wholescene.pretrain.methods.method import Method
from wholescene.pretrain.momentum import MomentumSchedule, follow, follower, momentum_at

__all__ = ["Following"]

M = TypeVar("M", bound=nn.Module)


class Following(Method):
    """A task whose targets come from a slow copy of encoder and heads.

    Args:
        network: What is trained.
        momentum: Share of the copy that survives a step, at the beginning.
        schedule: Its course.
    """

    def __init__(self, network: Segmenter, *, momentum: float, schedule: MomentumSchedule) -> None:
        super().__init__(network)
        self._momentum, self._schedule = momentum, schedule
        self._followed: list[tuple[nn.Module, nn.Module]] = []
        self.slow_encoder = self.slow_copy(network.encoder)

    def slow_copy(self, module: M) -> M:
        """Copy a part and let the copy follow it."""
        slow = follower(module)
        self._followed.append((slow, module))
        return slow

    @torch.no_grad()
    def slow_coarsest(self, image: Tensor, *, shuffle: bool = False) -> Tensor:
        """Coarsest map of the slow encoder.

        Args:
            image: (B, C, H, W).
            shuffle: Form the batches that batch norm sees from the images of all processes.
        """

        def run(images: Tensor) -> Tensor:
            return cast(Tensor, self.slow_encoder(images)[-1])

        return run_shuffled(run, image) if shuffle else run(image)

    def after_step(self, step: int, steps: int) -> None:
        """Let every copy follow."""
        momentum = momentum_at(step / steps, self._momentum, self._schedule)
        for slow, fast in self._followed:
            follow(slow, fast, momentum)
