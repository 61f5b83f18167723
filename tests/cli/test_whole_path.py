"""The commands one after the other, as a user would call them."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from small_world import SIDE, World, make_world

from wholescene.cli import app


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def run(capsys: pytest.CaptureFixture, *command: object) -> dict:
    """Run a command with ``--json``; stdout must hold one object and nothing else."""
    with pytest.raises(SystemExit) as stop:
        app([*map(str, command), "--json"])
    assert stop.value.code == 0
    return json.loads(capsys.readouterr().out)


def test_train_predict_evaluate_report_vectorize(world: World, capsys, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained = run(
        capsys,
        "train",
        world.config,
        "--out",
        out,
        "--set",
        "train.steps=60",
        "--set",
        "train.validate_every=30",
        "--set",
        "optim.lr=1e-2",
        "--set",
        "model.decoder=unet",
    )
    assert trained["steps"] == 60
    mapped = run(
        capsys,
        "predict",
        world.root / "data" / "test.tif",
        "--model",
        out,
        "--out",
        tmp_path / "map.tif",
        "--probabilities",
        "--preview",
        tmp_path / "map.png",
    )
    assert mapped["pixels"] == SIDE * SIDE
    scores = run(
        capsys,
        "evaluate",
        "--dataset",
        world.dataset,
        "--model",
        out,
        "--out",
        tmp_path / "ev",
        "--boundary",
        2,
    )
    # Brightness alone tells the classes apart.
    assert scores["overall_accuracy"] > 0.9
    again = run(capsys, "score", world.root / "data" / "test_label.tif", tmp_path / "map.tif")
    assert again["confusion"] == scores["confusion"]
    with (
        rasterio.open(tmp_path / "map.tif") as one,
        rasterio.open(tmp_path / "ev/maps/test.tif") as two,
    ):
        np.testing.assert_array_equal(one.read(), two.read())
    page = run(capsys, "report", out)
    assert Path(page["output"]).read_text().startswith("<!DOCTYPE html>")
    vectors = run(capsys, "vectorize", tmp_path / "map.tif", "--out", tmp_path / "map.gpkg")
    assert vectors["polygons"] >= 2


def test_evaluate_streams_and_passes_on_notes(world: World, capsys, tmp_path: Path) -> None:
    command = ("evaluate", "--dataset", world.dataset, "--model", world.model, "--out")
    whole = run(capsys, *command, tmp_path / "whole")
    streamed = run(capsys, *command, tmp_path / "st", "--engine", "streamed", "--block", 16)
    assert streamed["confusion"] == whole["confusion"]
    views = ("--tta", "flips", "--memory", "1MiB")
    with pytest.raises(SystemExit):
        app([*map(str, (*command, tmp_path / "views", *views))])
    assert "note (test): one plain forward would take" in capsys.readouterr().out


def test_plan_and_dry_run_write_nothing(world: World, capsys) -> None:
    before = sorted(world.root.rglob("*"))
    planned = run(capsys, "plan", world.scene, "--model", world.model)
    assert (planned["engine"], planned["blocks"]) == ("whole", 1)
    streamed = ("--engine", "streamed", "--block", 16, "--memory", "1GiB", "--strict")
    planned = run(capsys, "plan", world.scene, "--model", world.model, *streamed)
    assert planned["engine"] == "streamed"
    assert planned["blocks"] > 1
    assert planned["fallbacks"] == []
    assert planned["multiply_adds"] > 0
    assert 0 < planned["memory_bytes"] < 1 << 30
    dry = run(capsys, "train", world.config, "--dry-run")
    assert dry["steps"] == 2
    assert sorted(world.root.rglob("*")) == before


def test_info_tells_what_the_scene_is(world: World, capsys) -> None:
    facts = run(capsys, "info", world.scene)
    assert [band["name"] for band in facts["bands"]] == ["blue", "green", "red"]
    with rasterio.open(world.scene) as scene:
        means = scene.read().reshape(3, -1).mean(1)
    np.testing.assert_allclose([band["mean"] for band in facts["statistics"]], means)


def test_synthesize_verify_stats_fraction(capsys, tmp_path: Path) -> None:
    made = run(
        capsys,
        "data",
        "synthesize",
        "--out",
        tmp_path,
        "--scenes",
        3,
        "--height",
        64,
        "--width",
        80,
        "--dtype",
        "uint8",
    )
    assert run(capsys, "data", "stats", made["dataset"])["bands"]
    findings = run(capsys, "data", "verify", made["dataset"])["findings"]
    assert not [f for f in findings if f["severity"] == "error"]
    drawn = run(
        capsys,
        "data",
        "fraction",
        made["dataset"],
        "--fraction",
        0.5,
        "--patch",
        32,
        "--out",
        tmp_path / "half.csv",
    )
    assert drawn["windows"] >= 1


def test_models_list_and_show(world: World, capsys) -> None:
    listed = run(capsys, "models", "list", "resnet1*")
    assert "resnet18" in listed["encoders"]
    assert {"fcn", "unet", "upernet"} <= set(listed["decoders"])
    assert run(capsys, "models", "show", world.model)
    assert run(capsys, "models", "show", "resnet18")


def test_split_without_labels_is_mapped_not_scored(world: World, capsys, tmp_path: Path) -> None:
    table = world.dataset.parent / "scenes.csv"
    before = table.read_text()
    try:
        table.write_text(before.replace("test_label.tif", ""))
        scores = run(
            capsys,
            "evaluate",
            "--dataset",
            world.dataset,
            "--model",
            world.model,
            "--out",
            tmp_path,
        )
    finally:
        table.write_text(before)
    assert scores == {}
    assert (tmp_path / "maps" / "test.tif").exists()
    assert (tmp_path / "report.html").exists()
