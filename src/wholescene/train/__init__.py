"""Training: from scenes and settings to a run directory with a model."""

from wholescene.train.fit import RunResult, fit
from wholescene.train.metrics import read_metrics
from wholescene.train.module import SegmentationModule
from wholescene.train.plan import TrainPlan, plan
from wholescene.train.progress import (
    CheckpointSaved,
    Notice,
    TrainMessage,
    TrainProgress,
    TrainStep,
    Validated,
    Validating,
)
from wholescene.train.record import settings_hash
from wholescene.train.settings import (
    EmaSettings,
    OptimSettings,
    ParallelSettings,
    TrainSettings,
)

__all__ = [
    "CheckpointSaved",
    "EmaSettings",
    "Notice",
    "OptimSettings",
    "ParallelSettings",
    "RunResult",
    "SegmentationModule",
    "TrainMessage",
    "TrainPlan",
    "TrainProgress",
    "TrainSettings",
    "TrainStep",
    "Validated",
    "Validating",
    "fit",
    "plan",
    "read_metrics",
    "settings_hash",
]
