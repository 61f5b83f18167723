"""Files that cannot be read say which, where and why, in one line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from toy_rasters import MakeRaster, ramp

from wholescene.errors import RasterError
from wholescene.geometry import Window
from wholescene.raster import SceneReader, open_info
from wholescene.raster.gdal import is_local
from wholescene.raster.read import _split


def refusal(path: Path | str) -> str:
    with pytest.raises(RasterError) as caught:
        open_info(path)
    with pytest.raises(RasterError) as again:
        SceneReader(path)
    assert str(caught.value) == str(again.value)
    assert isinstance(caught.value, OSError)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.tif") == "no such file"


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    assert refusal(tmp_path / "empty.tif") == (
        "the file is empty (0 bytes); copy or download it again"
    )


def test_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "is a folder, not a raster; give the path of one file in it"


def test_not_a_raster(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\nthere " * 50)
    assert "GDAL cannot open it as a raster" in refusal(tmp_path / "notes.txt")


def test_header_cut_off(make_raster: MakeRaster) -> None:
    path = make_raster(ramp(40, 40), tiled=True, blockxsize=16, blockysize=16, compress="lzw")
    path.write_bytes(path.read_bytes()[:60])
    assert "damaged, truncated" in refusal(path)


def test_unreachable_addresses_are_refused_as_rasters() -> None:
    assert "GDAL cannot open it" in refusal("/vsizip/none.zip/scene.tif")


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may read everything")
def test_no_permission(make_raster: MakeRaster) -> None:
    path = make_raster(ramp(4, 4))
    path.chmod(0)
    assert refusal(path) == "no permission to read the file"


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 400, 400)).astype(np.uint8)


def test_truncated_pixels_name_file_window_and_band(make_raster: MakeRaster) -> None:
    path = make_raster(noise(2), interleave="band", blockysize=20, compress="deflate")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])  # the second half of band 2 is gone
    with SceneReader(path) as reader:
        top = Window(row_off=0, col_off=0, height=100, width=400)
        np.testing.assert_array_equal(reader.read(top).values, noise(2)[:, :100])
        bottom = Window(row_off=300, col_off=7, height=50, width=30)
        with pytest.raises(RasterError) as caught:
            reader.read(bottom)
    text = str(caught.value)
    assert text.startswith(f"{path}: cannot read band 2 in rows 300:350, columns 7:37 (")
    assert text.endswith("the file is damaged or truncated, copy or download it again")


def test_corrupt_pixels(make_raster: MakeRaster) -> None:
    path = make_raster(noise(1), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    data = bytearray(path.read_bytes())
    data[60_000:70_000] = bytes(10_000)
    path.write_bytes(data)
    with (
        SceneReader(path) as reader,
        pytest.raises(RasterError, match="cannot read band 1 in rows"),
    ):
        reader.read(Window.whole(reader.size))


def test_a_container_lists_what_it_holds(tmp_path: Path, make_raster: MakeRaster) -> None:
    geopackage = tmp_path / "two.gpkg"
    for table in ("one", "two"):
        options = {"driver": "GPKG", "RASTER_TABLE": table}
        if geopackage.exists():
            options["APPEND_SUBDATASET"] = "YES"
        make_raster(np.zeros((3, 64, 64), np.uint8), geopackage.name, **options)
    assert "a container of 2 rasters; give one of GPKG:" in refusal(geopackage)
    info = open_info(f"GPKG:{geopackage}:two")
    assert info.size == (64, 64)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (Path("https://host/a/b.tif"), "https://host/a/b.tif"),
        ("s3://bucket/b.tif", "s3://bucket/b.tif"),
        ("/data/b.tif", "/data/b.tif"),
        ("/vsizip//data/a.zip/b.tif", "/vsizip//data/a.zip/b.tif"),
    ],
)
def test_addresses_keep_their_slashes(given: Path | str, meant: str) -> None:
    assert _split(given) == (meant,)
    assert is_local(meant) == (meant == "/data/b.tif")


def test_subdatasets_are_no_files() -> None:
    assert not is_local("SENTINEL2_L2A:/data/MTD.xml:10m:EPSG_32629")
