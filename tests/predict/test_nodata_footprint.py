"""Where the scene has no data, the map has none, and only there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from toy_models import constant_model, context_model, noise, pixel_model, read, write_scene

from wholescene.prediction import predict

MakeScene = Callable[..., Path]


def ragged(height: int, width: int, *, seed: int = 3) -> np.ndarray:
    """Valid pixels: a slanted collar off, and holes of single pixels."""
    rows, cols = np.mgrid[:height, :width]
    valid = (rows + cols > 25) & (rows - cols < height // 2)
    return valid & (np.random.default_rng(seed).random(valid.shape) > 0.02)


ENGINES = {
    "windowed": {"block": 48, "overlap": 12},
    "streamed": {"block": 48},
    "whole": {},
}


@pytest.mark.parametrize("engine", ENGINES)
def test_all_products_have_the_footprint_of_the_scene(
    make_scene: MakeScene, tmp_path: Path, engine: str
) -> None:
    valid = ragged(130, 90)
    scene = make_scene(pixels=noise(130, 90) * valid, nodata=0)
    out = tmp_path / "map.tif"
    predict(
        scene,
        context_model(),
        out,
        engine=engine,
        **ENGINES[engine],
        probabilities=True,
        uncertainty=True,
    )
    for name in ("map.tif", "map_probabilities.tif", "map_uncertainty.tif"):
        with rasterio.open(tmp_path / name) as file:
            masks = file.read_masks() > 0
        for mask in masks:
            np.testing.assert_array_equal(mask, valid, err_msg=name)
    np.testing.assert_array_equal(read(out)[0] == 0, ~valid)


def test_float_probabilities_are_nan_exactly_where_there_is_no_data(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    valid = ragged(60, 60)
    scene = make_scene(pixels=noise(60, 60) * valid, nodata=0)
    predict(scene, pixel_model(), tmp_path / "map.tif", probabilities="float32")
    found = read(tmp_path / "map_probabilities.tif")
    np.testing.assert_array_equal(np.isnan(found), np.broadcast_to(~valid, found.shape))


@pytest.mark.parametrize("engine", ENGINES)
def test_what_stands_in_nodata_pixels_changes_nothing(tmp_path: Path, engine: str) -> None:
    valid = ragged(64, 64)
    pixels = noise(64, 64).astype(np.float32)
    maps = []
    for name, filler in (("nan", np.nan), ("inf", np.inf)):
        filled = np.where(valid, pixels, np.float32(filler))
        scene = write_scene(tmp_path / f"{name}.tif", filled)
        predict(scene, context_model(), tmp_path / f"{name}_map.tif", engine=engine)
        maps.append(read(tmp_path / f"{name}_map.tif"))
    np.testing.assert_array_equal(*maps)
    np.testing.assert_array_equal(maps[0][0] != 0, valid)


def test_windows_without_data_never_reach_the_network(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    valid = np.zeros((64, 96), bool)
    valid[40, 70] = True  # one pixel, in one window of 32 px
    model = constant_model(0.0, 1.0)
    scene = make_scene(pixels=noise(64, 96) * valid, nodata=0)
    result = predict(scene, model, tmp_path / "map.tif", engine="windowed", block=32, overlap=0)
    assert model.windows_seen == 1
    assert result.blocks == 6
    found = read(tmp_path / "map.tif")[0]
    assert found[40, 70] == 10
    assert (found != 0).sum() == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_scene_without_any_data_gives_an_empty_map_and_a_note(
    make_scene: MakeScene, tmp_path: Path, engine: str
) -> None:
    model = pixel_model()
    scene = make_scene(pixels=np.zeros((50, 40), np.uint8)[None].repeat(3, 0), nodata=0)
    result = predict(scene, model, tmp_path / "map.tif", engine=engine)
    assert model.windows_seen == (engine == "whole")
    assert not read(tmp_path / "map.tif").any()
    assert any("no valid pixel" in note or "no data" in note for note in result.notes)
