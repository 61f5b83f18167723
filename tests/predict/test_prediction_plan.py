"""A plan says what will be done, and reads no pixel for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_models import context_model, pixel_model, write_scene

from wholescene.geometry import Window
from wholescene.prediction import plan_prediction, predict
from wholescene.raster import SceneReader

MakeScene = Callable[..., Path]


@pytest.fixture
def no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: SceneReader, window: Window, **options: object) -> None:
        raise AssertionError(f"read {window}")

    monkeypatch.setattr(SceneReader, "read", refuse)
    monkeypatch.setattr(SceneReader, "valid", refuse)


@pytest.mark.usefixtures("no_pixels")
def test_a_plan_reads_no_pixel_and_writes_nothing(make_scene: MakeScene, tmp_path: Path) -> None:
    scene = make_scene(96, 80)
    before = sorted(tmp_path.iterdir())
    model = context_model()
    windows = {"engine": "windowed", "block": 32, "overlap": 8}
    text = plan_prediction(scene, model, tta="flips", probabilities=True, **windows).describe()
    assert sorted(tmp_path.iterdir()) == before
    assert model.windows_seen == 0
    for said in (
        "96 x 80 px",
        "b0, b1, b2",
        "windowed",
        "12 windows",
        "32 x 32",
        "cpu",
        "3 forward",
    ):
        assert said in text


@pytest.mark.parametrize(
    "settings", [{"engine": "windowed", "block": 32, "overlap": 8}, {"engine": "whole"}]
)
def test_a_plan_counts_the_blocks_that_are_done(
    make_scene: MakeScene, tmp_path: Path, settings: dict[str, Any]
) -> None:
    scene, model = make_scene(130, 70), context_model()
    plan = plan_prediction(scene, model, **settings)
    result = predict(scene, model, tmp_path / "map.tif", **settings)
    assert plan.blocks == result.blocks == model.windows_seen


@pytest.mark.parametrize("engine", ["streamed", "windowed"])
def test_memory_does_not_grow_with_the_height(tmp_path: Path, engine: str) -> None:
    bytes_at = []
    for height in (600, 6000):
        scene = write_scene(tmp_path / f"{height}.tif", np.ones((3, height, 64), np.uint8))
        plan = plan_prediction(scene, pixel_model(), engine=engine, block=256)
        bytes_at.append(plan.memory_bytes)
    assert bytes_at[0] == bytes_at[1]


def test_memory_grows_with_width_batch_and_window(tmp_path: Path) -> None:
    def working(width: int = 2000, **settings: int) -> int:
        path = write_scene(tmp_path / f"{width}.tif", np.ones((3, 700, width), np.uint8))
        return plan_prediction(path, pixel_model(), engine="windowed", **settings).working_bytes

    plain = working()
    assert working(4000) > 1.2 * plain
    assert working(batch=16) > plain
    assert working(block=256) < plain


def test_disk_covers_what_lies_there_until_the_end(make_scene: MakeScene, tmp_path: Path) -> None:
    scene, model = make_scene(700, 500), pixel_model()
    settings = {"probabilities": "float32", "uncertainty": True}
    out = tmp_path / "out" / "map.tif"
    out.parent.mkdir()
    most = 0

    def measure(done: int, total: int) -> None:
        nonlocal most
        most = max(most, sum(f.stat().st_size for f in out.parent.rglob("*") if f.is_file()))

    predict(scene, model, out, progress=measure, **settings)
    finished = sum(f.stat().st_size for f in out.parent.iterdir())
    assert plan_prediction(scene, model, **settings).disk_bytes >= most + finished


def test_facts_are_plain_values(make_scene: MakeScene) -> None:
    facts = json.loads(json.dumps(plan_prediction(make_scene(), pixel_model()).facts()))
    assert facts["size"] == [96, 80]
    assert facts["blocks"] == 1
