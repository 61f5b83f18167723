"""What a few-label study has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wholescene.config import StudyConfig

__all__ = ["CellResult", "PretrainingResult", "StudyResult"]


@dataclass(frozen=True, kw_only=True)
class PretrainingResult:
    """One pre-training.

    Args:
        name: Name of its configuration.
        method: What was learned.
        folder: Name of its folder.
        config_hash: Digest of every setting.
        steps: Steps of the run.
        seconds: Time of training over all resumes.
        embedding_spread: At the end; below 0.2 the embeddings have collapsed.
        knn_accuracy: At the end; ``None`` without a probe.
        failure: Why there is none; ``None`` if there is one.
    """

    name: str
    method: str
    folder: str
    config_hash: str
    steps: int
    seconds: float | None = None
    embedding_spread: float | None = None
    knn_accuracy: float | None = None
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One fine-tuning.

    Args:
        method: Name of the row.
        baseline: Row from random weights that it is compared with; ``None`` for such a row.
        encoder: Name of the encoder.
        by: What was drawn, ``patch`` or ``scene``.
        fraction: Share of the labels.
        draw: Number of the draw.
        repeat: Number of the fine-tuning on it.
        labels: Windows or scenes drawn.
        seed: Of the fine-tuning.
        config_hash: Digest of every setting; a cell of the same hash is not made again.
        folder: Name of its folder.
        pretraining: Folder of the pre-training; ``None`` for random weights.
        steps: Steps of the fine-tuning.
        best_step: Step that the held-out training scenes chose.
        val_miou: Their mIoU at that step, a share.
        miou: On the test scenes, a share; ``None`` if it failed.
        overall_accuracy: Likewise.
        per_class: IoU of each class.
        seconds: Time of fine-tuning over all resumes.
        failure: Why there is no score; ``None`` if there is one.
    """

    method: str
    baseline: str | None
    encoder: str
    by: str
    fraction: float
    draw: int
    repeat: int
    labels: int
    seed: int
    config_hash: str
    folder: str
    pretraining: str | None
    steps: int
    best_step: int | None = None
    val_miou: float | None = None
    miou: float | None = None
    overall_accuracy: float | None = None
    per_class: Mapping[str, float | None] | None = None
    seconds: float | None = None
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """All there is so far.

    Args:
        study: Settings.
        pretrainings: By the name of their row.
        cells: Of these settings, in the order they were made.
        superseded: Results in the folder that belong to other settings.
    """

    study: StudyConfig
    pretrainings: Mapping[str, PretrainingResult]
    cells: tuple[CellResult, ...]
    superseded: tuple[CellResult, ...]
