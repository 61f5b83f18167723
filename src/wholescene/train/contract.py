"""The sections of a run configuration that training reads."""

from __future__ import annotations

from typing import Any, Protocol

from wholescene.data.settings import DataSettings
from wholescene.losses import LossSettings
from wholescene.models import ModelSettings
from wholescene.train.settings import OptimSettings, ParallelSettings, TrainSettings

__all__ = ["LearnSettings", "RunSettings"]


class LearnSettings(Protocol):
    """What every run reads, with labels or without.

    Training lies below the config room, which composes the sections, so it states what it needs.
    """

    @property
    def name(self) -> str:
        """Name of the run."""
        ...

    @property
    def model(self) -> ModelSettings:
        """Network."""
        ...

    @property
    def optim(self) -> OptimSettings:
        """How weights move."""
        ...

    @property
    def train(self) -> TrainSettings:
        """Length, hardware, checkpoints."""
        ...

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        """All settings as plain values, as pydantic gives them."""
        ...


class RunSettings(LearnSettings, Protocol):
    """What :func:`wholescene.train.fit` reads; ``wholescene.config.RunConfig`` is one."""

    @property
    def data(self) -> DataSettings:
        """Scenes, patches, augmentation."""
        ...

    @property
    def loss(self) -> LossSettings:
        """What is minimised."""
        ...

    @property
    def parallel(self) -> ParallelSettings:
        """How one batch is spread over processes."""
        ...
