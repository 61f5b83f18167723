"""One supervised training step as a LightningModule."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from wholescene.data import Batch
from wholescene.losses import CombinedLoss
from wholescene.models import Segmenter
from wholescene.train.ema import WeightAverage
from wholescene.train.frozen import Freeze, FreezeNorm, resting_parts
from wholescene.train.optim import build_optimizer
from wholescene.train.rows import SharedRows
from wholescene.train.schedule import lr_factor
from wholescene.train.settings import EmaSettings, OptimSettings

__all__ = ["CHECKPOINT_KEY", "SegmentationModule", "draw_seed"]

CHECKPOINT_KEY = "wholescene"


class SegmentationModule(LightningModule):
    """Loss, optimiser, schedule and averaged weights of one segmenter.

    Dropout and every other draw of a step depend on the seed, the number of the step and the rank
    only, so that a resumed run draws what the uninterrupted one would have drawn.

    Args:
        model: Network to train.
        loss: Takes what ``model.forward_train`` returns, or logits (B, K, H, W), and labels
            (B, H, W); gives a scalar.
        optim: Optimiser and schedule.
        steps: Optimiser steps of the whole run, which the schedule needs.
        seed: Seed of the draws.
        ema: Average the weights; ``None``: do not.
        freeze: Part of the network that stays as it is, in evaluation mode.
        freeze_norm: Part of the network whose batch norms stay in evaluation mode.
        rows: The processes that share each sample, or what computes it in segments; ``None``
            computes it at once.
    """

    def __init__(
        self,
        model: Segmenter,
        loss: CombinedLoss,
        *,
        optim: OptimSettings,
        steps: int,
        seed: int = 0,
        ema: EmaSettings | None = None,
        freeze: Freeze = "none",
        freeze_norm: FreezeNorm = "none",
        rows: SharedRows | None = None,
    ) -> None:
        super().__init__()
        self._rows = rows
        self.model = model
        self.loss = loss
        self.average = (
            WeightAverage(model, decay=ema.decay, warmup=ema.warmup) if ema is not None else None
        )
        self._optim, self._steps, self._seed = optim, steps, seed
        self._resting = resting_parts(model, freeze=freeze, freeze_norm=freeze_norm)
        self._batch_in_step = 0

    @property
    def evaluated(self) -> Segmenter:
        """Network that is validated and exported: the averaged one, if there is one."""
        return self.model if self.average is None else self.average.model

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, K, H, W) of the network in training."""
        return cast(Tensor, self.model(image))

    def train(self, mode: bool = True) -> SegmentationModule:
        """Switch mode; frozen parts and norms stay in evaluation mode."""
        super().train(mode)
        for part in self._resting:
            part.eval()
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch."""
        del batch_idx
        if self._rows is not None:
            return {"loss": self._rows.loss(self.loss, batch)}
        outputs = self.model.forward_train(batch["image"], batch["label"])
        return {"loss": self.loss(outputs, batch["label"])}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimiser and a schedule per step."""
        optimizer = build_optimizer(self.model, self._optim)
        schedule = LambdaLR(optimizer, lambda step: lr_factor(step, self._optim, steps=self._steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_fit_start(self) -> None:
        """Bring the average to the device of the network; begin in training mode."""
        self.train()
        if self._rows is not None:
            self._rows.join(self.global_rank, self.trainer.world_size)
        if self.average is not None:
            self.average.to(self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the draws of this batch."""
        del batch, batch_idx
        torch.manual_seed(
            draw_seed(self._seed, self.global_step, self._batch_in_step, self.global_rank)
        )
        self._batch_in_step += 1

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then let the average follow, before anything is validated or saved."""
        super().optimizer_step(*args, **kwargs)
        self._batch_in_step = 0
        if self.average is not None:
            self.average.update(self.model)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the average and the description of the model."""
        checkpoint[CHECKPOINT_KEY] = {
            "spec": self.model.spec.model_dump_json(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the average back."""
        state = checkpoint[CHECKPOINT_KEY]["average"]
        if self.average is not None and state is not None:
            self.average.load_state_dict(state)


def draw_seed(seed: int, step: int, batch: int, rank: int) -> int:
    """Seed of the draws of one batch, a function of its place in the run alone.

    Args:
        seed: Seed of the run.
        step: Optimiser steps done.
        batch: Number of the batch within the step.
        rank: Number of the process.
    """
    return int(np.random.SeedSequence((seed, step, batch, rank)).generate_state(1, np.uint64)[0])
