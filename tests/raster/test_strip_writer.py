"""Strips become a GeoTIFF that appears complete or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from toy_rasters import NORTH_UP, UTM, ramp

from wholescene.errors import InputError, OutputError
from wholescene.geometry import Size, Window
from wholescene.raster import SceneReader, StripWriter
from wholescene.raster.source import BandSpec


def write(path: Path, pixels: np.ndarray, *, strip: int = 7, **settings: Any) -> None:
    bands, height, width = pixels.shape
    options = {"transform": NORTH_UP, "crs": UTM, **settings}
    with StripWriter(
        path, size=Size(height, width), bands=bands, dtype=pixels.dtype.name, **options
    ) as writer:
        for row in range(0, height, strip):
            writer.write(row, pixels[:, row : row + strip])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("strip", [1, 100, 333, 1000])
def test_what_is_written_is_read(tmp_path: Path, dtype: str, strip: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (2, 700, 40)).astype(dtype)
    write(tmp_path / "scene.tif", pixels, strip=strip)
    with rasterio.open(tmp_path / "scene.tif") as file:
        np.testing.assert_array_equal(file.read(), pixels)
        assert (file.crs.to_string(), file.transform) == (UTM, NORTH_UP)
        assert file.profile["tiled"] and file.compression.value == "DEFLATE"


def test_names_wavelengths_scale_and_nodata_come_back(tmp_path: Path) -> None:
    specs = [BandSpec(name="red", wavelength_nm=665), BandSpec(name="nir", wavelength_nm=842)]
    path = tmp_path / "scene.tif"
    write(path, ramp(2, 5, 6, dtype="uint16"), band_specs=specs, scale=1e-4, offset=-0.1, nodata=60)
    with SceneReader(path) as reader:
        found = reader.read(Window.whole(reader.size))
        assert reader.band_specs == tuple(specs)
        assert reader.dtype == "uint16"
    assert not found.valid[4, 5] and found.valid.sum() == 29
    assert found.values[0, 0, 0] == pytest.approx(1e-4 - 0.1)


def test_red_green_blue_open_in_colour(tmp_path: Path) -> None:
    specs = [BandSpec(name=name) for name in ("red", "green", "blue", "nir")]
    write(tmp_path / "scene.tif", ramp(4, 5, 6), band_specs=specs)
    with rasterio.open(tmp_path / "scene.tif") as file:
        assert [color.name for color in file.colorinterp[:3]] == ["red", "green", "blue"]
        assert file.colorinterp[3].name != "alpha"


def test_many_bands_keep_tiles_small(tmp_path: Path) -> None:
    write(tmp_path / "scene.tif", ramp(204, 300, 300, dtype="uint16"), strip=300)
    with rasterio.open(tmp_path / "scene.tif") as file:
        assert file.block_shapes[0] == (64, 64)


def test_no_georeferencing_stays_none(tmp_path: Path) -> None:
    write(tmp_path / "scene.tif", ramp(1, 5, 6), transform=Affine.identity(), crs=None)
    with SceneReader(tmp_path / "scene.tif") as reader:
        assert reader.crs is None and reader.transform == Affine.identity()


def test_the_same_rows_in_any_strips_give_the_same_bytes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 9, (1, 600, 700)).astype(np.uint8)
    write(tmp_path / "a.tif", pixels, strip=600)
    write(tmp_path / "b.tif", pixels, strip=37)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_nothing_appears_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scene.tif"
    with StripWriter(
        path, size=Size(4, 4), bands=1, dtype="uint8", transform=NORTH_UP, crs=UTM
    ) as writer:
        writer.write(0, ramp(1, 4, 4))
        assert [file.name for file in path.parent.iterdir()] == ["scene.tif.part"]
    assert [file.name for file in path.parent.iterdir()] == ["scene.tif"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    path.write_text("old")
    with (
        pytest.raises(ZeroDivisionError),
        StripWriter(
            path, size=Size(4, 4), bands=1, dtype="uint8", transform=NORTH_UP, crs=UTM
        ) as writer,
    ):
        writer.write(0, ramp(1, 2, 4))
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_rows_are_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="3 of 4 rows were written"),
        StripWriter(
            tmp_path / "a.tif", size=Size(4, 4), bands=1, dtype="uint8", transform=NORTH_UP, crs=UTM
        ) as writer,
    ):
        writer.write(0, ramp(1, 3, 4))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("row", "pixels", "words"),
    [
        (0, ramp(2, 2, 4), r"strip of shape \(2, 2, 4\); expected \(1, rows, 4\)"),
        (0, ramp(1, 2, 5), r"expected \(1, rows, 4\)"),
        (0, ramp(1, 2, 4, dtype="int16"), "strip of int16 for a file of uint8"),
        (1, ramp(1, 2, 4), "at row 1; the next row of 4 is 0"),
        (0, ramp(1, 5, 4), "strip of 5 rows"),
    ],
)
def test_wrong_strips_are_refused(tmp_path: Path, row: int, pixels: np.ndarray, words: str) -> None:
    with (
        pytest.raises(InputError, match=words),
        StripWriter(
            tmp_path / "a.tif", size=Size(4, 4), bands=1, dtype="uint8", transform=NORTH_UP, crs=UTM
        ) as writer,
    ):
        writer.write(row, pixels)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pixel"):
        write(tmp_path / "a.tif", ramp(1, 4, 4)[:, :0])
    with pytest.raises(InputError, match="1 band names for 2 bands"):
        write(tmp_path / "a.tif", ramp(2, 4, 4), band_specs=[BandSpec(name="red")])
    with pytest.raises(InputError, match="nodata"):
        write(tmp_path / "a.tif", ramp(1, 4, 4), nodata=-9999)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "scene.tif").mkdir()
    with pytest.raises(OutputError, match="is a folder; give the name of a file"):
        write(tmp_path / "scene.tif", ramp(1, 4, 4))


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    with pytest.raises(OutputError, match="folder is a file, not a folder"):
        write(tmp_path / "folder" / "scene.tif", ramp(1, 4, 4))


AS_NOBODY = """
    import os, sys
    import numpy as np
    from affine import Affine
    from wholescene.errors import OutputError
    from wholescene.geometry import Size
    from wholescene.raster import StripWriter
    folder = sys.argv[1]
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        StripWriter(folder + "/scene.tif", size=Size(4, 4), bands=1, dtype="uint8",
                    transform=Affine.identity(), crs=None)
    except OutputError as error:
        print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    for parent in [tmp_path, *tmp_path.parents[:2]]:
        parent.chmod(parent.stat().st_mode | 0o005)
    folder.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(AS_NOBODY), str(folder)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    expected = f"{folder}/scene.tif: no permission to write in {folder}; choose another folder"
    assert done.stdout.startswith(expected), done.stderr
    assert done.stderr == ""


