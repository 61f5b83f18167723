"""Pixels come as physical values, and no missing pixel passes for data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from toy_rasters import NORTH_UP, MakeRaster, ramp

from wholescene.errors import InputError, RasterError
from wholescene.geometry import Size, Window
from wholescene.raster import SceneReader
from wholescene.raster.source import BandSpec, SourceSpec


def whole(reader: SceneReader) -> Window:
    return Window.whole(reader.size)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_every_real_dtype_is_read_as_it_is(make_raster: MakeRaster, dtype: str) -> None:
    pixels = ramp(2, 5, 7, dtype=dtype)
    with SceneReader(make_raster(pixels)) as reader:
        found = reader.read(whole(reader))
        assert reader.dtype == dtype
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, pixels.astype(np.float32))
    assert found.valid.all()


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers_are_refused(make_raster: MakeRaster, dtype: str) -> None:
    with pytest.raises(RasterError, match=f"complex numbers \\({dtype}\\)"):
        SceneReader(make_raster(ramp(4, 4, dtype=dtype)))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.png", {"driver": "PNG", "crs": None, "transform": None}),
        ("a.jp2", {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}),
        ("big.tif", {"bigtiff": "YES"}),
        ("tiled.tif", {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "lzw"}),
        ("a.img", {"driver": "HFA"}),
        ("a.cog.tif", {"driver": "COG"}),
    ],
)
def test_formats(make_raster: MakeRaster, name: str, settings: dict[str, object]) -> None:
    pixels = ramp(3, 20, 30, dtype="uint8")
    with SceneReader(make_raster(pixels, name, **settings)) as reader:
        np.testing.assert_array_equal(reader.read(whole(reader)).values, pixels)
        assert reader.size == Size(20, 30)


def test_a_vrt_over_two_files(make_raster: MakeRaster, tmp_path: Path) -> None:
    for name in ("left.tif", "right.tif"):
        make_raster(ramp(4, 5, start=1 if name == "left.tif" else 101), name)
    parts = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
        '<SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" xSize="5" ySize="4"/>'
        f'<DstRect xOff="{x}" yOff="0" xSize="5" ySize="4"/></SimpleSource>'
        for x, name in ((0, "left.tif"), (5, "right.tif"))
    )
    vrt = tmp_path / "mosaic.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="10" rasterYSize="4">'
        f'<VRTRasterBand dataType="Byte" band="1">{parts}</VRTRasterBand></VRTDataset>'
    )
    with SceneReader(vrt) as reader:
        values = reader.read(whole(reader)).values[0]
    np.testing.assert_array_equal(values, np.hstack([ramp(4, 5), ramp(4, 5, start=101)]))
    (tmp_path / "right.tif").unlink()
    with SceneReader(vrt) as reader, pytest.raises(RasterError, match=r"cannot read band 1.*right"):
        reader.read(whole(reader))


def test_a_window_beyond_the_scene_is_invalid_there(make_raster: MakeRaster) -> None:
    pixels = ramp(1, 3, 4)
    with SceneReader(make_raster(pixels)) as reader:
        found = reader.read(Window(row_off=-1, col_off=2, height=3, width=4))
        np.testing.assert_array_equal(found.values[0], [[0, 0, 0, 0], [3, 4, 0, 0], [7, 8, 0, 0]])
        np.testing.assert_array_equal(found.valid, found.values[0] > 0)
        outside = reader.read(Window(row_off=50, col_off=-9, height=2, width=2))
    assert not outside.valid.any() and not outside.values.any()


def test_one_pixel_wide_scene(make_raster: MakeRaster) -> None:
    with SceneReader(make_raster(ramp(1, 600, 1, dtype="uint16"))) as reader:
        found = reader.read(Window(row_off=510, col_off=-1, height=4, width=3))
    np.testing.assert_array_equal(found.values[0, :, 1], [511, 512, 513, 514])
    np.testing.assert_array_equal(found.valid, np.tile([False, True, False], (4, 1)))


def test_scale_and_offset_of_each_band(make_raster: MakeRaster) -> None:
    path = make_raster(
        ramp(2, 2, 2, dtype="int16"), scales=(0.5, 0.001), offsets=(10.0, -1.0), nodata=1
    )
    with SceneReader(path) as reader:
        found = reader.read(whole(reader))
    # The nodata value is a stored value: the first pixel of band 1, before scaling.
    np.testing.assert_array_equal(found.valid, [[False, True], [True, True]])
    np.testing.assert_allclose(found.values[0], [[0, 11], [11.5, 12]])
    np.testing.assert_allclose(found.values[1], [[0, -0.994], [-0.993, -0.992]], rtol=1e-6)


def test_scale_offset_and_nodata_of_the_spec_win(make_raster: MakeRaster) -> None:
    path = make_raster(ramp(1, 2, 2), scales=(7.0,), offsets=(7.0,), nodata=4)
    spec = SourceSpec(scale=2.0, offset=1.0, nodata=2.0)
    with SceneReader(path, [spec]) as reader:
        found = reader.read(whole(reader))
    np.testing.assert_array_equal(found.values[0], [[3, 0], [7, 9]])
    np.testing.assert_array_equal(found.valid, [[True, False], [True, True]])


def test_integer_zero_nodata_counts_only_where_all_bands_are_zero(make_raster: MakeRaster) -> None:
    pixels = np.array([[[0, 0, 5]], [[0, 7, 0]]], np.uint8)
    with SceneReader(make_raster(pixels, nodata=0)) as reader:
        found = reader.read(whole(reader))
        np.testing.assert_array_equal(reader.valid(whole(reader)), found.valid)
    np.testing.assert_array_equal(found.valid, [[False, True, True]])
    np.testing.assert_array_equal(found.values, pixels)


def test_another_nodata_value_counts_in_any_band(make_raster: MakeRaster) -> None:
    pixels = np.array([[[-9999, 4, 5]], [[3, 7, -9999]]], np.int16)
    with SceneReader(make_raster(pixels, nodata=-9999)) as reader:
        found = reader.read(whole(reader))
        np.testing.assert_array_equal(reader.valid(whole(reader)), found.valid)
    np.testing.assert_array_equal(found.valid, [[False, True, False]])
    np.testing.assert_array_equal(found.values[:, 0], [[0, 4, 0], [0, 7, 0]])


def test_float_zero_nodata_counts_in_any_band(make_raster: MakeRaster) -> None:
    pixels = np.array([[[0, 4]], [[3, 7]]], np.float32)
    with SceneReader(make_raster(pixels, nodata=0)) as reader:
        np.testing.assert_array_equal(reader.read(whole(reader)).valid, [[False, True]])


@pytest.mark.parametrize("nodata", [None, float("nan"), -3.4028234663852886e38])
def test_nan_and_infinity_are_never_data(make_raster: MakeRaster, nodata: float | None) -> None:
    low = np.finfo(np.float32).min
    pixels = np.array([[[1, np.nan, np.inf, 4, low]], [[1, 2, 3, -np.inf, 5]]], np.float32)
    with SceneReader(make_raster(pixels, nodata=nodata)) as reader:
        found = reader.read(whole(reader))
    keeps_low = nodata != -3.4028234663852886e38
    np.testing.assert_array_equal(found.valid, [[True, False, False, False, keeps_low]])
    assert np.isfinite(found.values).all()


def test_float64_beyond_float32_is_no_data(make_raster: MakeRaster) -> None:
    pixels = np.array([[1.5, 1e300, -1e300]])
    with SceneReader(make_raster(pixels)) as reader:
        found = reader.read(whole(reader))
    np.testing.assert_array_equal(found.valid, [[True, False, False]])
    np.testing.assert_array_equal(found.values[0], [[1.5, 0, 0]])


def test_nodata_that_the_type_cannot_hold_matches_nothing(make_raster: MakeRaster) -> None:
    with SceneReader(make_raster(ramp(2, 2)), [SourceSpec(nodata=-9999)]) as reader:
        assert reader.read(whole(reader)).valid.all()


def test_alpha_hides_pixels_and_is_no_data_band(make_raster: MakeRaster) -> None:
    pixels = ramp(4, 2, 2)
    pixels[3] = [[255, 0], [1, 255]]
    colors = ("red", "green", "blue", "alpha")
    path = make_raster(pixels, photometric="RGB", alpha="YES", colors=colors)
    with SceneReader(path) as reader:
        found = reader.read(whole(reader))
        assert reader.band_names == ("red", "green", "blue")
        np.testing.assert_array_equal(reader.valid(whole(reader)), found.valid)
    np.testing.assert_array_equal(found.valid, [[True, False], [True, True]])
    np.testing.assert_array_equal(found.values, np.where(found.valid, pixels[:3], 0))


@pytest.mark.parametrize("external", [False, True])
def test_mask_band_hides_pixels(make_raster: MakeRaster, external: bool) -> None:
    mask = np.array([[True, False, True], [True, True, False]])
    path = make_raster(ramp(2, 2, 3), mask=mask, external_mask=external)
    assert path.with_name("scene.tif.msk").exists() == external
    with SceneReader(path) as reader:
        np.testing.assert_array_equal(reader.read(whole(reader)).valid, mask)
        np.testing.assert_array_equal(reader.valid(whole(reader)), mask)


def test_validity_alone_reads_no_pixels_where_it_needs_none(make_raster: MakeRaster) -> None:
    path = make_raster(np.random.default_rng(0).integers(0, 255, (900, 900)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with SceneReader(path) as reader:
        assert reader.valid(whole(reader)).all()
        with pytest.raises(RasterError, match="damaged"):
            reader.read(whole(reader))


def test_rotated_and_south_up_transforms_are_kept(make_raster: MakeRaster) -> None:
    cos, sin = 2 * np.cos(np.pi / 6), 2 * np.sin(np.pi / 6)
    rotated = Affine(cos, sin, 500_000, sin, -cos, 4_000_000)
    south_up = Affine(10, 0, 500_000, 0, 10, 4_000_000)
    pixels = ramp(3, 4)
    for name, transform, gsd_m in (("r.tif", rotated, 2), ("s.tif", south_up, 10)):
        with SceneReader(make_raster(pixels, name, transform=transform)) as reader:
            assert reader.transform.almost_equals(transform)
            assert reader.gsd_m == pytest.approx(gsd_m)
            np.testing.assert_array_equal(reader.read(whole(reader)).values[0], pixels)


def test_no_georeferencing_at_all(make_raster: MakeRaster) -> None:
    with SceneReader(make_raster(ramp(3, 4), crs=None, transform=None)) as reader:
        assert reader.crs is None
        assert reader.gsd_m is None
        assert reader.transform == Affine.identity()


def test_one_file_per_band(make_raster: MakeRaster) -> None:
    red, nir = ramp(3, 4), ramp(3, 4, start=50)
    paths = [make_raster(red, "red.tif", nodata=1), make_raster(nir, "nir.tif", nodata=61)]
    for files in (paths, f"{paths[0]};{paths[1]}", {"image": tuple(paths)}):
        with SceneReader(files) as reader:
            found = reader.read(whole(reader))
            assert reader.num_bands == 2
            assert reader.paths == tuple(paths)
        valid = (red != 1) & (nir != 61)
        np.testing.assert_array_equal(found.valid, valid)
        np.testing.assert_array_equal(found.values, np.where(valid, [red, nir], 0))


def test_integer_zero_nodata_over_several_files(make_raster: MakeRaster) -> None:
    one = make_raster(np.array([[0, 0, 5]], np.uint8), "one.tif", nodata=0)
    two = make_raster(np.array([[0, 7, 0]], np.uint8), "two.tif", nodata=0)
    with SceneReader([one, two]) as reader:
        np.testing.assert_array_equal(reader.read(whole(reader)).valid, [[False, True, True]])


def test_a_semicolon_in_a_file_name_is_no_list(make_raster: MakeRaster) -> None:
    with SceneReader(str(make_raster(ramp(3, 4), "a;b.tif"))) as reader:
        assert reader.num_bands == 1


def test_sources_are_valid_together(make_raster: MakeRaster) -> None:
    image = make_raster(ramp(2, 2, 2), "image.tif", nodata=1)
    dsm = make_raster(np.array([[1, 2], [-5, 4]], np.float32), "dsm.tif", nodata=-5)
    specs = [SourceSpec(name="image"), SourceSpec(name="dsm", bands=(BandSpec(name="height"),))]
    with SceneReader({"dsm": [dsm], "image": image}, specs) as reader:
        found = reader.read(whole(reader))
        assert reader.band_names == ("band_1", "band_2", "height")
        np.testing.assert_array_equal(reader.valid(whole(reader)), found.valid)
    np.testing.assert_array_equal(found.valid, [[False, True], [False, True]])
    np.testing.assert_array_equal(found.values[:, 0, 1], [2, 6, 2])


def test_equal_names_of_two_sources_are_told_apart(make_raster: MakeRaster) -> None:
    files = {"before": make_raster(ramp(2, 2), "b.tif"), "after": make_raster(ramp(2, 2), "a.tif")}
    with SceneReader(files) as reader:
        assert reader.band_names == ("before:band_1", "after:band_1")


def test_missing_source_is_named(make_raster: MakeRaster) -> None:
    path = make_raster(ramp(2, 2))
    specs = [SourceSpec(name="image"), SourceSpec(name="dsm")]
    with pytest.raises(RasterError, match="no file for source dsm; files are given for image"):
        SceneReader({"image": path}, specs)
    with pytest.raises(RasterError, match=r"2 sources are needed \(image, dsm\)"):
        SceneReader(path, specs)
    with pytest.raises(RasterError, match="list of files is empty"):
        SceneReader([])


def test_fingerprint_follows_files_and_bands(make_raster: MakeRaster) -> None:
    path = make_raster(ramp(3, 2, 2))
    first = SceneReader(path).fingerprint()
    assert first == SceneReader(str(path)).fingerprint()
    assert first != SceneReader(path, bands=[3, 2, 1]).fingerprint()
    assert first != SceneReader(path, [SourceSpec(scale=2.0)]).fingerprint()
    path.write_bytes(path.read_bytes() + b"\0")
    assert first != SceneReader(path).fingerprint()


def test_reading_smaller_averages_valid_pixels_only(make_raster: MakeRaster) -> None:
    pixels = np.array([[1, 3, 9, 9], [5, 255, 255, 255]], np.uint8)
    with SceneReader(make_raster(pixels, nodata=255)) as reader:
        found = reader.read(whole(reader), out_size=Size(1, 2))
        np.testing.assert_array_equal(reader.valid(whole(reader), out_size=Size(1, 2)), found.valid)
    np.testing.assert_array_equal(found.valid, [[True, True]])
    np.testing.assert_array_equal(found.values[0], [[3, 9]])


def test_resizing_in_pieces_equals_resizing_at_once(
    make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (2, 101, 67)).astype(np.uint8)
    with SceneReader(make_raster(pixels, nodata=7)) as reader:
        for size in (Size(40, 23), Size(101, 20), Size(230, 140), Size(33, 140)):
            once = reader.read(whole(reader), out_size=size)
            with monkeypatch.context() as patch:
                patch.setattr("wholescene.raster.read.RESIZED_PIXELS", 300)
                pieces = reader.read(whole(reader), out_size=size)
            np.testing.assert_array_equal(once.valid, pieces.valid)
            np.testing.assert_allclose(once.values, pieces.values, rtol=1e-6)


def test_resizing_to_nothing_is_refused(make_raster: MakeRaster) -> None:
    reader = SceneReader(make_raster(ramp(3, 4)))
    with pytest.raises(InputError, match="cannot resize a window of 3 x 4 px to 0 x 5 px"):
        reader.read(whole(reader), out_size=Size(0, 5))


@pytest.mark.parametrize(
    "settings", [{"blockysize": 8}, {"tiled": True, "blockxsize": 16, "blockysize": 32}]
)
def test_windows_tile_the_scene(make_raster: MakeRaster, settings: dict[str, object]) -> None:
    with SceneReader(make_raster(ramp(100, 70), **settings)) as reader:
        seen = np.zeros(reader.size, int)
        for window in reader.windows(pixels=2_000):
            seen[window.rows, window.cols] += 1
            assert window.size.area <= max(2_500, reader.block_size.area)
    assert (seen == 1).all()


def test_transform_of_the_reader_is_that_of_the_file(make_raster: MakeRaster) -> None:
    with SceneReader(make_raster(ramp(3, 4))) as reader:
        assert reader.transform == NORTH_UP
        assert reader.crs.to_epsg() == 32630
        assert reader.gsd_m == 10
