"""A run configuration: one level of sections, each defined in the room that reads it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from wholescene.data.settings import DataSettings
from wholescene.losses import LossSettings
from wholescene.models import ModelSettings
from wholescene.train import OptimSettings, ParallelSettings, TrainSettings

__all__ = ["RunConfig", "json_schema"]


class RunConfig(BaseModel):
    """Everything that decides what a run does."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(default="run", min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run: letters, digits, dots, dashes and underscores."""
    data: DataSettings
    """Scenes, patches, augmentation."""
    model: ModelSettings = ModelSettings()
    """Network."""
    loss: LossSettings = LossSettings()
    """What is minimised."""
    optim: OptimSettings = OptimSettings()
    """How weights move."""
    train: TrainSettings = TrainSettings()
    """Length, hardware, checkpoints."""
    parallel: ParallelSettings = ParallelSettings()
    """How one batch is spread over processes."""


def json_schema() -> dict[str, Any]:
    """JSON schema of a run configuration, for editors that complete and check YAML."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RunConfig.model_json_schema(),
        "title": "wholescene run configuration",
    }