WITH_LITTLE_ROOM = """
    import resource, sys
    import numpy as np
    from affine import Affine
    from wholescene.errors import OutputError
    from wholescene.geometry import Size
    from wholescene.raster import StripWriter
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
    rng = np.random.default_rng(0)
    try:
        with StripWriter(sys.argv[1], size=Size(2048, 1024), bands=2, dtype="uint8",
                         transform=Affine.identity(), crs=None) as writer:
            for row in range(0, 2048, 256):
                writer.write(row, rng.integers(0, 255, (2, 256, 1024)).astype(np.uint8))
        print("complete")
    except OutputError as error:
        print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes")
@pytest.mark.parametrize("limit", [10_000, 1_000_000, 4_150_000])
def test_full_disk_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """A limit on the size of files stands in for a full disk."""
    path = tmp_path / "scene.tif"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITH_LITTLE_ROOM), str(path), str(limit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "the file would exceed the largest allowed here" in done.stdout
    assert "ulimit -f" in done.stdout and done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_tiles_lost_at_the_end_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GDAL closes a file without a word when the last tiles do not fit on the disk.
    monkeypatch.setattr("wholescene.raster.write.room_for", lambda *_: None)
    writer = StripWriter(
        tmp_path / "a.tif", size=Size(64, 64), bands=1, dtype="uint8", transform=NORTH_UP, crs=UTM
    )
    writer.write(0, np.random.default_rng(0).integers(0, 255, (1, 64, 64)).astype(np.uint8))
    part = tmp_path / "a.tif.part"
    close = writer._dataset.close

    class CutsOff:
        def close(self) -> None:
            close()
            os.truncate(part, part.stat().st_size - 100)

    writer._dataset = CutsOff()
    with pytest.raises(OutputError, match="cannot be written"):
        writer.close()
    assert not list(tmp_path.iterdir())
