"""A pre-training configuration: one level of sections, each defined in the room that reads it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wholescene.models import ModelSettings
from wholescene.pretrain import (
    MethodSettings,
    PoolSettings,
    ProbeSettings,
    ViewSettings,
    method_options,
)
from wholescene.train import OptimSettings, TrainSettings

__all__ = ["PretrainConfig"]


class PretrainConfig(BaseModel):
    """Everything that decides what a pre-training does."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(default="pretrain", min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run: letters, digits, dots, dashes and underscores."""
    data: PoolSettings
    """Scenes and windows; labels are not read."""
    views: ViewSettings = ViewSettings()
    """Views of a window."""
    method: MethodSettings = MethodSettings()
    """What is learned."""
    probe: ProbeSettings | None = None
    """Labelled windows that show progress; none: do without."""
    model: ModelSettings = ModelSettings(decoder="deeplabv3plus")
    """Network."""
    optim: OptimSettings = OptimSettings()
    """How weights move."""
    train: TrainSettings = TrainSettings()
    """Length, hardware, checkpoints."""

    @model_validator(mode="after")
    def _method_exists(self) -> PretrainConfig:
        method_options(self.method.name, self.method.options)
        return self
