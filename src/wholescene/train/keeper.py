"""What happens between two steps: validate, log, save, stop - in this order, on every rank."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from wholescene.errors import ConfigError
from wholescene.heap import HeapWatch
from wholescene.train.checkpoint import BEST, LAST
from wholescene.train.interrupt import StopRequest
from wholescene.train.metrics import MetricsFile
from wholescene.train.progress import (
    CheckpointSaved,
    Notice,
    TrainMessage,
    TrainProgress,
    TrainStep,
    Validated,
)
from wholescene.train.settings import TrainSettings
from wholescene.train.validation import Figures, Validator

__all__ = ["Pace", "RunKeeper"]

AGREE_EVERY = 4
"""Steps between two questions to the other ranks whether to stop."""
NOTHING_SCORED = (
    "no pixel of the validation split has a class, so the weights of the last step are exported; "
    "label some of it, or name another split in data.val_split"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much data one step takes, over all ranks.

    Args:
        patches_per_step: Patches of one optimiser step.
        patches_per_epoch: Patches of one epoch.
    """

    patches_per_step: int
    patches_per_epoch: int

    def epoch(self, step: int) -> float:
        """Epochs done after ``step`` steps."""
        return step * self.patches_per_step / self.patches_per_epoch


class RunKeeper(Callback):
    """Keeps the run directory in step with the training.

    Lightning validates after its callbacks have run and saves between the two; a run killed in
    between would skip that validation for ever. So validation happens here, before saving, and a
    validation that was interrupted is remembered in the checkpoint and made up for on resume.

    Args:
        settings: How often to do what.
        out: Run directory.
        columns: Columns of ``metrics.csv``.
        validator: Scores the network; ``None``: no validation.
        progress: Receives messages, on rank 0.
    """

    def __init__(
        self,
        settings: TrainSettings,
        *,
        out: Path,
        columns: Sequence[str],
        validator: Validator | None,
        progress: TrainProgress | None,
    ) -> None:
        self.stop = StopRequest()
        self.was_stopped = False
        self.best_step: int | None = None
        self.best_miou = -math.inf
        self.pace = Pace(patches_per_step=1, patches_per_epoch=1)
        self._heap = HeapWatch()
        self._settings, self._out = settings, out
        self._columns, self._validator, self._progress = tuple(columns), validator, progress
        self._metrics: MetricsFile | None = None
        self._owes_validation = False
        self._losses: list[Tensor] = []
        self._seconds_before = 0.0
        self._step = 0
        self._lr = math.nan

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on as if nothing had happened."""
        return {
            "best_step": self.best_step,
            "best_miou": self.best_miou,
            "owes_validation": self._owes_validation,
            "lr": self._lr,
            "losses": [float(loss) for loss in self._losses],
            "seconds": self._seconds(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state back."""
        self.best_step, self.best_miou = state_dict["best_step"], state_dict["best_miou"]
        self._owes_validation = state_dict["owes_validation"]
        self._lr = state_dict["lr"]
        self._losses = [torch.tensor(loss) for loss in state_dict["losses"]]
        self._seconds_before = state_dict["seconds"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the metrics; make up for a validation that was interrupted."""
        self._start = self._window_start = time.monotonic()
        self._step = self._first_step = self._window_step = trainer.global_step
        self._losses = [loss.to(pl_module.device) for loss in self._losses]
        self.stop.listen()
        if trainer.is_global_zero:
            path = self._out / "metrics.csv"
            self._metrics = MetricsFile(path, self._columns, keep_until=self._step)
        if self._owes_validation:
            self._end_step(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Collect the loss; after the last batch of a step, do what is due."""
        del batch, batch_idx
        self._losses.append(outputs["loss"].detach())
        self._heap.work_ended()
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            self._end_step(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Note the learning rate this step uses; the schedule moves on before the step ends."""
        del pl_module, batch, batch_idx
        self._lr = max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        del trainer, pl_module, exception
        self.stop.release()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back, before Lightning gives back its own."""
        del trainer, pl_module
        self.stop.release()

    def _end_step(self, trainer: Trainer, module: LightningModule) -> None:
        step, is_last = self._step, self._step == self._settings.steps
        self._agree_to_stop(trainer)
        validation = self._validate(trainer, module, is_last=is_last)
        is_logged = step % self._settings.log_every == 0 or is_last or validation is not None
        is_saved = step % self._settings.checkpoint_every == 0 or is_last or self.was_stopped
        loss = self._mean_loss(trainer) if is_logged or is_saved else None
        if is_logged and loss is not None and not self._owes_validation:
            self._log(trainer, loss, validation)
        self._say(trainer, self._step_message(trainer, loss if is_logged else None))
        if validation is not None:
            self._note_best(trainer, validation)
        # A finished run is not trained on, so one that still owes its last validation is not saved.
        if is_saved and not (is_last and self._owes_validation):
            self._save(trainer, LAST)
        trainer.should_stop = trainer.should_stop or self.was_stopped

    def _agree_to_stop(self, trainer: Trainer) -> None:
        """A signal may reach some ranks only; all stop after the same step."""
        if trainer.world_size > 1 and self._step % AGREE_EVERY:
            return  # asking the others makes a GPU wait
        self.was_stopped = self.was_stopped or bool(
            trainer.strategy.reduce_boolean_decision(self.stop.is_set, all=False)
        )

    def _validate(
        self, trainer: Trainer, module: LightningModule, *, is_last: bool
    ) -> Figures | None:
        is_due = self._owes_validation or self._step % self._settings.validate_every == 0 or is_last
        if self._validator is None or not is_due:
            return None
        self._owes_validation = True
        if self.was_stopped:
            return None
        began = time.monotonic()
        validation = self._validator.validate(module, self.stop)
        module.train()
        self._owes_validation = validation is None
        self.was_stopped = self.was_stopped or validation is None
        self._window_start += time.monotonic() - began
        return validation

    def _mean_loss(self, trainer: Trainer) -> float:
        """Mean over the batches since the last row, and over ranks."""
        if not self._losses:
            return math.nan
        losses = trainer.strategy.reduce(torch.stack(self._losses).float(), reduce_op="mean")
        self._losses = list(losses)
        mean = (
            float(losses.double().mean()) if losses.device.type != "mps" else float(losses.mean())
        )
        if not math.isfinite(mean):
            raise ConfigError(
                f"the loss became {mean} before step {self._step}; weights up to the last "
                "checkpoint are kept. Lower optim.lr, set optim.clip_norm or optim.warmup_steps, "
                "or use train.precision float32"
            )
        return mean

    def _log(self, trainer: Trainer, loss: float, validation: Figures | None) -> None:
        now = time.monotonic()
        patches = (self._step - self._window_step) * self.pace.patches_per_step
        row: dict[str, float] = {
            "epoch": round(self.pace.epoch(self._step), 4),
            "loss": loss,
            "lr": self._lr,
            "seconds": round(self._seconds(), 3),
            "patches_per_second": round(patches / max(now - self._window_start, 1e-9), 3),
            **(validation.row() if validation is not None else {}),
        }
        row = {key: value for key, value in row.items() if not math.isnan(value)}
        self._losses, self._window_start, self._window_step = [], now, self._step
        if self._metrics is not None:
            self._metrics.write({"step": self._step, **row})
            for logger in trainer.loggers:
                logger.log_metrics(row, step=self._step)

    def _note_best(self, trainer: Trainer, validation: Figures) -> None:
        row = validation.row()
        if not row:
            self._say(trainer, Notice(text=f"step {self._step}: {NOTHING_SCORED}"))
        if "val_miou" not in row:
            return
        miou, accuracy = row["val_miou"], row["val_overall_accuracy"]
        is_best = miou > self.best_miou
        if is_best:
            self.best_step, self.best_miou = self._step, miou
            self._save(trainer, BEST)
        message = Validated(step=self._step, miou=miou, overall_accuracy=accuracy, is_best=is_best)
        self._say(trainer, message)

    def _save(self, trainer: Trainer, name: Path) -> None:
        trainer.save_checkpoint(self._out / name)
        self._say(trainer, CheckpointSaved(step=self._step, path=self._out / name))

    def _seconds(self) -> float:
        """Seconds of training so far, over all resumes."""
        return self._seconds_before + time.monotonic() - self._start

    def _step_message(self, trainer: Trainer, loss: float | None) -> TrainStep:
        done = self._step - self._first_step
        return TrainStep(
            step=self._step,
            total=self._settings.steps,
            loss=loss,
            rate=done / max(time.monotonic() - self._start, 1e-9),
            lr=self._lr,
        )

    def _say(self, trainer: Trainer, message: TrainMessage) -> None:
        if self._progress is not None and trainer.is_global_zero:
            self._progress(message)
