"""Pictures of scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from toy_rasters import MakeRaster, ramp

from wholescene.errors import InputError, OutputError
from wholescene.geometry import Size, Window
from wholescene.raster import SceneReader, read_preview, write_png
from wholescene.raster.render import preview_size


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 31, 3), (200, 3, 3)])
def test_png_holds_the_picture(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    write_png(tmp_path / "a" / "p.png", rgb)
    with rasterio.open(tmp_path / "a" / "p.png") as file:
        assert file.driver == "PNG"
        np.testing.assert_array_equal(np.moveaxis(file.read(), 0, 2), rgb)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["p.png"]


def test_other_arrays_are_no_picture(tmp_path: Path) -> None:
    for wrong in (np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(InputError, match=r"a picture is \(h, w, 3\) of uint8"):
            write_png(tmp_path / "p.png", wrong)
    with pytest.raises(OutputError, match="is a folder"):
        write_png(tmp_path, np.zeros((4, 4, 3), np.uint8))


def test_size_keeps_the_shape() -> None:
    assert preview_size(Size(1000, 500), 100) == Size(100, 50)
    assert preview_size(Size(30, 50), 100) == Size(30, 50)
    assert preview_size(Size(10_000, 1), 100) == Size(100, 1)


def test_bands_are_shown_by_name(make_raster: MakeRaster) -> None:
    pixels = np.zeros((4, 10, 10), np.uint16)
    for band in range(4):
        pixels[band, :, 2 * band :] = 1000
    path = make_raster(pixels, names=("nir", "Blue", "GREEN", "red"))
    rgb = read_preview(path, 10)
    starts = [int(np.argmax(rgb[0, :, channel] > 128)) for channel in range(3)]
    assert starts == [6, 4, 2]


def test_the_first_three_bands_or_grey(make_raster: MakeRaster) -> None:
    pixels = np.zeros((4, 10, 10), np.uint8)
    for band in range(4):
        pixels[band, :, 2 * band :] = 100
    rgb = read_preview(make_raster(pixels), 10)
    assert [int(np.argmax(rgb[0, :, channel] > 128)) for channel in range(3)] == [0, 2, 4]
    grey = read_preview(make_raster(pixels[1:2], "one.tif"), 10)
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 0] == grey[..., 2]).all()
    assert grey[0, 0, 0] == 0 and grey[0, 9, 0] == 255


def test_contrast_is_stretched_over_valid_pixels(make_raster: MakeRaster) -> None:
    pixels = np.tile(np.arange(1000, 2000, dtype=np.uint16), (100, 1))
    pixels[:50] = 60_000
    rgb = read_preview(make_raster(pixels, nodata=60_000), 1000)
    assert (rgb[:50] == 0).all()
    # The 2nd percentile of 1000..1999 is 1020, the 98th 1979.
    assert rgb[60, 19, 0] == 0 and rgb[60, 981, 0] == 255
    assert abs(int(rgb[60, 500, 0]) - 127) <= 1


def test_large_scenes_are_shown_from_their_overviews(
    make_raster: MakeRaster, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 250, (3, 64, 48)).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    pixels[:, :96] = 0
    layout = {"driver": "COG", "blocksize": 128, "overview_resampling": "AVERAGE"}
    path = make_raster(pixels, nodata=0, names=("a", "b", "c"), **layout)
    plain = read_preview(make_raster(pixels, "plain.tif", nodata=0), 100)
    with SceneReader(path, bands=["c", "a", "b"]) as reader:
        coarse = reader.coarser(10)
        assert coarse.size == Size(128, 96)
        assert (coarse.band_names, coarse.gsd_m) == (("c", "a", "b"), 80)
        assert reader.coarser(1.5) is reader
        whole = Window.whole(coarse.size)
        np.testing.assert_array_equal(coarse.read(whole).values[1], pixels[0, 4::8, 4::8])
    np.testing.assert_array_equal(read_preview(path, 100), plain)
    header = path.read_bytes()
    path.write_bytes(header[: len(header) - 1000])  # full resolution comes last in a COG
    np.testing.assert_array_equal(read_preview(path, 100), plain)


def test_files_without_the_same_overviews_are_read_whole(make_raster: MakeRaster) -> None:
    pixels = ramp(600, 600, dtype="uint16")
    one = make_raster(pixels, "one.tif", driver="COG", blocksize=128)
    two = make_raster(pixels, "two.tif")
    with SceneReader([one, two]) as reader:
        assert reader.coarser(4) is reader


def test_constant_and_empty_scenes(make_raster: MakeRaster) -> None:
    assert read_preview(make_raster(np.full((8, 8), 7, np.uint8), "c.tif"), 4).shape == (4, 4, 3)
    assert not read_preview(make_raster(np.zeros((8, 8), np.uint8), "e.tif", nodata=0), 4).any()


def test_a_preview_of_no_pixels_is_refused(make_raster: MakeRaster) -> None:
    with pytest.raises(InputError, match="at most 0 px"):
        read_preview(make_raster(ramp(3, 3)), 0)
