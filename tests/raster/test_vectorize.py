"""A map becomes polygons with names and areas in any of four formats."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.features import rasterize
from toy_rasters import NORTH_UP, MakeRaster

shapely = pytest.importorskip("shapely")
pyogrio = pytest.importorskip("pyogrio")
pq = pytest.importorskip("pyarrow.parquet")

from wholescene.errors import (  # noqa: E402
    InputError,
    LabelError,
    OutputError,
    RasterError,
    UnsupportedError,
)
from wholescene.labels import ClassTable, LabelClass  # noqa: E402
from wholescene.raster import vectorize  # noqa: E402

SUFFIXES = [".gpkg", ".parquet", ".fgb", ".geojson"]
CLASSES = ClassTable(
    (
        LabelClass(id=1, name='field, "dry"', color=(1, 2, 3)),
        LabelClass(id=2, name="Wälder", color=(1, 2, 4)),
        LabelClass(id=9, name="lake", color=(1, 2, 5)),
    ),
    ignore_id=0,
)
BLOCKS = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [9, 9, 0, 2]], np.uint8)


def blobs(height: int = 120, width: int = 90, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).choice([0, 1, 2, 9], (height // 6 + 1, width // 6 + 1))
    return coarse.repeat(6, 0).repeat(6, 1)[:height, :width].astype(np.uint8)


def read(path: Path) -> dict[str, Any]:
    """Columns of a vector file, through its own reader."""
    if path.suffix == ".parquet":
        table = pq.read_table(path).to_pydict()
        geometries = shapely.from_wkb(table.pop("geometry"))
        return {**table, "geometry": geometries}
    meta, _, geometries, fields = pyogrio.raw.read(path)
    columns = {name: field.tolist() for name, field in zip(meta["fields"], fields, strict=True)}
    return {**columns, "geometry": shapely.from_wkb(geometries), "crs": meta["crs"]}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_classes_names_and_areas(make_raster: MakeRaster, tmp_path: Path, suffix: str) -> None:
    path = make_raster(BLOCKS, "map.tif", nodata=0)
    out = tmp_path / f"map{suffix}"
    assert vectorize(path, out, classes=CLASSES) == 3
    found = read(out)
    rows = sorted(zip(found["class_id"], found["class_name"], found["area_m2"], strict=True))
    assert rows == [(1, 'field, "dry"', 400), (2, "Wälder", 500), (9, "lake", 200)]
    assert {geometry.geom_type for geometry in found["geometry"]} == {"Polygon"}


@pytest.mark.parametrize("suffix", SUFFIXES[:3])
def test_drawing_them_gives_the_map_back(
    make_raster: MakeRaster, tmp_path: Path, suffix: str
) -> None:
    ids = blobs()
    turned = Affine(9, 2, 500_000, 2, -9, 4_600_000)
    for transform in (NORTH_UP, turned):
        path = make_raster(ids, "map.tif", nodata=0, transform=transform)
        out = tmp_path / f"map{suffix}"
        count = vectorize(path, out, classes=CLASSES, band_rows=17)
        found = read(out)
        assert len(found["geometry"]) == count
        pairs = zip(found["geometry"], found["class_id"], strict=True)
        drawn = rasterize(pairs, out_shape=ids.shape, transform=transform)
        np.testing.assert_array_equal(drawn, ids)


@pytest.mark.parametrize("south_up", [False, True])
def test_geojson_follows_its_standard(
    make_raster: MakeRaster, tmp_path: Path, south_up: bool
) -> None:
    transform = Affine(10, 0, 500_000, 0, 10 if south_up else -10, 4_600_000)
    path = make_raster(BLOCKS, "map.tif", nodata=0, transform=transform)
    vectorize(path, tmp_path / "map.geojson", classes=CLASSES)
    text = json.loads((tmp_path / "map.geojson").read_text("utf-8"))
    assert "crs" not in text  # RFC 7946: longitude and latitude, nothing else
    assert len(text["features"]) == 3
    for feature in text["features"]:
        ring = np.array(feature["geometry"]["coordinates"][0])
        assert shapely.LinearRing(ring).is_ccw
        # UTM zone 30: 500 km east is 3 degrees west; 4,600 km north is about 41.55 degrees.
        np.testing.assert_allclose(ring, [[-3, 41.55]] * len(ring), atol=1e-2)
    corner = np.concatenate([f["geometry"]["coordinates"][0] for f in text["features"]])
    assert corner[:, 0].min() == pytest.approx(-3, abs=1e-8)


@pytest.mark.parametrize("suffix", SUFFIXES[:3])
def test_the_crs_is_that_of_the_map(make_raster: MakeRaster, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"map{suffix}"
    vectorize(make_raster(BLOCKS, "map.tif", nodata=0), out, classes=CLASSES)
    if suffix == ".parquet":
        geo = json.loads(pq.read_schema(out).metadata[b"geo"])
        column = geo["columns"]["geometry"]
        assert column["crs"]["id"] == {"authority": "EPSG", "code": 32630}
        assert (geo["primary_column"], column["encoding"]) == ("geometry", "WKB")
    else:
        assert read(out)["crs"] == "EPSG:32630"


def test_geoparquet_opens_in_geopandas(make_raster: MakeRaster, tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    out = tmp_path / "map.parquet"
    vectorize(make_raster(BLOCKS, "map.tif", nodata=0), out, classes=CLASSES)
    frame = geopandas.read_parquet(out)
    assert frame.crs.to_epsg() == 32630
    np.testing.assert_array_equal(frame.geometry.area, frame.area_m2)


@pytest.mark.parametrize("suffix", SUFFIXES[:3])
def test_without_a_crs_areas_are_unknown(
    make_raster: MakeRaster, tmp_path: Path, suffix: str
) -> None:
    path = make_raster(BLOCKS, "map.tif", nodata=0, crs=None, transform=None)
    out = tmp_path / f"map{suffix}"
    assert vectorize(path, out, classes=CLASSES) == 3
    found = read(out)
    assert all(area is None or np.isnan(area) for area in found["area_m2"])
    assert shapely.total_bounds(found["geometry"]).tolist() == [0, 0, 4, 3]
    with pytest.raises(UnsupportedError, match="the map has no CRS"):
        vectorize(path, tmp_path / "map.geojson")
    for option in ("min_area", "simplify"):
        with pytest.raises(InputError, match="the map has no CRS with metres"):
            vectorize(path, out, **{option: 3.0})


def test_areas_in_degrees_are_those_on_the_ellipsoid(
    make_raster: MakeRaster, tmp_path: Path
) -> None:
    step = 0.01
    degrees = Affine(step, 0, 10, 0, -step, 60)
    path = make_raster(BLOCKS, "map.tif", nodata=0, crs="EPSG:4326", transform=degrees)
    vectorize(path, tmp_path / "map.gpkg", classes=CLASSES)
    found = read(tmp_path / "map.gpkg")
    areas = dict(zip(found["class_id"], found["area_m2"], strict=True))
    pyproj = pytest.importorskip("pyproj")
    geod = pyproj.Geod(ellps="WGS84")
    for class_id, geometry in zip(found["class_id"], found["geometry"], strict=True):
        # Geodesics differ from parallels by far less than a thousandth over so few pixels.
        expected = abs(geod.geometry_area_perimeter(shapely.segmentize(geometry, step / 10))[0])
        assert areas[class_id] == pytest.approx(expected, rel=1e-6)


def test_area_in_feet_becomes_square_metres(make_raster: MakeRaster, tmp_path: Path) -> None:
    path = make_raster(BLOCKS, "map.tif", nodata=0, crs="EPSG:2263")
    vectorize(path, tmp_path / "map.gpkg", classes=CLASSES)
    found = read(tmp_path / "map.gpkg")
    assert sum(found["area_m2"]) == pytest.approx(11 * (10 * 1200 / 3937) ** 2)


def test_names_come_from_the_map(tmp_path: Path) -> None:
    from rasterio.crs import CRS

    from wholescene.geometry import Size
    from wholescene.raster import write_label_cog

    BLOCKS.tofile(tmp_path / "labels.raw")
    write_label_cog(
        tmp_path / "labels.raw", tmp_path / "map.tif", size=Size(3, 4), transform=NORTH_UP,
        crs=CRS.from_epsg(32630), classes=CLASSES, tags={},
    )  # fmt: skip
    vectorize(tmp_path / "map.tif", tmp_path / "map.gpkg")
    names = set(read(tmp_path / "map.gpkg")["class_name"])
    assert names == {'field, "dry"', "Wälder", "lake"}


def test_a_map_without_names_shows_ids(make_raster: MakeRaster, tmp_path: Path) -> None:
    vectorize(make_raster(BLOCKS, "map.tif"), tmp_path / "map.gpkg")
    found = read(tmp_path / "map.gpkg")
    assert set(found["class_name"]) == {"0", "1", "2", "9"}


def test_small_areas_are_left_out(make_raster: MakeRaster, tmp_path: Path) -> None:
    path = make_raster(BLOCKS, "map.tif", nodata=0)
    assert vectorize(path, tmp_path / "map.gpkg", classes=CLASSES, min_area=400) == 2
    assert min(read(tmp_path / "map.gpkg")["area_m2"]) == 400
    assert vectorize(path, tmp_path / "map.gpkg", classes=CLASSES, min_area=400.1) == 1


def test_simplified_polygons_cover_the_same_ground(make_raster: MakeRaster, tmp_path: Path) -> None:
    rows, cols = np.mgrid[:90, :120]
    seeds = np.random.default_rng(1).uniform(0, 100, (12, 2))
    nearest = np.argmin([np.hypot(rows - y, cols - x) for y, x in seeds], axis=0)
    ids = np.array([1, 2, 9, 0], np.uint8)[nearest % 4]  # slanting borders become stairs
    path = make_raster(ids, "map.tif")
    plain, simple = tmp_path / "plain.gpkg", tmp_path / "simple.gpkg"
    count = vectorize(path, plain, band_rows=20)
    assert count == vectorize(path, simple, simplify=60.0, band_rows=20)
    before, after = read(plain), read(simple)
    assert sum(after["area_m2"]) == pytest.approx(ids.size * 100)
    assert shapely.coverage_is_valid(after["geometry"])
    corners = shapely.get_num_coordinates
    assert corners(after["geometry"]).sum() < 0.3 * corners(before["geometry"]).sum()
    np.testing.assert_allclose(shapely.area(after["geometry"]), after["area_m2"])


def test_borders_with_nodata_are_simplified_too(make_raster: MakeRaster, tmp_path: Path) -> None:
    rows, cols = np.mgrid[:60, :60]
    disc = (np.hypot(rows - 30, cols - 30) < 20).astype(np.uint8)
    path = make_raster(disc, "map.tif", nodata=0)
    vectorize(path, tmp_path / "plain.gpkg", classes=CLASSES)
    assert vectorize(path, tmp_path / "simple.gpkg", classes=CLASSES, simplify=50.0) == 1
    (before,), (after,) = (read(tmp_path / f"{n}.gpkg")["geometry"] for n in ("plain", "simple"))
    assert shapely.get_num_coordinates(after) < 0.5 * shapely.get_num_coordinates(before)
    assert after.area == pytest.approx(before.area, rel=0.05)


def test_small_areas_left_out_keep_their_place(make_raster: MakeRaster, tmp_path: Path) -> None:
    ids = np.full((20, 20), 1, np.uint8)
    ids[8:12, 8:12] = 2
    path, out = make_raster(ids, "map.tif"), tmp_path / "map.gpkg"
    assert vectorize(path, out, classes=CLASSES, min_area=2_000, simplify=5.0) == 1
    (found,) = read(out)["geometry"]
    assert len(found.interiors) == 1
    assert found.area == pytest.approx((400 - 16) * 100, rel=0.02)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_map_without_data_gives_an_empty_file(
    make_raster: MakeRaster, tmp_path: Path, suffix: str
) -> None:
    path = make_raster(np.zeros((5, 6), np.uint8), "map.tif", nodata=0)
    out = tmp_path / f"map{suffix}"
    assert vectorize(path, out, classes=CLASSES) == 0
    assert len(read(out)["geometry"]) == 0


def test_many_batches_arrive_complete(
    make_raster: MakeRaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wholescene.raster.vector_file.BATCH_ROWS", 10)
    ids = np.random.default_rng(0).choice([1, 2, 9], (40, 40)).astype(np.uint8)
    path = make_raster(ids, "map.tif")
    counts = {
        s: vectorize(path, tmp_path / f"m{s}", classes=CLASSES, band_rows=7) for s in SUFFIXES
    }
    assert len(set(counts.values())) == 1
    for suffix, count in counts.items():
        found = read(tmp_path / f"m{suffix}")
        assert len(found["geometry"]) == count
        assert sum(found["area_m2"]) == pytest.approx(1600 * 100)


def test_unknown_ending_lists_the_four(make_raster: MakeRaster, tmp_path: Path) -> None:
    path = make_raster(BLOCKS, "map.tif")
    with pytest.raises(OutputError, match=r"'\.shp'; end the name in .gpkg, .parquet, .fgb, .geoj"):
        vectorize(path, tmp_path / "map.shp")
    assert [file.name for file in tmp_path.iterdir()] == ["map.tif"]


def test_unknown_ids_and_wrong_rasters_are_refused(make_raster: MakeRaster, tmp_path: Path) -> None:
    out = tmp_path / "old.gpkg"
    out.write_text("old")
    unknown = make_raster(np.array([[1, 5]], np.uint8), "unknown.tif")
    with pytest.raises(LabelError, match=r"unknown\.tif: id 5 \(1 px\)"):
        vectorize(unknown, out, classes=CLASSES)
    negative = make_raster(np.array([[1, -5]], np.int16), "negative.tif")
    with pytest.raises(LabelError, match=r"id -5 is outside 0\.\.65535"):
        vectorize(negative, out)
    numbers = make_raster(np.ones((2, 2), np.float32), "numbers.tif")
    with pytest.raises(RasterError, match="1 bands of float32; a label map has one band of whole"):
        vectorize(numbers, out)
    with pytest.raises(InputError, match="--min-area -1 is negative"):
        vectorize(unknown, out, min_area=-1)
    assert out.read_text() == "old"
    assert not list(tmp_path.glob("*part*"))


WITH_LITTLE_ROOM = """
    import resource, sys
    from wholescene.errors import OutputError
    from wholescene.raster import vectorize
    source, out, limit = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit),) * 2)
    try:
        print(vectorize(source, out))
    except OutputError as error:
        print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes")
