"""Every public dataset, from its files as published to a score; pools to windows."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from wholescene.datasets import load_dataset, verify
from wholescene.datasets.prepare.command import prepare
from wholescene.datasets.prepare.run import prepare_dataset
from wholescene.datasets.public.recipe import load_recipe, recipe_names
from wholescene.errors import DatasetError, LabelError, RasterError
from wholescene.evaluate.protocol import load_protocol
from wholescene.geometry import Window

RECIPES = {name: load_recipe(name) for name in recipe_names()}
LABELLED = [name for name, recipe in RECIPES.items() if not recipe.is_pool]
POOLS = [name for name, recipe in RECIPES.items() if recipe.is_pool]
WINDOWS, WINDOW_PX = 1000, 16
REFUSED = (DatasetError, LabelError, RasterError)


def fixture_of(name: str) -> ModuleType:
    return importlib.import_module(f"public_fixtures.{name.replace('-', '_')}")


def traps() -> list[tuple[str, str]]:
    return [(name, trap) for name in RECIPES for trap in fixture_of(name).TRAPS]


def test_the_datasets_of_the_seeds_are_there() -> None:
    assert set(LABELLED) == {
        "deepglobe",
        "five-billion-pixels",
        "glh-water",
        "isaid",
        "loveda",
        "openearthmap",
        "potsdam",
        "uavid",
        "vaihingen",
        "whu-ohs",
    }
    assert set(POOLS) == {"dota", "million-aid"}


@pytest.mark.parametrize("name", LABELLED)
def test_from_files_as_published_to_a_score(name: str, tmp_path: Path) -> None:
    from wholescene.study.evaluation import evaluate_split
    from wholescene.study.training import train_run

    protocol = load_protocol(f"strict-{name}")
    fixture_of(name).make(tmp_path / "source")
    facts, _ = prepare(
        name,
        tmp_path / "source",
        tmp_path / "data",
        split=protocol.split_way,
        variant=protocol.variant,
    )
    dataset = load_dataset(facts["dataset"])
    assert [f.what for f in verify(dataset) if f.severity == "error"] == []
    config = tmp_path / "run.yaml"
    config.write_text(
        f"name: {name}\n"
        f"data: {{dataset: {dataset.path}, val_split: train, patch_px: 32, batch_size: 2, "
        "num_workers: 0}\n"
        "model: {encoder: test_resnet, decoder: fcn}\n"
        "train: {steps: 1, validate_every: 1, tensorboard: false}\n"
    )
    train_run(config, [], out=tmp_path / "run", say=lambda _: None, progress=lambda *_: None)
    scores, _ = evaluate_split(
        dataset.path, tmp_path / "run" / "model", tmp_path / "scores", protocol=protocol.name
    )
    assert scores["scored_pixels"] > 0
    assert 0 <= scores["overall_accuracy"] <= 1


@pytest.mark.parametrize("name", POOLS)
def test_from_a_pool_as_published_to_windows(name: str, tmp_path: Path) -> None:
    fixture_of(name).make(tmp_path / "source")
    facts, _ = prepare(name, tmp_path / "source", tmp_path / "data")
    dataset = load_dataset(facts["dataset"])
    assert [f.what for f in verify(dataset) if f.severity == "error"] == []
    rng = np.random.default_rng(0)
    read = 0
    while read < WINDOWS:
        for scene in dataset.scenes:
            with dataset.reader(scene) as image:
                for _ in range(25):
                    top, left = (int(rng.integers(0, max(1, s - WINDOW_PX))) for s in image.size)
                    window = Window(row_off=top, col_off=left, height=WINDOW_PX, width=WINDOW_PX)
                    assert image.read(window).values.shape == (image.num_bands, *window.size)
                    read += 1


@pytest.mark.parametrize(("name", "trap"), traps())
def test_every_trap_is_told(name: str, trap: str, tmp_path: Path) -> None:
    fixture = fixture_of(name)
    fixture.make(tmp_path / "source")
    planted = fixture.TRAPS[trap]
    planted.plant(tmp_path / "source")
    settings = dict(planted.settings or {})
    if planted.found_by == "prepare":
        with pytest.raises(REFUSED, match=planted.error):
            prepare_dataset(RECIPES[name], tmp_path / "source", tmp_path / "data", **settings)
        assert not (tmp_path / "data" / "dataset.yaml").exists()
        return
    made = prepare_dataset(RECIPES[name], tmp_path / "source", tmp_path / "data", **settings)
    findings = verify(load_dataset(made.path))
    text = "\n".join((*made.notes, *(finding.what for finding in findings)))
    assert re.search(planted.error, text)
