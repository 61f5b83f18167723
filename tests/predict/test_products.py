"""What the files of a map hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from toy_models import constant_model, context_model, noise, pixel_model, read, softmax_of

from wholescene.geometry import Window
from wholescene.models import model_id
from wholescene.prediction import predict
from wholescene.raster import LabelReader

MakeScene = Callable[..., Path]
WINDOWS: dict[str, Any] = {"engine": "windowed", "block": 24, "overlap": 5}


def test_a_map_holds_the_ids_of_the_most_likely_classes(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    pixels, model = noise(40, 56), pixel_model(classes=4)
    predict(make_scene(pixels=pixels), model, tmp_path / "map.tif", block=32)
    expected = np.array([1, 10, 11, 200])[softmax_of(model, pixels).argmax(0)]
    np.testing.assert_array_equal(read(tmp_path / "map.tif")[0], expected)
    assert len(np.unique(expected)) == 4


def test_a_map_lies_where_the_scene_lies(make_scene: MakeScene, tmp_path: Path) -> None:
    turned = Affine(8, 3, 400_000, 3, -8, 5_000_000)
    scene = make_scene(40, 30, transform=turned, crs="EPSG:32632")
    predict(scene, pixel_model(), tmp_path / "map.tif", uncertainty=True)
    for name in ("map.tif", "map_uncertainty.tif"):
        with rasterio.open(tmp_path / name) as file:
            assert file.transform.almost_equals(turned)
            assert file.crs.to_epsg() == 32632
            assert (file.height, file.width) == (40, 30)


def test_probabilities_are_bytes_with_their_scale(make_scene: MakeScene, tmp_path: Path) -> None:
    pixels, model = noise(40, 50), pixel_model()
    predict(make_scene(pixels=pixels), model, tmp_path / "map.tif", block=32, probabilities=True)
    with rasterio.open(tmp_path / "map_probabilities.tif") as file:
        assert file.dtypes == ("uint8",) * 3
        assert file.descriptions == ("class 0", "class 1", "class 2")
        stored, scale = file.read(), file.scales[0]
        assert len(set(file.scales)) == 1
        assert file.nodata == 255
    assert stored.max() <= 254
    np.testing.assert_allclose(stored * scale, softmax_of(model, pixels), atol=scale / 2 + 1e-5)


def test_uncertainty_is_the_entropy_over_its_maximum(make_scene: MakeScene, tmp_path: Path) -> None:
    pixels, model = noise(40, 50), pixel_model()
    predict(make_scene(pixels=pixels), model, tmp_path / "map.tif", block=32, uncertainty=True)
    with rasterio.open(tmp_path / "map_uncertainty.tif") as file:
        found, scale = file.read(1), file.scales[0]
        assert file.nodata == 255
    probabilities = softmax_of(model, pixels)
    entropy = -(probabilities * np.log(probabilities)).sum(0) / math.log(3)
    np.testing.assert_allclose(found * scale, entropy, atol=scale / 2 + 1e-5)
    assert np.ptp(found) > 100


@pytest.mark.parametrize(
    ("logits", "uncertainty"),
    [
        ((0.0, 0.0), 254),
        ((0.0, 200.0), 0),
        ((5.0,), 0),
        ((0.0, math.log(3)), round(0.8112781 * 254)),
    ],
)
def test_uncertainty_of_known_shares(
    make_scene: MakeScene, tmp_path: Path, logits: tuple[float, ...], uncertainty: int
) -> None:
    predict(make_scene(20, 20), constant_model(*logits), tmp_path / "map.tif", uncertainty=True)
    assert set(read(tmp_path / "map_uncertainty.tif").ravel()) == {uncertainty}


def test_only_what_is_asked_for_is_written(make_scene: MakeScene, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    predict(make_scene(30, 30), pixel_model(), folder / "map.tif")
    assert sorted(p.name for p in folder.iterdir()) == ["map.qml", "map.tif", "map.tif.aux.xml"]


def test_a_map_names_its_model_and_settings(make_scene: MakeScene, tmp_path: Path) -> None:
    model = pixel_model()
    predict(make_scene(30, 30), model, tmp_path / "map.tif", **WINDOWS)
    with rasterio.open(tmp_path / "map.tif") as file:
        tags = file.tags()
    assert tags["WHOLESCENE_MODEL"] == model_id(model)
    assert tags["WHOLESCENE_ENGINE"] == "windowed"
    assert (tags["WHOLESCENE_BLOCK"], tags["WHOLESCENE_OVERLAP"]) == ("24", "5")
    predict(make_scene(30, 30), model, tmp_path / "map.tif", engine="streamed", block=16)
    with rasterio.open(tmp_path / "map.tif") as file:
        tags = file.tags()
    assert (tags["WHOLESCENE_ENGINE"], tags["WHOLESCENE_BLOCK"]) == ("streamed", "16")
    assert "WHOLESCENE_OVERLAP" not in tags


def test_a_preview_shows_image_classes_and_overlay(make_scene: MakeScene, tmp_path: Path) -> None:
    pixels = noise(60, 40)
    pixels[:, :, :10] = 0
    scene = make_scene(pixels=pixels, nodata=0)
    predict(scene, constant_model(0.0, 9.0), tmp_path / "map.tif", preview=tmp_path / "p.png")
    picture = read(tmp_path / "p.png")
    assert picture.shape[0] == 3
    assert picture.shape[1] == 60
    third = (picture.shape[2] - 40) // 2
    image, classes, overlay = (picture[:, :, i * third : i * third + 40] for i in range(3))
    for part in (image, classes, overlay):
        assert not part[:, :, :10].any()
    assert {tuple(p) for p in classes[:, :, 10:].reshape(3, -1).T} == {(80, 0, 215)}
    expected = (classes.astype(float) + image) / 2
    np.testing.assert_allclose(overlay[:, :, 10:], expected[:, :, 10:], atol=1)


def test_a_preview_reads_the_map_in_pieces(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays flat: the map may be larger than it."""
    scene = make_scene(pixels=noise(4200, 60, bands=1))
    areas = []
    read_labels = LabelReader.read

    def remember(self: LabelReader, window: Window, **options: Any) -> NDArray[np.int16]:
        areas.append(window.size.area)
        return read_labels(self, window, **options)

    monkeypatch.setattr(LabelReader, "read", remember)
    model = constant_model(0.0, 1.0, bands=1)
    predict(scene, model, tmp_path / "map.tif", preview=tmp_path / "p.png")
    assert max(areas) < 4200 * 60 / 8