@pytest.mark.parametrize(
    "suffix", [".gpkg", *(pytest.param(s, marks=pytest.mark.slow) for s in SUFFIXES[1:])]
)
def test_full_disk_leaves_nothing(make_raster: MakeRaster, tmp_path: Path, suffix: str) -> None:
    ids = np.random.default_rng(0).integers(1, 5, (150, 150)).astype(np.uint8)
    source, out = make_raster(ids, "map.tif"), tmp_path / "out" / f"map{suffix}"
    code = [sys.executable, "-c", textwrap.dedent(WITH_LITTLE_ROOM), str(source), str(out)]
    done = subprocess.run(
        [*code, "150000"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.startswith(f"{out}: ") and done.stdout.count("\n") == 1, done
    assert not list(out.parent.iterdir())


@pytest.mark.slow
def test_memory_does_not_follow_the_height(tmp_path: Path, make_raster: MakeRaster) -> None:
    code = """
        import re, sys
        from pathlib import Path
        import wholescene.raster.polygons, wholescene.raster.vector_file
        from wholescene.raster import vectorize
        def peak():
            return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
        before = peak()
        vectorize(sys.argv[1], sys.argv[2])
        print((peak() - before) >> 10)
    """
    grown = []
    for height in (8_000, 48_000):
        ids = np.random.default_rng(0).integers(0, 4, (height // 8, 60)).repeat(8, 0).repeat(8, 1)
        source = make_raster(ids.astype(np.uint8), f"{height}.tif", tiled=True, compress="lzw")
        arguments = [str(source), str(tmp_path / f"{height}.gpkg")]
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            capture_output=True, text=True, check=True, timeout=200,
            env={**os.environ, "GDAL_CACHEMAX": "8"},
        )  # fmt: skip
        grown.append(int(done.stdout))
    assert grown[1] < grown[0] + 40  # MB, for 160,000 polygons more
