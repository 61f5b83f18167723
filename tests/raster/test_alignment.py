"""Sources with other pixels come to the grid of the first one."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds
from toy_rasters import NORTH_UP, UTM, MakeRaster, ramp

from wholescene.errors import RasterError
from wholescene.geometry import Window, block_windows
from wholescene.geometry.window import Size
from wholescene.raster import SceneReader
from wholescene.raster.source import SourceSpec

HALF = Affine(20, 0, 500_000, 0, -20, 4_600_000)  # NORTH_UP with pixels twice as large


def sources(resampling: str = "nearest") -> list[SourceSpec]:
    return [SourceSpec(name="image"), SourceSpec(name="other", resampling=resampling)]


def read_other(reader: SceneReader, window: Window | None = None) -> tuple[np.ndarray, np.ndarray]:
    pixels = reader.read(window or Window.whole(reader.size))
    return pixels.values[1], pixels.valid


def test_coarser_pixels_are_repeated_by_nearest(make_raster: MakeRaster) -> None:
    coarse = ramp(3, 4, dtype="uint16")
    files = {
        "image": make_raster(ramp(6, 8), "a.tif"),
        "other": make_raster(coarse, "b.tif", transform=HALF),
    }
    with SceneReader(files, sources()) as reader:
        values, valid = read_other(reader)
    np.testing.assert_array_equal(values, coarse.repeat(2, 0).repeat(2, 1))
    assert valid.all()


def test_finer_pixels_are_averaged(make_raster: MakeRaster) -> None:
    fine = np.array([[1, 3, 10, 20], [5, 7, 30, 40]], np.float32)
    files = {
        "image": make_raster(ramp(1, 2), "a.tif", transform=HALF),
        "other": make_raster(fine, "b.tif", nodata=40),
    }
    with SceneReader(files, sources("average")) as reader:
        values, valid = read_other(reader)
    np.testing.assert_allclose(values, [[4, 20]], rtol=1e-6)
    assert valid.all()


def test_half_of_the_finer_pixels_must_be_there(make_raster: MakeRaster) -> None:
    fine = np.array([[9, 9, 9, 9, 9, 3], [1, 3, 9, 1, 2, 3]], np.float32)
    files = {
        "image": make_raster(ramp(1, 3), "a.tif", transform=HALF),
        "other": make_raster(fine, "b.tif", nodata=9),
    }
    with SceneReader(files, sources("average")) as reader:
        values, valid = read_other(reader)
    np.testing.assert_array_equal(valid, [[True, False, True]])
    np.testing.assert_allclose(values, [[2, 0, 8 / 3]], rtol=1e-6)


def test_bilinear_by_hand(make_raster: MakeRaster) -> None:
    files = {
        "image": make_raster(ramp(1, 4), "a.tif"),
        "other": make_raster(np.array([[10, 30]], np.float32), "b.tif", transform=HALF),
    }
    with SceneReader(files, sources("bilinear")) as reader:
        values, _ = read_other(reader)
    # Pixel centres at 5 m, 15 m, 25 m, 35 m between samples at 10 m and 30 m.
    np.testing.assert_allclose(values, [[10, 15, 25, 30]], rtol=1e-6)


def test_ground_without_the_other_source_is_invalid(make_raster: MakeRaster) -> None:
    shifted = Affine(10, 0, 500_020, 0, -10, 4_600_000)
    files = {
        "image": make_raster(ramp(2, 4), "a.tif"),
        "other": make_raster(ramp(2, 4), "b.tif", transform=shifted),
    }
    with SceneReader(files, sources()) as reader:
        values, valid = read_other(reader)
        np.testing.assert_array_equal(reader.valid(Window.whole(reader.size)), valid)
    np.testing.assert_array_equal(valid, [[False, False, True, True]] * 2)
    np.testing.assert_array_equal(values, [[0, 0, 1, 2], [0, 0, 5, 6]])


def test_nodata_never_bleeds_into_values(make_raster: MakeRaster) -> None:
    coarse = np.array([[-9999, 10], [10, 10]], np.int16)
    files = {
        "image": make_raster(ramp(4, 4), "a.tif"),
        "other": make_raster(coarse, "b.tif", transform=HALF, nodata=-9999),
    }
    for resampling in ("nearest", "bilinear", "cubic"):
        with SceneReader(files, sources(resampling)) as reader:
            values, valid = read_other(reader)
        assert not valid[0, 0]
        np.testing.assert_allclose(values[valid], 10, rtol=1e-6)


def test_a_true_zero_of_one_warped_band_stays_valid(make_raster: MakeRaster) -> None:
    # One file per band with nodata 0, as Sentinel-2 products are used.
    fine = np.full((4, 4), 7, np.uint16)
    fine[:2, :2] = 0
    coarse = np.array([[0, 0], [0, 9]], np.uint16)
    paths = [
        make_raster(fine, "fine.tif", nodata=0),
        make_raster(coarse, "coarse.tif", nodata=0, transform=HALF),
    ]
    with SceneReader(paths) as reader:
        pixels = reader.read(Window.whole(reader.size))
    expected = np.ones((4, 4), bool)
    expected[:2, :2] = False
    np.testing.assert_array_equal(pixels.valid, expected)
    assert (pixels.values[1, 2:, :2] == 0).all()


def test_a_pixel_does_not_depend_on_its_window(make_raster: MakeRaster) -> None:
    rng = np.random.default_rng(3)
    other_crs = CRS.from_epsg(32631)
    size = Size(90, 110)
    west, south, east, north = transform_bounds(
        UTM, other_crs, 500_000, 4_600_000 - 900, 501_100, 4_600_000
    )
    transform = Affine(7.3, 0, west + 60, 0, -7.3, north)
    height, width = int((north - south) / 7.3), int((east - west) / 7.3)
    other = rng.normal(100, 20, (height, width)).astype(np.float32)
    other[20:30, 40:60] = np.nan
    files = {
        "image": make_raster(ramp(*size), "a.tif"),
        "other": make_raster(other, "b.tif", crs=other_crs, transform=transform),
    }
    for resampling in ("nearest", "bilinear", "cubic", "average"):
        with SceneReader(files, sources(resampling)) as reader:
            values, valid = read_other(reader)
            assert 0.5 < valid.mean() < 1
            for window in block_windows(reader.size, Size(31, 17)):
                part, part_valid = read_other(reader, window)
                np.testing.assert_array_equal(part_valid, valid[window.rows, window.cols])
                np.testing.assert_array_equal(
                    part, values[window.rows, window.cols], err_msg=resampling + repr(window)
                )


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
def test_reprojection_agrees_with_gdal(make_raster: MakeRaster, resampling: str) -> None:
    rows, cols = np.mgrid[:60, :60]
    other = np.hypot(rows - 20.0, cols - 30.0).astype(np.float32)  # smooth
    lonlat = Affine(1e-4, 0, -3.0005, 0, -1e-4, 41.5525)
    files = {
        "image": make_raster(ramp(40, 40), "a.tif"),
        "other": make_raster(other, "b.tif", crs="EPSG:4326", transform=lonlat),
    }
    expected = np.full((40, 40), np.nan, np.float32)
    reproject(
        other, expected, src_transform=lonlat, src_crs="EPSG:4326", dst_transform=NORTH_UP,
        dst_crs=UTM, src_nodata=np.nan, dst_nodata=np.nan, resampling=Resampling[resampling],
    )  # fmt: skip
    with SceneReader(files, sources(resampling)) as reader:
        values, valid = read_other(reader)
    assert valid.mean() > 0.9
    both = valid & np.isfinite(expected)
    assert both.mean() > 0.9
    np.testing.assert_allclose(values[both], expected[both], atol=0.1)
    assert np.abs(values - expected)[both].mean() < 0.05


def test_large_ratios_are_read_in_parts(
    make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = np.random.default_rng(0).normal(size=(120, 120)).astype(np.float32)
    coarse = Affine(100, 0, 500_000, 0, -100, 4_600_000)
    files = {
        "image": make_raster(ramp(12, 12), "a.tif", transform=coarse),
        "other": make_raster(fine, "b.tif"),
    }
    with SceneReader(files, sources("average")) as reader:
        once, _ = read_other(reader)
        monkeypatch.setattr("wholescene.raster.align.MAX_SOURCE_PIXELS", 1_000)
        parts, _ = read_other(reader)
    np.testing.assert_array_equal(once, parts)
    np.testing.assert_allclose(once, fine.reshape(12, 10, 12, 10).mean((1, 3)), atol=1e-5)


def test_without_georeferencing_a_whole_multiple_fits(make_raster: MakeRaster) -> None:
    bare = {"crs": None, "transform": None}
    coarse = ramp(2, 3)
    files = {
        "image": make_raster(ramp(4, 6), "a.tif", **bare),
        "other": make_raster(coarse, "b.tif", **bare),
    }
    with SceneReader(files, sources()) as reader:
        values, valid = read_other(reader)
    np.testing.assert_array_equal(values, coarse.repeat(2, 0).repeat(2, 1))
    assert valid.all()


def test_without_georeferencing_another_shape_is_refused(make_raster: MakeRaster) -> None:
    bare = {"crs": None, "transform": None}
    files = {
        "image": make_raster(ramp(4, 6), "a.tif"),
        "other": make_raster(ramp(4, 5), "b.tif", **bare),
    }
    with pytest.raises(RasterError, match="4 x 5 px cannot be laid on the scene's 4 x 6 px"):
        SceneReader(files, sources())


def test_same_size_without_georeferencing_fits_as_it_is(make_raster: MakeRaster) -> None:
    bare = {"crs": None, "transform": None}
    other = ramp(4, 6, start=50)
    files = {
        "image": make_raster(ramp(4, 6), "a.tif"),
        "other": make_raster(other, "b.tif", **bare),
    }
    with SceneReader(files, sources()) as reader:
        np.testing.assert_array_equal(read_other(reader)[0], other)
        assert reader.crs.to_epsg() == 32630
