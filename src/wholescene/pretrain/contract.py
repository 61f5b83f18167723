"""The sections of a pre-training configuration."""

from __future__ import annotations

from typing import Any, Protocol

from wholescene.models import ModelSettings
from wholescene.pretrain.settings import MethodSettings, PoolSettings, ProbeSettings, ViewSettings
from wholescene.train import OptimSettings, TrainSettings

__all__ = ["PretrainSettings"]


class PretrainSettings(Protocol):
    """What :func:`wholescene.pretrain.pretrain` reads; ``PretrainConfig`` is one."""

    @property
    def name(self) -> str:
        """Name of the run."""
        ...

    @property
    def data(self) -> PoolSettings:
        """Scenes and windows."""
        ...

    @property
    def views(self) -> ViewSettings:
        """Views of a window."""
        ...

    @property
    def method(self) -> MethodSettings:
        """What is learned."""
        ...

    @property
    def probe(self) -> ProbeSettings | None:
        """Labelled windows that show progress."""
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
