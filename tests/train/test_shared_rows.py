"""A sample whose rows are on several processes trains what one process would have trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rasterio
import torch
from safetensors.torch import load_file
from tiny_dataset import MakeConfig, make_dataset

from wholescene.config import RunConfig
from wholescene.datasets import Dataset
from wholescene.errors import ConfigError
from wholescene.prediction import predict
from wholescene.train import fit, plan, read_metrics
from wholescene.train.rows import check_rows


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Scenes whose labels are not spread evenly over the rows."""
    folder = tmp_path_factory.mktemp("scenes")
    return make_dataset(folder, {"train": 2, "val": 1}, side=75, ignored_rows=20)


def config_for(make_config: MakeConfig, dataset: Dataset, **sections: Any) -> RunConfig:
    parts: dict[str, Any] = {
        "data": {"dataset": str(dataset.path), "sampling": "scenes", "batch_size": 1},
        "model": {
            "decoder": "upernet",
            # What dropout drops is chosen otherwise over several processes.
            "decoder_options": {"channels": 8, "bins": [2, 3], "dropout": 0.0},
            "auxiliary": True,
            "auxiliary_options": {"dropout": 0.0},
        },
        "loss": {"terms": {"cross_entropy": 1.0, "dice": 0.5, "lovasz": 0.5, "focal": 0.2}},
        "optim": {"name": "sgd", "lr": 0.05, "accumulate": 2},
        "train": {"steps": 4, "log_every": 1},
    }
    for section, changes in sections.items():
        parts[section] = {**parts.get(section, {}), **changes}
    return make_config(**parts)


def learned(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.slow  # every process imports torch again
def test_weights_do_not_depend_on_the_number_of_rows(
    make_config: MakeConfig, scenes: Dataset, tmp_path: Path
) -> None:
    fit(config_for(make_config, scenes), scenes, tmp_path / "1")
    expected = learned(tmp_path / "1")
    for rows in (2, 3):
        out = tmp_path / str(rows)
        fit(config_for(make_config, scenes, parallel={"rows": rows}), scenes, out)
        for name, tensor in learned(out).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
        losses = [
            row["loss"] for row in read_metrics(out / "metrics.csv") if row.get("loss") is not None
        ]
        plain = [
            row["loss"]
            for row in read_metrics(tmp_path / "1" / "metrics.csv")
            if row.get("loss") is not None
        ]
        assert losses == pytest.approx(plain, rel=1e-4)


def test_segments_change_nothing(make_config: MakeConfig, scenes: Dataset, tmp_path: Path) -> None:
    for segments in (1, 3):
        config = config_for(make_config, scenes, parallel={"segments": segments})
        fit(config, scenes, tmp_path / str(segments))
    for name, tensor in learned(tmp_path / "3").items():
        torch.testing.assert_close(tensor, learned(tmp_path / "1")[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_run_goes_on_with_other_rows(
    make_config: MakeConfig, scenes: Dataset, tmp_path: Path
) -> None:
    short = config_for(make_config, scenes)
    fit(short, scenes, tmp_path / "whole")
    run = tmp_path / "run"

    class StopError(Exception):
        pass

    def stop(message: object) -> None:
        if getattr(message, "step", 0) == 3:
            raise StopError

    with pytest.raises(StopError):
        fit(short, scenes, run, progress=stop)
    other = config_for(make_config, scenes, parallel={"rows": 2, "segments": 3})
    fit(other, scenes, run, resume=True)
    for name, tensor in learned(run).items():
        torch.testing.assert_close(tensor, learned(tmp_path / "whole")[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_network_trained_in_rows_maps_alike_on_every_engine(
    make_config: MakeConfig, scenes: Dataset, tmp_path: Path
) -> None:
    run = fit(config_for(make_config, scenes, parallel={"rows": 2}), scenes, tmp_path / "run")
    (scene,) = scenes.split("val")
    maps = {}
    for engine, settings in {
        "whole": {},
        "streamed": {"block": 32},
        "sharded": {"ranks": 1},
        "sharded over three": {"engine": "sharded", "ranks": 3},
    }.items():
        out = tmp_path / f"{engine}.tif"
        predict(scene.files, run.model, out, probabilities=True, **{"engine": engine, **settings})
        shares = out.with_name(f"{out.stem}_probabilities.tif")
        with rasterio.open(out) as classes, rasterio.open(shares) as given:
            maps[engine] = classes.read(), given.read().astype(int)
    for engine, (classes, shares) in maps.items():
        assert (classes == maps["whole"][0]).all(), engine
        assert abs(shares - maps["whole"][1]).max() <= 1, engine


@pytest.mark.slow
def test_rows_and_batches_at_once(make_config: MakeConfig, scenes: Dataset, tmp_path: Path) -> None:
    accumulated = config_for(make_config, scenes, train={"freeze_norm": "all"})
    fit(accumulated, scenes, tmp_path / "accumulated")
    spread = config_for(
        make_config,
        scenes,
        optim={"accumulate": 1},
        train={"freeze_norm": "all", "devices": 2},
        parallel={"rows": 2},
    )
    fit(spread, scenes, tmp_path / "spread")
    for name, tensor in learned(tmp_path / "spread").items():
        torch.testing.assert_close(
            tensor, learned(tmp_path / "accumulated")[name], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"precision": "bfloat16"}}, "rows = 2 trains in float32 only"),
        ({"model": {"decoder": "pointrend", "decoder_options": {}}}, "has a loss of its own"),
        (
            {"train": {"precision": "bfloat16"}, "parallel": {"rows": 1, "segments": 4}},
            r"parallel\.segments = 4 trains in float32 only",
        ),
    ],
    ids=["precision", "decoder", "segments"],
)
def test_what_cannot_be_shared_is_refused(
    make_config: MakeConfig, scenes: Dataset, sections: dict[str, Any], message: str
) -> None:
    config = config_for(make_config, scenes, **{"parallel": {"rows": 2}, **sections})
    with pytest.raises(ConfigError, match=message):
        plan(config, scenes)


def test_rows_must_divide_the_processes(make_config: MakeConfig, scenes: Dataset) -> None:
    config = config_for(make_config, scenes, parallel={"rows": 2})
    with pytest.raises(ConfigError, match=r"parallel\.rows = 2 does not divide the 3 processes"):
        check_rows(config, 3)


def test_the_plan_counts_processes_and_samples(make_config: MakeConfig, scenes: Dataset) -> None:
    found = plan(config_for(make_config, scenes, parallel={"rows": 3}), scenes)
    assert (found.num_ranks, found.patches_per_step, found.patches_per_epoch) == (3, 2, 2)
