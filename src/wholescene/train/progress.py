"""What a run says while it trains: small typed messages, never printed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CheckpointSaved",
    "Notice",
    "TrainMessage",
    "TrainProgress",
    "TrainStep",
    "Validated",
    "Validating",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainStep:
    """A step is done.

    Args:
        step: Steps done so far.
        total: Steps of the whole run.
        loss: Mean loss since the last row of ``metrics.csv``; ``None`` between rows.
        rate: Steps per second since this process began to train.
        lr: Learning rate of the decoder.
    """

    step: int
    total: int
    loss: float | None
    rate: float
    lr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Validating:
    """A part of a validation is done; ``total`` is ``None`` where it is not known."""

    step: int
    done: int
    total: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """A validation is done.

    Args:
        step: Steps done so far.
        miou: Mean intersection over union over the classes that occur.
        overall_accuracy: Share of labelled pixels that are right.
        is_best: Whether ``miou`` is the highest so far.
    """

    step: int
    miou: float
    overall_accuracy: float
    is_best: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved:
    """A checkpoint is complete on disk."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One line the user should read."""

    text: str


TrainMessage = TrainStep | Validating | Validated | CheckpointSaved | Notice
TrainProgress = Callable[[TrainMessage], None]
