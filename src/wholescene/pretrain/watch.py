"""What is measured between steps, in the place a validation has in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from wholescene.pretrain.methods import Method
from wholescene.pretrain.module import PretrainModule
from wholescene.pretrain.probe import ProbeData, color_histogram, embedding_spread, knn_accuracy
from wholescene.train.interrupt import StopRequest
from wholescene.train.metrics import STEP_COLUMNS
from wholescene.train.progress import Notice, TrainProgress

__all__ = ["COLUMNS", "Watch", "WatchValidator", "describe_start"]

COLUMNS = (*STEP_COLUMNS, "embedding_spread", "knn_accuracy")
"""Columns of ``metrics.csv``."""

BATCH = 32

Describe = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Outcome of one look at the network.

    Args:
        spread: From :func:`wholescene.pretrain.probe.embedding_spread`.
        accuracy: Of the nearest neighbours; ``None`` without a probe.
    """

    spread: float
    accuracy: float | None

    def row(self) -> dict[str, float]:
        """Columns of ``metrics.csv``."""
        row = {"embedding_spread": self.spread}
        return row if self.accuracy is None else {**row, "knn_accuracy": self.accuracy}

    def __str__(self) -> str:
        knn = "" if self.accuracy is None else f", kNN accuracy {100 * self.accuracy:.1f} %"
        return f"embedding spread {self.spread:.2f}{knn}"


class WatchValidator:
    """Looks at the network on windows that are never trained on, on every rank alike.

    Args:
        windows: Of the pool, (N, C, W, W).
        probe: Labelled windows; ``None``: the spread only.
        neighbours: Neighbours that vote.
        progress: Receives a line each time.
    """

    def __init__(
        self,
        windows: Tensor,
        probe: ProbeData | None,
        *,
        neighbours: int,
        progress: TrainProgress | None,
    ) -> None:
        self._windows, self._probe = windows, probe
        self.neighbours, self._progress = neighbours, progress

    def validate(self, module: LightningModule, stop: StopRequest) -> Watch | None:
        """Look at the network; ``None``, on every rank, if any was asked to stop."""
        if bool(module.trainer.strategy.reduce_boolean_decision(stop.is_set, all=False)):
            return None
        watch = self.look(cast(PretrainModule, module).method)
        if self._progress is not None:
            self._progress(Notice(text=f"step {module.global_step}: {watch}"))
        return watch

    def look(self, method: Method) -> Watch:
        """Measure spread and accuracy in evaluation mode, in float32 whatever trains."""
        was_training = method.training
        method.eval()
        spread = embedding_spread(in_batches(method.embed, self._windows, method))
        accuracy = None
        if self._probe is not None:
            accuracy = knn_accuracy(
                lambda images: in_batches(method.features, images, method),
                self._probe,
                neighbours=self.neighbours,
            )
        method.train(was_training)
        return Watch(spread=spread, accuracy=accuracy)


def describe_start(validator: WatchValidator, method: Method, probe: ProbeData | None) -> str:
    """What the network and plain colours reach before anything is learned."""
    watch = validator.look(method)
    if probe is None or watch.accuracy is None:
        return f"before: {watch}"
    plain = knn_accuracy(color_histogram, probe, neighbours=validator.neighbours)
    majority = float(
        (probe.query.classes == probe.query.classes.bincount().argmax()).float().mean()
    )
    return (
        f"before: {watch}; colour histograms {100 * plain:.1f} %, the most frequent class "
        f"{100 * majority:.1f} %"
    )


@torch.no_grad()
def in_batches(describe: Describe, images: Tensor, method: Method) -> Tensor:
    """Rows of many images, (N, D), on the CPU."""
    device, stride = next(method.parameters()).device, method.network.stride
    # Encoders read whole strides only.
    side = max(images.shape[-1] // stride * stride, stride)
    images = images[..., :side, :side]
    parts = [describe(part.to(device)).float().cpu() for part in torch.split(images, BATCH)]
    return torch.cat(parts)
