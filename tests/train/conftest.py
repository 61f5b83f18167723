"""A tiny dataset and configurations that train on it in seconds."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_dataset import MakeConfig, make_dataset

from wholescene.config import RunConfig
from wholescene.datasets import Dataset


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two training scenes and one for validation, 64 px each."""
    return make_dataset(tmp_path_factory.mktemp("tiny"), {"train": 2, "val": 1})


@pytest.fixture(scope="session")
def make_config(tiny: Dataset) -> MakeConfig:
    """Build a configuration; keywords are sections whose keys replace those given here."""

    def make(**sections: dict[str, Any]) -> RunConfig:
        values: dict[str, dict[str, Any]] = {
            "data": {
                "dataset": str(tiny.path),
                "patch_px": 32,
                "batch_size": 2,
                "num_workers": 0,
            },
            "model": {"encoder": "test_resnet", "decoder": "fcn"},
            "optim": {"lr": 0.01},
            "train": {
                "steps": 6,
                "device": "cpu",
                "tensorboard": False,
                "validate_every": 3,
                "checkpoint_every": 2,
                "log_every": 2,
            },
        }
        for section, changes in sections.items():
            values[section] = {**values.get(section, {}), **changes}
        return RunConfig.model_validate(values)

    return make
