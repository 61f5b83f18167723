"""Maps open everywhere with names, colours and place, and appear complete or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rio_cogeo import cog_validate
from toy_rasters import NORTH_UP, UTM, ramp

from wholescene.errors import OutputError, RasterError
from wholescene.geometry import Size
from wholescene.labels import ClassTable, LabelClass
from wholescene.raster import (
    free_disk_check,
    read_class_names,
    read_palette,
    write_band_cog,
    write_label_cog,
)

CLASSES = ClassTable(
    (
        LabelClass(id=1, name="bare & <dry>", color=(200, 180, 120)),
        LabelClass(id=4, name="Wälder", color=(0, 90, 0)),
        LabelClass(id=7, name="water", color=(10, 20, 250)),
    ),
    ignore_id=0,
)
LARGE_IDS = ClassTable(
    (LabelClass(id=3, name="a", color=(1, 2, 3)), LabelClass(id=300, name="b", color=(4, 5, 6)))
)
TAGS = {"MODEL_ID": "abc", "CONFIG_HASH": "0f & <1>"}


def blobs(size: Size, classes: ClassTable, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-1, classes.num_classes, (-(-size.height // 9), -(-size.width // 9)))
    indices = coarse.repeat(9, 0).repeat(9, 1)[: size.height, : size.width]
    return classes.to_ids(indices)


def write_map(
    folder: Path,
    ids: np.ndarray,
    classes: ClassTable = CLASSES,
    name: str = "map.tif",
    **changes: Any,
) -> Path:
    (folder / "store").mkdir(exist_ok=True)
    raw = folder / "store" / "labels.raw"
    ids.tofile(raw)
    options = {"transform": NORTH_UP, "crs": CRS.from_string(UTM), "tags": TAGS, **changes}
    write_label_cog(raw, folder / name, size=Size(*ids.shape), classes=classes, **options)
    assert [file.name for file in (folder / "store").iterdir()] == ["labels.raw"]
    return folder / name


@pytest.mark.parametrize("size", [Size(1300, 1100), Size(40, 700), Size(9, 1), Size(512, 512)])
@pytest.mark.parametrize("classes", [CLASSES, LARGE_IDS])
def test_a_valid_cog_with_the_same_ids(tmp_path: Path, size: Size, classes: ClassTable) -> None:
    ids = blobs(size, classes)
    path = write_map(tmp_path, ids, classes)
    valid, errors, warnings = cog_validate(str(path), strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), ids)
        assert file.dtypes == (classes.map_dtype,)
        assert file.nodata == classes.nodata_id
        assert (file.transform, file.crs.to_string()) == (NORTH_UP, UTM)
        assert file.block_shapes[0] == (512, 512)
        assert bool(file.overviews(1)) == (max(size) > 512)


@pytest.mark.parametrize("classes", [CLASSES, LARGE_IDS])
def test_palette_names_description_and_tags(tmp_path: Path, classes: ClassTable) -> None:
    path = write_map(tmp_path, blobs(Size(30, 40), classes), classes)
    with rasterio.open(path) as file:
        palette = file.colormap(1)
        assert file.descriptions == ("class",)
        assert file.tags()["TIFFTAG_SOFTWARE"] == "wholescene"
        assert file.tags().items() >= TAGS.items()
    for one in classes.classes:
        assert palette[one.id] == (*one.color, 255)
    names = dict(zip(classes.ids, classes.names, strict=True))
    assert read_class_names(path) == names
    colors = dict(zip(classes.ids, classes.colors, strict=True))
    assert colors.items() <= read_palette(path).items()


def test_category_names_stand_at_the_place_of_their_id(tmp_path: Path) -> None:
    path = write_map(tmp_path, blobs(Size(30, 40), CLASSES))
    root = Xml.parse(path.with_name("map.tif.aux.xml")).getroot()
    names = [category.text or "" for category in root.iter("Category")]
    assert names == ["", "bare & <dry>", "", "", "Wälder", "", "", "water"]


def test_qgis_style(tmp_path: Path) -> None:
    write_map(tmp_path, blobs(Size(30, 40), CLASSES))
    root = Xml.fromstring((tmp_path / "map.qml").read_text("utf-8").split("\n", 1)[1])
    renderer = root.find("./pipe/rasterrenderer")
    assert renderer is not None and renderer.get("type") == "paletted"
    entries = [dict(entry.attrib) for entry in renderer.iter("paletteEntry")]
    assert entries[1] == {"value": "4", "color": "#005a00", "alpha": "255", "label": "Wälder"}
    assert [entry["value"] for entry in entries] == ["1", "4", "7"]


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo is not on the path")
def test_gdalinfo_shows_names_colours_and_nodata(tmp_path: Path) -> None:
    path = write_map(tmp_path, blobs(Size(700, 600), CLASSES))
    done = subprocess.run(
        ["gdalinfo", "-json", str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    band = json.loads(done.stdout)["bands"][0]
    assert band["noDataValue"] == 0
    assert band["colorInterpretation"] == "Palette"
    assert band["colorTable"]["entries"][4] == [0, 90, 0, 255]
    assert band["description"] == "class"
    text = subprocess.run(
        ["gdalinfo", str(path)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert "4: Wälder" in text


def test_names_survive_the_loss_of_the_sidecar(tmp_path: Path) -> None:
    path = write_map(tmp_path, blobs(Size(30, 40), CLASSES))
    path.with_name("map.tif.aux.xml").unlink()
    assert read_class_names(path) == {1: "bare & <dry>", 4: "Wälder", 7: "water"}


def test_a_foreign_raster_has_no_names_and_no_palette(make_raster: Any) -> None:
    path = make_raster(ramp(3, 4))
    assert read_class_names(path) == {}
    assert read_palette(path) == {}


def test_a_broken_sidecar_is_named(tmp_path: Path) -> None:
    path = write_map(tmp_path, blobs(Size(30, 40), CLASSES))
    path.with_name("map.tif.aux.xml").write_text("<PAM")
    with pytest.raises(RasterError, match=r"map\.tif\.aux\.xml: is no readable sidecar"):
        read_class_names(path)


def test_overviews_show_the_most_frequent_class_and_no_new_one(tmp_path: Path) -> None:
    ids = np.full((1024, 1024), 1, np.uint8)
    ids[::2, ::2] = 7  # one in four
    path = write_map(tmp_path, ids)
    with rasterio.open(path, OVERVIEW_LEVEL=0) as overview:
        assert (overview.read(1) == 1).all()


def test_no_georeferencing_stays_none(tmp_path: Path) -> None:
    path = write_map(tmp_path, blobs(Size(30, 40), CLASSES), transform=Affine.identity(), crs=None)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(path) as file:
        assert file.crs is None and file.transform == Affine.identity()


@pytest.mark.parametrize(
    "transform", [Affine(1 / 3, 0.1, 1e5 + 1 / 7, 0.2, -1 / 3, 4e6), Affine(1, 0, 0, 0, 1, 0.1)]
)
def test_every_bit_of_the_transform_is_kept(tmp_path: Path, transform: Affine) -> None:
    path = write_map(tmp_path, blobs(Size(30, 40), CLASSES), transform=transform)
    with rasterio.open(path) as file:
        np.testing.assert_allclose(tuple(file.transform), tuple(transform), rtol=1e-15)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    ids = blobs(Size(1100, 900), CLASSES)
    one = write_map(tmp_path, ids, name="one.tif").read_bytes()
    assert one == write_map(tmp_path, ids, name="two.tif").read_bytes()


def test_only_the_map_and_its_sidecars_remain(tmp_path: Path) -> None:
    write_map(tmp_path, blobs(Size(1100, 900), CLASSES))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["map.qml", "map.tif", "map.tif.aux.xml", "store"]


def test_writing_again_replaces_names_and_map(tmp_path: Path) -> None:
    write_map(tmp_path, blobs(Size(30, 40), CLASSES))
    other = ClassTable.from_names(["x", "y"])
    path = write_map(tmp_path, np.ones((30, 40), np.uint8), other)
    assert read_class_names(path) == {0: "x", 1: "y"}


def test_bands_keep_names_scale_and_nodata(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 700, 600)).astype(np.uint8)
    pixels.tofile(tmp_path / "p.raw")
    write_band_cog(
        tmp_path / "p.raw",
        tmp_path / "p.tif",
        size=Size(700, 600),
        bands=["land", "sea", "sky"],
        dtype="uint8",
        transform=NORTH_UP,
        crs=CRS.from_string(UTM),
        nodata=255,
        scale=1 / 250,
        offset=0.5,
        tags=TAGS,
    )
    assert cog_validate(str(tmp_path / "p.tif"), strict=True)[0]
    with rasterio.open(tmp_path / "p.tif") as file:
        np.testing.assert_array_equal(file.read(), pixels)
        assert file.descriptions == ("land", "sea", "sky")
        assert file.scales == (1 / 250,) * 3 and file.offsets == (0.5,) * 3
        assert file.nodatavals == (255,) * 3
    with rasterio.open(tmp_path / "p.tif", OVERVIEW_LEVEL=0) as overview:
        mean = pixels[0, :600, :600].reshape(300, 2, 300, 2).mean((1, 3))
        assert np.abs(overview.read(1)[:300, :300] - mean).max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "uint16", "int16", "float64"])
def test_bands_of_any_dtype(tmp_path: Path, dtype: str) -> None:
    pixels = np.random.default_rng(0).normal(50, 9, (1, 90, 80)).astype(dtype)
    pixels.tofile(tmp_path / "u.raw")
    write_band_cog(
        tmp_path / "u.raw", tmp_path / "u.tif", size=Size(90, 80), bands=["entropy"],
        dtype=dtype, transform=NORTH_UP, crs=None, tags={},
    )  # fmt: skip
    with rasterio.open(tmp_path / "u.tif") as file:
        np.testing.assert_array_equal(file.read(), pixels)
        assert file.nodata is None


def test_missing_rows_leave_the_old_map(tmp_path: Path) -> None:
    path = write_map(tmp_path, blobs(Size(30, 40), CLASSES))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    os.truncate(tmp_path / "store" / "labels.raw", 700)
    with pytest.raises(OutputError, match="holds 700 bytes of rows, but the map has 2400"):
        write_label_cog(
            tmp_path / "store" / "labels.raw", path, size=Size(30, 40), transform=NORTH_UP,
            crs=None, classes=LARGE_IDS, tags={},
        )  # fmt: skip
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    assert after == before


WITH_LITTLE_ROOM = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from affine import Affine
    from wholescene.errors import OutputError
    from wholescene.geometry import Size
    from wholescene.raster import write_band_cog
    raw, out, limit = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit),) * 2)
    try:
        write_band_cog(raw, out, size=Size(1500, 1000), bands=["p"], dtype="uint8",
                       transform=Affine.identity(), crs=None, tags={})
        print("complete")
    except OutputError as error:
        print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes")
def test_full_disk_never_leaves_half_a_map(tmp_path: Path) -> None:
    """Wherever a limit on the size of files strikes, there is a whole map or none."""
    raw, out = tmp_path / "p.raw", tmp_path / "maps" / "p.tif"
    out.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (1500, 1000)).astype(np.uint8)
    pixels.tofile(raw)
    outcomes = []
    for limit in (300_000, 1_950_000, 2_100_000):
        code = textwrap.dedent(WITH_LITTLE_ROOM)
        done = subprocess.run(
            [sys.executable, "-c", code, str(raw), str(out), str(limit)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if done.stdout == "complete\n":
            with rasterio.Env(), pytest.warns(rasterio.errors.NotGeoreferencedWarning):
                file = rasterio.open(out)
            np.testing.assert_array_equal(file.read(1), pixels)
            file.close()
            out.unlink()
        else:
            assert "cannot be written" in done.stdout and done.stdout.count("\n") == 1
        assert not list(out.parent.iterdir())
        outcomes.append(done.stdout == "complete\n")
    assert outcomes[0] is False and outcomes[-1] is True


def test_room_is_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_disk_check(tmp_path / "not" / "yet" / "there", 1000)
    with pytest.raises(OutputError, match=r"needs up to 1,000,000,000,000\.0 MB of disk, but only"):
        free_disk_check(tmp_path, 10**18)
    monkeypatch.setattr("wholescene.raster.aside._file_limit", lambda: 500)
    free_disk_check(tmp_path, 1000, file_bytes=400)
    with pytest.raises(OutputError, match="ulimit -f"):
        free_disk_check(tmp_path, 1000)
