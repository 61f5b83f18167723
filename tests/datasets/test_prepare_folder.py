"""One's own images and labels, in every arrangement that is usual."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folder_world import by_split, image, label_ids, mask, prepared, write

from wholescene.errors import DatasetError, InputError, LabelError, WholesceneError

ARRANGEMENTS = {
    "images and masks": ("images/{}.png", "masks/{}.png", None),
    "labels": ("images/{}.tif", "labels/{}.png", None),
    "gt": ("imgs/{}.jpg", "gt/{}.png", None),
    "annotations": ("image/{}.tif", "annotations/{}.tif", None),
    "jpeg 2000": ("images/{}.jp2", "masks/{}.tif", None),
    "toolbox": ("img_dir/{s}/{}.png", "ann_dir/{s}/{}.png", "split"),
    "split above": ("{s}/images/{}.tif", "{s}/masks/{}.png", "split"),
    "suffix in a label folder": ("images/{}.tif", "labels/{}_label.tif", None),
    "side by side": ("{}.tif", "{}_mask.tif", None),
    "side by side, dash": ("{}.png", "{}-mask.png", None),
    "side by side, both named": ("{s}/{}_sat.jpg", "{s}/{}_mask.png", "split"),
    "side by side, labels": ("{}.tif", "{}_labels.tif", None),
    "dot": ("chips/{}.tif", "binarymasks/{}.mask.tif", None),
    "street scenes": ("{s}/{}.png", "{s}annot/{}.png", "split"),
    "street scenes, labels": ("{s}/{}.png", "{s}_labels/{}.png", "split"),
    "split after the kind": ("images_{s}/{}.png", "masks_{s}/{}.png", "split"),
    "deeper": ("city/images/{}.tif", "city/masks/{}.tif", None),
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_usual_arrangements(tmp_path: Path, arrangement: tuple[str, str, str | None]) -> None:
    images, labels, has_splits = arrangement
    source, masks = tmp_path / "mine", {}
    wanted = {"training": "train", "valid": "val", "test": "test"}
    for i, folder in enumerate(wanted):
        name = f"p{i}"
        write(source / images.format(name, s=folder), image(i))
        masks[name] = mask(i)
        write(source / labels.format(name, s=folder), masks[name])
    dataset, notes = prepared(source)
    assert {s.id.removesuffix("_sat") for s in dataset.scenes} == set(masks)
    for scene in dataset.scenes:
        assert np.array_equal(label_ids(dataset, scene.id), masks[scene.id.removesuffix("_sat")])
    assert set(dataset.splits) == {"train", "val", "test"}
    assert dataset.classes.names == ("class_0", "class_1", "class_2")
    if has_splits:
        found = {scene.id.removesuffix("_sat"): scene.split for scene in dataset.scenes}
        assert found == {"p0": "train", "p1": "val", "p2": "test"}
        assert "splits are those of the folders" in notes


def test_statistics_and_name(tmp_path: Path) -> None:
    source = tmp_path / "town"
    for i, split in enumerate(("train", "train", "val")):
        write(source / split / "images" / f"{i}.tif", image(i))
        write(source / split / "masks" / f"{i}.tif", mask(i))
    dataset, _ = prepared(source)
    pixels = np.concatenate([image(i).reshape(3, -1) for i in (0, 1)], axis=1).astype(float)
    statistics = dataset.spec.statistics
    assert statistics is not None
    assert dataset.spec.name == "town"
    assert np.allclose(statistics.mean, pixels.mean(axis=1), rtol=1e-5)
    counts = np.bincount(np.concatenate([mask(0).ravel(), mask(1).ravel()]))
    assert statistics.class_counts == tuple(counts.tolist())


def test_patterns(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    write(source / "survey" / "photo_7.tif", image())
    write(source / "survey" / "classes_7.tif", mask())
    write(source / "survey" / "other_7.tif", image())
    dataset, notes = prepared(
        source, images="survey/photo_*.tif", labels="survey/classes_*.tif", name="survey"
    )
    assert [scene.id for scene in dataset.scenes] == ["7"]
    assert np.array_equal(label_ids(dataset, "7"), mask())
    assert "other_7.tif" in notes
    assert dataset.spec.name == "survey"


def test_patterns_that_name_different_scenes(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "photo_a.tif", image())
    write(tmp_path / "mine" / "truth_b.tif", mask())
    with pytest.raises(DatasetError, match="the scene is 'b' and not 'a'"):
        prepared(tmp_path / "mine", images="photo_*.tif", labels="truth_*.tif")


def test_one_pattern(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    write(source / "pictures" / "a.tif", image())
    write(source / "truth" / "a.tif", mask())
    dataset, _ = prepared(source, labels="truth/*.tif")
    assert np.array_equal(label_ids(dataset, "a"), mask())


def test_single_scene(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    write(source / "north.tif", image())
    write(source / "ground truth.tif", mask())
    dataset, _ = prepared(source, images="north.tif", labels="ground truth.tif")
    assert [(scene.id, scene.split) for scene in dataset.scenes] == [("north", "train")]
    assert np.array_equal(label_ids(dataset, "north"), mask())


def test_pattern_names_the_scene(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    for i, city in enumerate(("oslo", "rome")):
        write(source / city / "a.tif", image())
        write(source / city / "truth_a.tif", mask(i))
    dataset, _ = prepared(source, labels="*/truth_*.tif")
    assert [scene.id for scene in dataset.scenes] == ["oslo_a", "rome_a"]
    for i, city in enumerate(("oslo", "rome")):
        assert np.array_equal(label_ids(dataset, f"{city}_a"), mask(i))


def test_names_repeat_across_folders(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    for split in ("train", "val"):
        write(source / split / "images" / "0.png", image())
        write(source / split / "masks" / "0.png", mask())
    assert by_split(prepared(source)[0]) == {"train": ["train_0"], "val": ["val_0"]}


def _two_masks(source: Path) -> None:
    write(source / "images" / "a.tif", image())
    write(source / "masks" / "a.png", mask())
    write(source / "masks" / "a.tif", mask())


def _two_images(source: Path) -> None:
    write(source / "images" / "a.tif", image())
    write(source / "images" / "a.png", image())
    write(source / "masks" / "a.png", mask())


def _no_mask(source: Path) -> None:
    write(source / "images" / "a.tif", image())
    write(source / "masks" / "b.tif", mask())


def _missing_mask(source: Path) -> None:
    for name in ("a", "b"):
        write(source / "train" / "images" / f"{name}.tif", image())
    write(source / "train" / "masks" / "a.tif", mask())


def _one_file_two_roles(source: Path) -> None:
    write(source / "a.tif", image())


def _another_size(source: Path) -> None:
    write(source / "images" / "a.tif", image())
    write(source / "masks" / "a.tif", mask(size=10))


def _image_as_mask(source: Path) -> None:
    write(source / "images" / "a.tif", image(size=40))
    write(source / "masks" / "a.tif", image(size=40)[0])


def _unknown_id(source: Path) -> None:
    write(source / "images" / "a.tif", image())
    write(source / "masks" / "a.tif", mask(values=(0, 1, 7)))
    (source / "classes.txt").write_text("land\nwater\n")


def _half_split(source: Path) -> None:
    for name in ("train/images/a.tif", "images/b.tif"):
        write(source / name, image())
        write(source / name.replace("images", "masks"), mask())


def _two_lists(source: Path) -> None:
    write(source / "images" / "a.tif", image())
    write(source / "masks" / "a.tif", mask())
    (source / "train.txt").write_text("a\n")
    (source / "val.txt").write_text("a.tif\n")


BAD = {
    "two masks": (_two_masks, {}, DatasetError, ("a.png", "a.tif", "--labels")),
    "two images": (_two_images, {}, DatasetError, ("a.png", "a.tif", "--images")),
    "no mask": (_no_mask, {}, DatasetError, ("masks/b.tif", "--labels")),
    "a mask is missing": (_missing_mask, {}, DatasetError, ("(b)", "--partial")),
    "image is mask": (
        _one_file_two_roles,
        {"images": "*.tif", "labels": "*.tif"},
        DatasetError,
        ("a.tif", "tell images from labels"),
    ),
    "pattern without star": (_two_masks, {"images": "a.tif"}, InputError, ("write *",)),
    "no file for the pattern": (_two_masks, {"images": "b*.tif"}, DatasetError, ("b*.tif",)),
    "label file that is not there": (_two_masks, {"labels": "x.gpkg"}, InputError, ("x.gpkg",)),
    "another size": (_another_size, {}, LabelError, ("-2 rows",)),
    "an image as mask": (_image_as_mask, {}, LabelError, ("looks like an image", "--classes")),
    "unknown id": (_unknown_id, {}, LabelError, ("7 (",)),
    "some without split": (_half_split, {}, DatasetError, ("images/b.tif", "--split")),
    "in two lists": (_two_lists, {}, DatasetError, ("train.txt", "val.txt", "'a'")),
    "unknown way": (_no_mask, {"split": "dice", "partial": True}, DatasetError, ("masks",)),
    "field for masks": (_unknown_id, {"field": "kind"}, InputError, ("--field",)),
    "output in place": (_unknown_id, {"out": "mine"}, InputError, ("--out",)),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_folders(tmp_path: Path, case: tuple[Any, Any, type[WholesceneError], Any]) -> None:
    make, settings, kind, words = case
    make(tmp_path / "mine")
    out = tmp_path / settings.pop("out", "made") if "out" in settings else None
    with pytest.raises(kind) as error:
        prepared(tmp_path / "mine", out, **settings)
    for word in words:
        assert word in str(error.value)
    assert not (tmp_path / "made" / "dataset.yaml").exists()


def test_partial_and_stray(tmp_path: Path) -> None:
    _missing_mask(tmp_path / "mine")
    write(tmp_path / "mine" / "train" / "masks" / "z.tif", mask())
    dataset, notes = prepared(tmp_path / "mine", partial=True)
    assert [bool(scene.labels) for scene in dataset.scenes] == [True, False]
    assert "1 masks without an image" in notes


REAL = os.environ.get("WHOLESCENE_DATA")
needs_data = pytest.mark.skipif(not REAL, reason="WHOLESCENE_DATA is not set")


@needs_data
def test_kampala_masks_equal_the_polygons(tmp_path: Path) -> None:
    root = Path(REAL or "") / "kampala-buildings" / "TRAIN" / "HOTOSM" / "2"
    source = tmp_path / "mine"
    (source / "chips").mkdir(parents=True)
    for path in sorted((root / "chips").glob("*.tif"))[:40]:
        (source / "chips" / path.name).symlink_to(path)
    polygons, _ = prepared(source, labels=str(root / "chips_labels.geojson"))
    (source / "binarymasks").symlink_to(root / "binarymasks")
    masks, _ = prepared(source, tmp_path / "masks")
    assert len(polygons.scenes) == len(masks.scenes) == 40
    for scene in polygons.scenes:
        assert np.array_equal(label_ids(polygons, scene.id), label_ids(masks, scene.id)), scene.id


@needs_data
def test_real_roads(tmp_path: Path) -> None:
    dataset, _ = prepared(Path(REAL or "") / "eth-roads" / "training", tmp_path / "made")
    assert len(dataset.scenes) == 144
    assert {name: len(ids) for name, ids in by_split(dataset).items()} == {
        "train": 100,
        "val": 22,
        "test": 22,
    }
    statistics = dataset.spec.statistics
    assert statistics is not None and statistics.class_counts is not None
    assert dataset.classes.names == ("background", "foreground")
    assert 0.12 < statistics.class_counts[1] / sum(statistics.class_counts) < 0.25
