"""A tiny pool and configurations that learn from it in seconds."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_pool import MakeConfig, make_pool

from wholescene.config import PretrainConfig
from wholescene.datasets import Dataset


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three scenes without labels, three with labels in each of two splits."""
    folder = tmp_path_factory.mktemp("pool")
    return make_pool(folder, {"pool": 3, "train": 3, "val": 3}, unlabelled=("pool",))


@pytest.fixture(scope="session")
def make_pretrain_config(pool: Dataset) -> MakeConfig:
    """Build a configuration; keywords are sections whose keys replace those given here."""

    def make(**sections: dict[str, Any]) -> PretrainConfig:
        values: dict[str, dict[str, Any]] = {
            "data": {
                "dataset": str(pool.path),
                "split": "pool",
                "window_px": 40,
                "batch_size": 4,
                "num_workers": 0,
            },
            "views": {"view_px": 32},
            "method": {"name": "simclr"},
            "model": {"encoder": "test_byobnet", "decoder": "fcn"},
            "optim": {"lr": 0.01, "schedule": "cosine"},
            "train": {
                "steps": 4,
                "device": "cpu",
                "tensorboard": False,
                "validate_every": 2,
                "checkpoint_every": 2,
                "log_every": 1,
            },
        }
        for section, changes in sections.items():
            values[section] = {**values.get(section, {}), **changes}
        return PretrainConfig.model_validate(values)

    return make
