"""One pre-training step as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from wholescene.pretrain.methods import Method
from wholescene.pretrain.pool import PoolBatch
from wholescene.pretrain.views import ViewMaker
from wholescene.train import OptimSettings
from wholescene.train.module import draw_seed
from wholescene.train.optim import ParameterGroup, decays_by_nature, make_optimizer
from wholescene.train.schedule import lr_factor

__all__ = ["PretrainModule", "method_groups"]


class PretrainModule(LightningModule):
    """Views, loss, optimiser and schedule of one pretext task.

    Every draw of a step depends on the seed, the number of the step and the rank only, so that a
    resumed run draws what the uninterrupted one would have drawn.

    Args:
        method: The task.
        views: Makes views of windows.
        optim: Optimiser and schedule.
        steps: Optimiser steps of the whole run.
        seed: Seed of the draws.
    """

    def __init__(
        self, method: Method, views: ViewMaker, *, optim: OptimSettings, steps: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.method = method
        self._views, self._optim, self._steps, self._seed = views, optim, steps, seed
        self._batch_in_step = 0
        self._generator = torch.Generator()

    def on_fit_start(self) -> None:
        """Draw on the device of the network; begin in training mode."""
        self.train()
        self._generator = torch.Generator(self.device)

    def on_train_batch_start(self, batch: PoolBatch, batch_idx: int) -> None:
        """Seed the draws of this batch."""
        del batch, batch_idx
        seed = draw_seed(self._seed, self.global_step, self._batch_in_step, self.global_rank)
        torch.manual_seed(seed)
        self._generator.manual_seed(seed)
        self.method.before_step(self.global_step, self._steps)
        self._batch_in_step += 1

    def training_step(self, batch: PoolBatch, batch_idx: int) -> Mapping[str, Tensor]:
        """Loss of one batch."""
        del batch_idx
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            views = self._views(
                batch["image"],
                self._generator,
                count=self.method.num_views,
                small=self.method.small_views,
            )
        return {"loss": self.method(views, self._generator)}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimiser and a schedule per step."""
        optimizer = make_optimizer(method_groups(self.method, self._optim), self._optim)
        schedule = LambdaLR(optimizer, lambda step: lr_factor(step, self._optim, steps=self._steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then let what follows the network follow, before anything is saved."""
        step = self.global_step  # Lightning counts the step once this method is over
        super().optimizer_step(*args, **kwargs)
        self._batch_in_step = 0
        self.method.after_step(step, self._steps)


def method_groups(method: Method, settings: OptimSettings) -> list[ParameterGroup]:
    """Group what a method trains by whether it decays; encoder apart, for ``encoder_lr_factor``.

    Args:
        method: The task.
        settings: Learning rate and weight decay.
    """
    groups: dict[str, ParameterGroup] = {}
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            continue
        is_encoder = name.startswith("network.encoder.")
        decays = settings.decay_all or decays_by_nature(name, parameter)
        key = f"{'encoder' if is_encoder else 'rest'}.{'decay' if decays else 'plain'}"
        group = groups.setdefault(
            key,
            ParameterGroup(
                name=key,
                params=[],
                lr=settings.lr * (settings.encoder_lr_factor if is_encoder else 1.0),
                weight_decay=settings.weight_decay if decays else 0.0,
            ),
        )
        group["params"].append(parameter)
    return list(groups.values())
