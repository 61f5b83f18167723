"""Validation during training: its outcome, and validation on patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from wholescene.data import Batch
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.scores import iou, summary
from wholescene.labels import IGNORE_INDEX, ClassTable
from wholescene.train.interrupt import StopRequest
from wholescene.train.module import SegmentationModule
from wholescene.train.progress import TrainProgress, Validating

__all__ = ["Figures", "PatchValidator", "Validation", "Validator", "add_over_ranks", "is_stopping"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Outcome of one validation, over all ranks.

    Args:
        table: Confusion table over every labelled pixel of the split.
        loss: Mean loss over those pixels; NaN where it is not measured.
    """

    table: ConfusionTable
    loss: float = math.nan

    def row(self) -> dict[str, float]:
        """Columns of ``metrics.csv``; undefined figures are left out."""
        classes = zip(self.table.classes.names, iou(self.table), strict=True)
        head = summary(self.table)
        figures = {
            "val_loss": self.loss,
            "val_miou": head["miou"],
            "val_mf1": head["mf1"],
            "val_overall_accuracy": head["overall_accuracy"],
            "val_kappa": head["kappa"],
            **{f"val_iou_{name}": float(value) for name, value in classes},
        }
        return {key: value for key, value in figures.items() if not math.isnan(value)}


class Figures(Protocol):
    """What was measured between two steps."""

    def row(self) -> dict[str, float]:
        """Columns of ``metrics.csv``; undefined figures are left out."""
        ...


class Validator(Protocol):
    """Scores what trains on held-out pixels; called by every rank."""

    def validate(self, module: Any, stop: StopRequest) -> Figures | None:
        """Score the module; ``None``, on every rank, if any was asked to stop."""
        ...


class PatchValidator:
    """Scores the windows of the validation loader, which hold each pixel once.

    Args:
        open_loader: Makes the loader; called at the first validation.
        classes: Classes of the labels.
        progress: Receives messages.
    """

    def __init__(
        self,
        open_loader: Callable[[], Iterable[Batch]],
        classes: ClassTable,
        *,
        progress: TrainProgress | None = None,
    ) -> None:
        self._open_loader, self._classes, self._progress = open_loader, classes, progress
        self._loader: Iterable[Batch] | None = None

    def validate(self, module: SegmentationModule, stop: StopRequest) -> Validation | None:
        """Score every batch."""
        self._loader = self._loader or self._open_loader()
        total = len(self._loader) if isinstance(self._loader, Sized) else None
        table = ConfusionTable(self._classes)
        losses = torch.zeros(2, dtype=torch.float64)
        module.eval()
        for number, batch in enumerate(self._loader, 1):
            if stop.is_set:
                break
            losses += self._score(module, batch, table)
            if self._progress is not None:
                self._progress(Validating(step=module.global_step, done=number, total=total))
        if is_stopping(module, stop):
            return None
        counts = add_over_ranks(module, table)
        loss, pixels = _sum_over_ranks(module, losses).tolist()
        return Validation(table=counts, loss=loss / pixels if pixels else math.nan)

    @torch.no_grad()
    def _score(self, module: SegmentationModule, batch: Batch, table: ConfusionTable) -> Tensor:
        """Count one batch; gives its loss times its labelled pixels, and these."""
        truth = batch["label"]
        with module.trainer.precision_plugin.forward_context():
            logits = module.evaluated(batch["image"].to(module.device))
        labelled = int((truth != IGNORE_INDEX).sum())
        loss = module.loss(logits.float(), truth.to(module.device)) if labelled else logits.sum()
        table.add(truth.numpy(), logits.max(1).indices.cpu().numpy())
        return torch.tensor([float(loss) * labelled, labelled], dtype=torch.float64)


def is_stopping(module: SegmentationModule, stop: StopRequest) -> bool:
    """Whether any rank was asked to stop; every rank must ask."""
    strategy = module.trainer.strategy
    return bool(strategy.reduce_boolean_decision(stop.is_set, all=False))


def add_over_ranks(module: SegmentationModule, table: ConfusionTable) -> ConfusionTable:
    """Sum the tables of all ranks, exactly."""
    parts = (table.table.ravel(), table.unmapped, [table.ignored_pixels])
    flat = torch.cat([torch.as_tensor(part, dtype=torch.int64) for part in parts])
    counts = _sum_over_ranks(module, flat).numpy()
    k = table.classes.num_classes
    return ConfusionTable(
        table.classes,
        counts[: k * k].reshape(k, k),
        unmapped=counts[k * k : -1],
        ignored_pixels=int(counts[-1]),
    )


def _sum_over_ranks(module: SegmentationModule, values: Tensor) -> Tensor:
    if module.trainer.world_size == 1:
        return values
    total: Tensor = module.trainer.strategy.reduce(values.to(module.device), reduce_op="sum")
    return total.cpu()
