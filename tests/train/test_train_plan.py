from __future__ import annotations

from pathlib import Path

import pytest
from tiny_dataset import MakeConfig

from wholescene.datasets import Dataset
from wholescene.errors import DatasetError
from wholescene.train import plan, settings_hash


def test_plan_counts_scenes_patches_and_epochs(make_config: MakeConfig, tiny: Dataset) -> None:
    config = make_config(optim={"accumulate": 3}, train={"steps": 40, "devices": 2})
    found = plan(config, tiny)
    assert found.scenes == {"train": 2, "val": 1}
    assert found.patches_per_epoch == 8  # two scenes of 64 px in patches of 32 px
    assert found.patches_per_step == 2 * 3 * 2
    assert found.epochs == 40 * 12 / 8
    assert found.config_hash == settings_hash(config)


def test_plan_is_a_text_with_every_setting(make_config: MakeConfig, tiny: Dataset) -> None:
    config = make_config(optim={"layer_decay": 0.5, "lr": 0.25})
    text = str(plan(config, tiny))
    assert "optim.lr = 0.25" in text
    assert 'model.encoder = "test_resnet"' in text
    assert "train 2, val 1" in text
    assert "to 0.25" in text  # learning rates of the layers


def test_memory_counts_weights_and_what_a_step_keeps(
    make_config: MakeConfig, tiny: Dataset
) -> None:
    sgd = plan(make_config(optim={"name": "sgd"}), tiny)
    adamw = plan(make_config(train={"ema": {}}), tiny)
    assert sgd.memory_bytes is not None
    assert adamw.memory_bytes is not None
    # One more state of the optimiser and the average.
    assert adamw.memory_bytes - sgd.memory_bytes == 2 * 4 * sgd.num_parameters


def test_memory_is_less_in_segments(make_config: MakeConfig, tiny: Dataset) -> None:
    whole, halves = (
        plan(make_config(data={"patch_px": 64}, parallel={"segments": count}), tiny)
        for count in (1, 2)
    )
    assert whole.memory_bytes is not None and halves.memory_bytes is not None
    assert halves.memory_bytes < whole.memory_bytes


def test_plan_finds_what_would_stop_the_run(make_config: MakeConfig, tiny: Dataset) -> None:
    with pytest.raises(DatasetError, match="no split 'none'"):
        plan(make_config(data={"train_split": "none"}), tiny)


def test_plan_writes_nothing(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tiny.root.rglob("*"))
    plan(make_config(), tiny)
    assert not list(tmp_path.iterdir())
    assert sorted(tiny.root.rglob("*")) == before