def test_the_result_counts_pixels_blocks_and_memory(make_scene: MakeScene, tmp_path: Path) -> None:
    settings = {"engine": "windowed", "block": 32, "overlap": 8}
    result = predict(make_scene(96, 80), context_model(), tmp_path / "map.tif", **settings)
    assert result.engine == "windowed"
    assert result.pixels == 96 * 80
    # Starts 0, 24, 48, 64 down and 0, 24, 48 across.
    assert result.blocks == 12
    assert result.pixels_per_second == pytest.approx(result.pixels / result.seconds)
    assert result.peak_rss_bytes > 50e6
    assert result.peak_device_bytes == 0
    assert result.output == tmp_path / "map.tif"


@pytest.mark.parametrize("engine", ["streamed", "windowed"])
def test_progress_rises_and_ends_at_the_total(
    make_scene: MakeScene, tmp_path: Path, engine: str
) -> None:
    calls: list[tuple[int, int]] = []
    predict(
        make_scene(96, 80),
        pixel_model(),
        tmp_path / "map.tif",
        engine=engine,
        block=32,
        progress=lambda done, total: calls.append((done, total)),
    )
    done = [call[0] for call in calls]
    assert done == sorted(set(done))
    assert calls[-1] == (96 * 80, 96 * 80)
    assert len(calls) >= 3


def test_nothing_is_printed(
    make_scene: MakeScene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    predict(make_scene(40, 40), pixel_model(), tmp_path / "map.tif", preview=tmp_path / "p.png")
    assert capfd.readouterr() == ("", "")


def test_the_model_is_given_back_as_it_was(make_scene: MakeScene, tmp_path: Path) -> None:
    model = pixel_model().train()
    predict(make_scene(40, 40), model, tmp_path / "map.tif")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("engine", ["streamed", "windowed"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_gives_nearly_the_same_shares(
    make_scene: MakeScene, tmp_path: Path, precision: str, engine: str
) -> None:
    scene, model = make_scene(50, 40), context_model()
    for name in ("float32", precision):
        predict(
            scene,
            model,
            tmp_path / f"{name}.tif",
            engine=engine,
            block=32,
            precision=name,
            probabilities="float32",
        )
    full, low = (read(tmp_path / f"{n}_probabilities.tif") for n in ("float32", precision))
    assert 0 < np.abs(full - low).max() < 0.1
