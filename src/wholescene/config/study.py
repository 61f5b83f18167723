"""A few-label study: which pre-trainings, how many labels, how often."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["StudyConfig", "StudyMethod", "StudyScoring"]

_STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
RANDOM = "random"
"""Name of the rows that start from random weights, alone or before a dash and the encoder."""

Name = Annotated[str, Field(min_length=1, pattern=NAME)]


class StudyMethod(BaseModel):
    """One way to pre-train."""

    model_config = _STRICT

    pretrain: Path
    """Pre-training configuration; its dataset and split are replaced by those of the study."""
    changes: tuple[str, ...] = ()
    """Changes to it, such as ``method.options.terms=global``, after ``pretrain_changes``."""
    part: Literal["encoder", "all"] = "encoder"
    """What fine-tuning takes over: the encoder, or the decoder as well."""


class StudyScoring(BaseModel):
    """How test scenes are mapped."""

    model_config = _STRICT

    engine: Literal["auto", "whole", "streamed", "windowed"] = "auto"
    """As ``--engine`` of ``wholescene predict``; vision transformers that attend to everything
    want ``windowed``, with a block near the size they trained on."""
    block: int | None = Field(default=None, ge=1)
    """As ``--block``, px; none: that of the engine."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """As ``--precision``."""


class StudyConfig(BaseModel):
    """Everything that decides what a few-label study does.

    Its cells are methods x fractions x label draws x repeats, by patch, by scene or both. Rows
    that start from random weights are added for each encoder.
    """

    model_config = _STRICT

    name: Name = "few-labels"
    """Name of the study: letters, digits, dots, dashes and underscores."""
    about: str = ""
    """Stands above the table: budgets, and how the settings of fine-tuning were found."""
    dataset: Path
    """``dataset.yaml`` of pool and labels, or its folder."""
    pool: str = Field(default="train", min_length=1)
    """Split that pre-training learns from without labels; several joined as ``train+pool``."""
    train_split: str = Field(default="train", min_length=1)
    """Split that labels are drawn from."""
    select_on: str = Field(default="val", min_length=1)
    """Split that chooses the step of each fine-tuning."""
    test_split: str = Field(default="test", min_length=1)
    """Split that is scored, and nothing else."""
    scoring: StudyScoring = StudyScoring()
    """How it is mapped."""
    methods: dict[Name, StudyMethod] = Field(min_length=1)
    """Pre-trainings by the names of their rows."""
    pretrain_changes: tuple[str, ...] = ()
    """Changes to every pre-training, such as ``train.steps=500``."""
    finetune: Path
    """Run configuration of every fine-tuning; dataset, splits, encoder and seed are replaced."""
    finetune_changes: tuple[str, ...] = ()
    """Changes to it."""
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.01, 0.05, 0.1, 1.0), min_length=1
    )
    """Shares of the labels."""
    by: tuple[Literal["patch", "scene"], ...] = Field(default=("patch",), min_length=1)
    """Whether labelled windows or whole labelled scenes are drawn."""
    patch_px: int = Field(default=256, ge=1)
    """Side of the windows that are drawn."""
    draws: int = Field(default=3, ge=1)
    """Draws of each share; every method gets the same."""
    repeats: int = Field(default=1, ge=1)
    """Fine-tunings on each draw, with other seeds."""
    keep_models: bool = False
    """Keep model, checkpoints and maps of every cell, not only its scores."""

    @model_validator(mode="after")
    def _splits_differ(self) -> StudyConfig:
        parts = [
            part.strip()
            for split in (self.train_split, self.select_on, self.test_split)
            for part in split.split("+")
        ]
        if len(set(parts)) < len(parts):
            raise ValueError(
                f"train_split {self.train_split!r}, select_on {self.select_on!r} and test_split "
                f"{self.test_split!r} share a split; a clean study keeps the three apart"
            )
        return self

    @model_validator(mode="after")
    def _names_are_free(self) -> StudyConfig:
        taken = [name for name in self.methods if name.split("-")[0] == RANDOM]
        if taken:
            raise ValueError(
                f"method {taken[0]!r} has the name of rows without pre-training, which are added "
                "for every encoder; choose another name"
            )
        return self

    @model_validator(mode="after")
    def _cells_differ(self) -> StudyConfig:
        for key, values in (("fractions", self.fractions), ("by", self.by)):
            if len(set(values)) < len(values):
                raise ValueError(f"{key} {list(values)} repeats a value; list each once")
        return self
