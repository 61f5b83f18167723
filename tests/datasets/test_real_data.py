"""Claims about real imagery; skipped where ``WHOLESCENE_DATA`` is unset."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from public_fixtures.common import real

from wholescene.datasets import (
    ClassEntry,
    DatasetSpec,
    SceneRecord,
    load_dataset,
    verify,
    write_dataset,
)
from wholescene.errors import DatasetError
from wholescene.geometry import Window

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def tile(name: str) -> tuple[int, int, int]:
    column, row, zoom = map(int, re.findall(r"\d+", name))
    return column, row, zoom


def same_ground(a: str, b: str) -> bool:
    """Whether one web map tile is the other or holds it."""
    (x, y, z), (fine_x, fine_y, fine_z) = sorted((tile(a), tile(b)), key=lambda each: each[2])
    return (fine_x >> (fine_z - z), fine_y >> (fine_z - z)) == (x, y)


def test_the_published_kampala_split_leaks(tmp_path: Path) -> None:
    folder = real("kampala-buildings") / "TRAIN" / "HOTOSM" / "2"
    scenes = [
        SceneRecord(
            id=image.stem,
            split=split,
            files={"image": (image,)},
            labels={"label": folder / f"{prefix}binarymasks" / f"{image.stem}.mask.tif"},
        )
        for split, prefix in (("train", ""), ("val", "val-"))
        for image in sorted((folder / f"{prefix}chips").glob("*.tif"))
    ]
    assert len(scenes) == 147
    classes = (ClassEntry(id=0, name="background"), ClassEntry(id=1, name="building"))
    spec = DatasetSpec(name="published", classes=classes)
    findings = verify(load_dataset(write_dataset(spec, scenes, tmp_path)))

    # Found independently, from the tile numbers alone: tiles of one zoom only share edges.
    expected = {
        val.id: sum(same_ground(val.id, train.id) for train in scenes if train.split == "train")
        for val in scenes
        if val.split == "val"
    }
    leaks = {finding.scene: finding for finding in findings if finding.check == "shared-ground"}
    assert set(leaks) == {scene for scene, number in expected.items() if number}
    assert len(leaks) >= 5
    for scene, finding in leaks.items():
        assert finding.severity == "error"
        assert f"same ground as {expected[scene]} of split 'train'" in finding.what
    assert {f.check for f in findings if f.severity == "error"} == {"shared-ground"}


def test_kampala_as_whole_scenes_is_sound(tmp_path: Path) -> None:
    dataset = load_dataset(script("kampala").prepare(real("kampala-buildings"), tmp_path))
    assert verify(dataset) == []
    assert dataset.splits == ("train", "val", "test", "test2")
    sizes = []
    for scene in dataset.scenes:
        with dataset.reader(scene) as image:
            sizes.append(tuple(image.size))
    assert sizes == [(2048, 1536), (2048, 512), (2048, 512), (1024, 1024)]


def test_kampala_tiles_keep_their_place_and_pixels(tmp_path: Path) -> None:
    source = real("kampala-buildings")
    module = script("kampala")
    tiles = module.find_tiles(source)
    assert len(tiles) == 112
    strip = module.STRIPS[1]
    col, row = strip.cols[1], strip.rows[2]
    module.write_strip(strip, tiles, tmp_path / "a.tif", tmp_path / "l.tif")
    from rasterio.warp import transform

    from wholescene.raster import SceneReader

    with SceneReader(tmp_path / "a.tif") as mosaic, SceneReader(tiles[col, row][0]) as one:
        window = Window(row_off=512, col_off=256, height=256, width=256)
        expected = one.read(Window.whole(one.size)).values
        np.testing.assert_array_equal(mosaic.read(window).values, expected)
        x = mosaic.transform.c + 256 * mosaic.transform.a
        y = mosaic.transform.f + 512 * mosaic.transform.e
        lon, lat = transform(mosaic.crs, one.crs, [x], [y])
        pixel_deg = one.transform.a
        assert abs(lon[0] - one.transform.c) < 0.01 * pixel_deg
        assert abs(lat[0] - one.transform.f) < 0.01 * pixel_deg


def test_a_missing_kampala_tile_has_no_data_and_no_label(tmp_path: Path) -> None:
    module = script("kampala")
    strip = module.STRIPS[3]
    tiles = dict(module.find_tiles(real("kampala-buildings")))
    del tiles[strip.cols[0], strip.rows[1]]
    module.write_strip(strip, tiles, tmp_path / "a.tif", tmp_path / "l.tif")
    from wholescene.raster import LabelReader, SceneReader

    whole = Window.whole(strip.size)
    with SceneReader(tmp_path / "a.tif") as image:
        valid = image.valid(whole)
    with LabelReader(tmp_path / "l.tif", module.SPEC.class_table()) as label:
        ignored = label.read(whole) == -1
    hole = np.zeros(strip.size, bool)
    hole[256:512, :256] = True
    np.testing.assert_array_equal(ignored, hole)
    assert not valid[hole].any()
    assert valid[~hole].mean() > 0.99


def test_a_folder_without_kampala_tiles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no zoom 21 tile in"):
        script("kampala").prepare(tmp_path, tmp_path / "out")


def test_salinas_runs_through_the_contract(tmp_path: Path) -> None:
    source = real("salinas-a")
    loadmat = pytest.importorskip("scipy.io").loadmat
    dataset = load_dataset(script("salinas").prepare(source, tmp_path))
    assert verify(dataset) == []
    cube = loadmat(source / "SalinasA_corrected.mat")["salinasA_corrected"]
    truth = loadmat(source / "SalinasA_gt.mat")["salinasA_gt"]
    scene = dataset.scene("train_east")
    with dataset.reader(scene) as image, dataset.label_reader(scene) as labels:
        whole = Window.whole(image.size)
        assert (image.num_bands, image.dtype, image.crs) == (204, "int16", None)
        np.testing.assert_array_equal(
            image.read(whole).values, cube[:, 44:].transpose(2, 0, 1).astype(np.float32)
        )
        ids = np.array([1, 10, 11, 12, 13, 14, 0])[labels.read(whole)]
        np.testing.assert_array_equal(ids, truth[:, 44:])
    for split in dataset.splits:
        shown = set()
        for scene in dataset.split(split):
            with dataset.label_reader(scene) as labels:
                shown |= set(np.unique(labels.read(Window.whole(labels.size))).tolist())
        assert shown >= set(range(6))
