"""One's own vector files as labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from folder_world import UTM, image, label_ids, prepared, write

from wholescene.errors import DatasetError, LabelError, RasterError


def square(left: float, top: float, side: float, **properties: Any) -> dict[str, Any]:
    """A square in metres from the corner of the first image."""
    x, y = 5e5 + left, 1e5 - top
    ring = [[x, y], [x + side, y], [x + side, y - side], [x, y - side], [x, y]]
    return {
        "type": "Feature",
        "properties": properties,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


def write_vectors(path: Path, features: list[dict[str, Any]], crs: str = UTM) -> Path:
    import geopandas

    path.parent.mkdir(parents=True, exist_ok=True)
    geopandas.GeoDataFrame.from_features(features, crs=UTM).to_crs(crs).to_file(path)
    return path


PLACED = [(f"all{end}", crs) for end in (".gpkg", ".shp", ".fgb") for crs in (UTM, "EPSG:3857")]


@pytest.mark.parametrize(("name", "crs"), [*PLACED, ("all.geojson", "EPSG:4326")])
def test_one_vector_file_for_all(tmp_path: Path, name: str, crs: str) -> None:
    source = tmp_path / "mine"
    for i in range(3):
        write(source / f"s{i}.tif", image(i), x=20.0 * i)
    # The second reaches from the first image over the gap; the last lies far off.
    features = [square(2, 3, 4), square(8, 1, 9), square(22, 5, 3), square(900, 0, 5)]
    write_vectors(source / name, features, crs)
    dataset, notes = prepared(source)
    wanted = np.zeros((12, 52), np.uint8)
    wanted[3:7, 2:6] = wanted[1:10, 8:17] = wanted[5:8, 22:25] = 1
    for i in range(3):
        assert np.array_equal(label_ids(dataset, f"s{i}"), wanted[:, 20 * i : 20 * i + 12])
    assert dataset.classes.names == ("background", "foreground")
    assert "every polygon is class 1" in notes


def test_vector_file_per_image_with_names(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    write(source / "images" / "a.tif", image(), x=0)
    features = [square(0, 0, 6, kind="tree"), square(3, 3, 6, kind="road")]
    write_vectors(source / "labels" / "a.geojson", features, "EPSG:4326")
    dataset, _ = prepared(source, field="kind")
    assert dataset.classes.names == ("background", "road", "tree")
    wanted = np.zeros((12, 12), np.uint8)
    wanted[:6, :6] = 2
    wanted[3:9, 3:9] = 1  # a later feature lies over an earlier one
    assert np.array_equal(label_ids(dataset, "a"), wanted)


def test_vector_ids_and_class_file(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    write(source / "a.tif", image(), x=0)
    write_vectors(source / "a.gpkg", [square(0, 0, 6, code=30), square(6, 6, 6, code=50)])
    assert prepared(source, field="code")[0].classes.ids == (0, 30, 50)
    (tmp_path / "c.yaml").write_text("30: grass\n50: built\n")
    with pytest.raises(DatasetError, match="no class 0 for pixels in no polygon"):
        prepared(source, tmp_path / "two", field="code", classes=tmp_path / "c.yaml")
    dataset, _ = prepared(
        source, tmp_path / "two", field="code", classes=tmp_path / "c.yaml", ignore_id=255
    )
    ids = label_ids(dataset, "a")
    assert ids[0, 0] == 30 and ids[11, 11] == 50 and ids[0, 11] == 255
    statistics = dataset.spec.statistics
    assert statistics is not None
    assert (statistics.class_counts, statistics.ignored_pixels) == ((36, 36), 72)


def test_class_zero_of_polygons_is_no_background(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    write(source / "a.tif", image(), x=0)
    write_vectors(source / "a.gpkg", [square(0, 0, 6, kind="tree"), square(6, 6, 6, kind="road")])
    (source / "classes.txt").write_text("tree\nroad\n")
    with pytest.raises(DatasetError, match="no class 0"):
        prepared(source, field="kind")
    dataset, notes = prepared(source, field="kind", ignore_id=255)
    assert label_ids(dataset, "a")[[0, 11, 0], [0, 11, 11]].tolist() == [0, 1, 255]
    assert "pixels in no polygon are ignored (255)" in notes


def test_one_class_of_a_class_file(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    write(source / "a.tif", image(), x=0)
    write_vectors(source / "a.gpkg", [square(0, 0, 6)])
    (source / "classes.yaml").write_text("0: rest\n7: roof\n")
    assert label_ids(prepared(source)[0], "a").sum() == 7 * 36
    (source / "classes.yaml").write_text("0: rest\n7: roof\n8: tree\n")
    with pytest.raises(DatasetError, match="--field"):
        prepared(source)


def test_file_without_polygons_is_background(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    empty = json.dumps({"type": "FeatureCollection", "features": []})
    for name in ("a", "b"):
        write(source / "images" / f"{name}.tif", image(), x=0)
    write_vectors(source / "labels" / "a.geojson", [square(0, 0, 6, kind="tree")], "EPSG:4326")
    (source / "labels" / "b.geojson").write_text(empty)
    dataset, _ = prepared(source, field="kind")
    assert label_ids(dataset, "a").sum() == 36
    assert not label_ids(dataset, "b").any()


def test_rotated_and_flipped_images(tmp_path: Path) -> None:
    import shapely
    from rasterio.features import rasterize

    source = tmp_path / "mine"
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    left, top = 5e5 + 6 - 6 * cos - 6 * sin, 1e5 - 6 - 6 * sin + 6 * cos
    shape = shapely.box(5e5 + 1, 1e5 - 9, 5e5 + 8, 1e5 - 4)
    grids = {
        "turned": Affine(cos, sin, left, sin, -cos, top),
        "upward": Affine(1, 0, 5e5, 0, 1, 1e5 - 12),
        "backward": Affine(-1, 0, 5e5 + 12, 0, -1, 1e5),
    }
    for name, transform in grids.items():
        write(source / f"{name}.tif", image(), transform=transform)
    write_vectors(source / "all.gpkg", [square(1, 4, 5), square(3, 4, 5)], "EPSG:3857")
    dataset, _ = prepared(source)
    for name, transform in grids.items():
        wanted = rasterize([shape], out_shape=(12, 12), transform=transform)
        assert 20 < wanted.sum() < 50
        assert np.array_equal(label_ids(dataset, name), wanted), name


def test_bad_vectors(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    write(source / "a.tif", image())
    write_vectors(source / "all.gpkg", [square(0, 0, 6, kind="tree"), square(1, 1, 2, kind=None)])
    with pytest.raises(RasterError, match=r"a\.tif: the image has no CRS"):
        prepared(source)
    write(source / "a.tif", image(), x=0)
    with pytest.raises(LabelError, match="feature 2 has no value in 'kind'"):
        prepared(source, field="kind")
    with pytest.raises(LabelError, match="it has kind"):
        prepared(source, field="type")
    write_vectors(source / "more.gpkg", [square(0, 0, 6)])
    with pytest.raises(DatasetError, match="--labels FILE"):
        prepared(source)
    dataset, _ = prepared(source, labels="more.gpkg")
    assert label_ids(dataset, "a").sum() == 36


def test_strips_leave_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rasterio.features import rasterize
    from shapely.geometry import Polygon, mapping

    from wholescene.raster import rasterize as module

    rng = np.random.default_rng(3)
    source = tmp_path / "mine"
    write(source / "a.tif", image(size=60), x=0)
    shapes = []
    for _ in range(12):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        center = rng.uniform(0, 60, 2)
        ring = center + np.column_stack([np.cos(angles), np.sin(angles)]) * rng.uniform(3, 25)
        shapes.append(Polygon(ring * [1, -1] + [5e5, 1e5]))
    features = [
        {"type": "Feature", "properties": {"id": i}, "geometry": mapping(shape)}
        for i, shape in enumerate(shapes, start=1)
    ]
    write_vectors(source / "all.gpkg", features)
    wanted = rasterize(
        zip(shapes, range(1, 13), strict=True),
        out_shape=(60, 60),
        transform=Affine(1, 0, 5e5, 0, -1, 1e5),
        dtype="uint8",
    )
    monkeypatch.setattr(module, "STRIP_PIXELS", 60 * 7)
    dataset, _ = prepared(source, field="id")
    assert np.array_equal(label_ids(dataset, "a"), wanted)


def test_work_is_not_done_twice(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    write(source / "a.tif", image(), x=0)
    write_vectors(source / "all.gpkg", [square(0, 0, 6, kind=1)])
    dataset, _ = prepared(source)
    label = dataset.scene("a").labels["label"]
    before = label.stat().st_mtime_ns
    prepared(source)
    assert label.stat().st_mtime_ns == before
    prepared(source, field="kind")
    assert label.stat().st_mtime_ns > before


def test_geojson_of_the_error_is_plain(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    write(source / "a.tif", image(), x=0)
    point = {"type": "Point", "coordinates": [30.0, 1.0]}
    feature = {"type": "Feature", "properties": {}, "geometry": point}
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    (source / "all.geojson").write_text(text)
    with pytest.raises(LabelError, match="feature 1 is a Point"):
        prepared(source)
