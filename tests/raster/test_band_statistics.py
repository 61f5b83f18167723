"""Statistics of whole scenes in one pass equal those of all pixels at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_rasters import MakeRaster

from wholescene.errors import LabelError, RasterError
from wholescene.labels import ClassTable
from wholescene.raster import LabelReader, SceneReader, band_statistics, class_counts
from wholescene.raster.statistics import Moments


@pytest.mark.parametrize(("offset", "spread"), [(0, 1), (1e6, 2), (-3e5, 0.5), (100, 1e4)])
@pytest.mark.parametrize("tiled", [False, True])
def test_against_numpy_over_scenes_of_several_sizes(
    make_raster: MakeRaster, offset: float, spread: float, tiled: bool
) -> None:
    rng = np.random.default_rng(0)
    shapes = [(2, 70, 50), (2, 1, 300), (2, 64, 64)]
    scenes = [rng.normal(offset, spread, shape).astype(np.float32) for shape in shapes]
    scenes[0][:, :10] = np.nan
    layout = {"tiled": True, "blockxsize": 16, "blockysize": 32} if tiled else {}
    readers = [
        SceneReader(make_raster(scene, f"{i}.tif", **layout)) for i, scene in enumerate(scenes)
    ]
    found = band_statistics(readers, block=30)
    pixels = np.concatenate([scene.reshape(2, -1) for scene in scenes], axis=1)
    pixels = pixels[:, np.isfinite(pixels[0])].astype(np.float64)
    np.testing.assert_allclose(found.mean, pixels.mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(1), rtol=1e-9)
    np.testing.assert_array_equal(found.minimum, pixels.min(1))
    np.testing.assert_array_equal(found.maximum, pixels.max(1))
    assert found.count == pixels.shape[1]


def test_a_small_spread_around_a_large_mean_survives() -> None:
    rng = np.random.default_rng(1)
    values = 1e6 + rng.normal(0, 1e-3, (1, 200_000))
    moments = Moments(1)
    for part in np.array_split(values, 37, axis=1):
        moments.add(part)
    np.testing.assert_allclose(moments.result().std, values.std(), rtol=1e-6)
    np.testing.assert_allclose(moments.result().mean, values.mean(), rtol=1e-15)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(0, 9))
def test_the_cuts_do_not_matter(lengths: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(2, sum(lengths)))
    moments, start = Moments(2), 0
    for length in lengths:
        moments.add(values[:, start : start + length])
        start += length
    found = moments.result()
    assert found.count == values.shape[1]
    if values.shape[1]:
        np.testing.assert_allclose(found.mean, values.mean(1), atol=1e-12)
        np.testing.assert_allclose(found.std, values.std(1), atol=1e-12)


def test_physical_values_count(make_raster: MakeRaster) -> None:
    path = make_raster(np.array([[1, 3]], np.uint8), scales=(10.0,), offsets=(-5.0,))
    found = band_statistics([SceneReader(path)])
    assert (found.mean[0], found.std[0], found.minimum[0], found.maximum[0]) == (15, 10, 5, 25)


def test_no_valid_pixel_gives_nan(make_raster: MakeRaster) -> None:
    found = band_statistics([SceneReader(make_raster(np.zeros((3, 3), np.uint8), nodata=0))])
    assert found.count == 0
    assert np.isnan(found.mean).all() and np.isnan(found.std).all()


def test_scenes_must_agree(make_raster: MakeRaster) -> None:
    one = SceneReader(make_raster(np.ones((1, 3, 3), np.uint8), "one.tif"))
    two = SceneReader(make_raster(np.ones((2, 3, 3), np.uint8), "two.tif"))
    with pytest.raises(RasterError, match=r"two\.tif: 2 bands, but the scenes before have 1"):
        band_statistics([one, two])
    with pytest.raises(RasterError, match="at least one scene"):
        band_statistics([])


def test_class_counts_by_hand(make_raster: MakeRaster) -> None:
    classes = ClassTable.from_names(["a", "b", "c"], ignore_id=9)
    one = make_raster(np.array([[0, 0, 2], [9, 9, 9]], np.uint8), "one.tif")
    two = make_raster(np.array([[2, 77]], np.uint8), "two.tif", nodata=77)
    counts = class_counts(LabelReader(path, classes) for path in (one, two))
    assert counts.tolist() == [2, 0, 2, 4]
    assert counts.dtype == np.int64


def test_class_counts_in_windows_equal_those_at_once(make_raster: MakeRaster) -> None:
    classes = ClassTable.from_names([str(i) for i in range(7)])
    labels = np.random.default_rng(0).integers(0, 7, (90, 110)).astype(np.uint8)
    reader = LabelReader(make_raster(labels, blockysize=4), classes)
    counts = class_counts([reader], block=20)
    assert counts.tolist() == [*np.bincount(labels.ravel(), minlength=7).tolist(), 0]


def test_class_counts_refuse_what_they_do_not_know(make_raster: MakeRaster) -> None:
    path = make_raster(np.array([[0, 5]], np.uint8))
    with pytest.raises(LabelError, match="id 5"):
        class_counts([LabelReader(path, ClassTable.from_names(["a"]))])
    with pytest.raises(RasterError, match="at least one label raster"):
        class_counts([])
