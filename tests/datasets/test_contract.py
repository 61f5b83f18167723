from __future__ import annotations

import datetime as dt
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wholescene.datasets import (
    ClassEntry,
    DatasetSpec,
    SceneRecord,
    Statistics,
    TargetSpec,
    load_dataset,
    write_dataset,
)
from wholescene.errors import DatasetError
from wholescene.geometry import Window
from wholescene.raster.source import BandSpec, SourceSpec

TWO_CLASSES = (ClassEntry(id=1, name="land"), ClassEntry(id=10, name="water", color=(0, 0, 255)))
FULL_SPEC = DatasetSpec(
    name="full",
    classes=TWO_CLASSES,
    ignore_id=0,
    gsd_m=0.3,
    sources=(
        SourceSpec(
            name="optical",
            bands=(BandSpec(name="red", wavelength_nm=665.0), BandSpec(name="no", index=2)),
            scale=1e-4,
            offset=-0.1,
        ),
        SourceSpec(name="dsm", nodata=-9999.0, resampling="cubic"),
    ),
    targets=(
        TargetSpec(),
        TargetSpec(name="eroded"),
        TargetSpec(name="boxes", kind="boxes"),
        TargetSpec(name="change", classes=(ClassEntry(id=7, name="changed"),), ignore_id=3),
    ),
    statistics=Statistics(mean=(0.5, 1e-7, 3.0), std=(1.0, 2.0, 3.0), class_counts=(5, 0)),
    licence="CC BY 4.0",
    description="Two dates.\nAnd a DSM: 1e-3",
)


def record(folder: Path, name: str, split: str = "train", **more: object) -> SceneRecord:
    files = {"optical": (folder / "red.tif", folder / "nir.tif"), "dsm": (folder / "dsm.tif",)}
    return SceneRecord(id=name, split=split, files=files, **more)  # type: ignore[arg-type]


def test_a_dataset_is_read_back_as_written(tmp_path: Path) -> None:
    images = tmp_path / "elsewhere" / "images"
    scenes = (
        record(
            images,
            "a",
            group="berlin",
            datetime=dt.datetime(2024, 5, 31, 10, 20, tzinfo=dt.UTC),
            gsd_m=0.25,
            labels={"label": images / "a, b.tif", "boxes": images / "a.txt"},
        ),
        record(images, "b", "pool"),
    )
    path = write_dataset(FULL_SPEC, scenes, tmp_path / "out" / "set")
    back = load_dataset(path)
    assert back.spec == FULL_SPEC
    for read, written in zip(back.scenes, scenes, strict=True):
        assert {k: tuple(map(os.path.normpath, v)) for k, v in read.files.items()} == {
            k: tuple(map(str, v)) for k, v in written.files.items()
        }
        assert {k: os.path.normpath(v) for k, v in read.labels.items()} == {
            k: str(v) for k, v in written.labels.items()
        }
        for name in ("id", "split", "group", "datetime", "gsd_m"):
            assert getattr(read, name) == getattr(written, name)


def test_a_dataset_survives_being_moved(tmp_path: Path) -> None:
    scene = SceneRecord(id="a", split="s", files={"image": (tmp_path / "old" / "i" / "a.tif",)})
    write_dataset(DatasetSpec(name="m", classes=TWO_CLASSES), [scene], tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    moved = load_dataset(tmp_path / "new").scenes[0]
    assert moved.files["image"] == (tmp_path / "new" / "i" / "a.tif",)


def test_urls_and_gdal_paths_are_left_alone(tmp_path: Path, scene_table: Callable) -> None:
    folder = scene_table("id,split,image\na,s,https://host/a.tif\nb,s,/vsizip/x.zip/b.tif\n")
    dataset = load_dataset(folder)
    write_dataset(dataset.spec, dataset.scenes, tmp_path / "copy")
    text = (tmp_path / "copy" / "scenes.csv").read_text()
    assert text == "id,split,image\na,s,https://host/a.tif\nb,s,/vsizip/x.zip/b.tif\n"


def test_the_folder_stands_for_its_dataset_yaml(scene_table: Callable) -> None:
    folder = scene_table("id,split,image\na,s,a.tif\n")
    assert load_dataset(folder).scenes == load_dataset(folder / "dataset.yaml").scenes


def test_splits_are_named_in_the_error_and_joined_by_plus(scene_table: Callable) -> None:
    dataset = load_dataset(
        scene_table("id,split,image\na,train,a.tif\nb,val,b.tif\nc,test,c.tif\nd,train,d.tif\n")
    )
    assert [scene.id for scene in dataset.split("train")] == ["a", "d"]
    assert [scene.id for scene in dataset.split("test + train")] == ["a", "c", "d"]
    with pytest.raises(DatasetError, match=r"no split 'dev'; .* knows train, val, test"):
        dataset.split("train+dev")
    with pytest.raises(DatasetError, match="no scene 'z'"):
        dataset.scene("z")


def test_classes_without_a_color_get_different_ones() -> None:
    spec = DatasetSpec(name="c", classes=tuple(ClassEntry(id=i, name=f"{i}") for i in range(20)))
    assert len(set(spec.class_table().colors)) == 20


def test_a_target_may_have_classes_of_its_own() -> None:
    assert FULL_SPEC.class_table("change").ids == (7,)
    assert FULL_SPEC.class_table("change").ignore_id == 3
    assert FULL_SPEC.class_table("eroded").ids == (1, 10)
    assert FULL_SPEC.class_table("eroded").ignore_id == 0


def test_readers_give_physical_values_and_contiguous_classes(make) -> None:
    image = np.arange(1, 33, dtype=np.uint16).reshape(2, 4, 4)
    label = np.array([[0, 1, 10, 1]] * 4, np.uint8)
    spec = DatasetSpec(name="r", classes=TWO_CLASSES, ignore_id=0, sources=(SourceSpec(scale=0.5),))
    dataset = make.dataset(make.scene("a", "train", image=image, label=label), spec=spec)
    dataset = pickle.loads(pickle.dumps(dataset))
    scene = dataset.scenes[0]
    window = Window(row_off=0, col_off=0, height=1, width=4)
    with dataset.reader(scene) as reader, dataset.label_reader(scene) as labels:
        np.testing.assert_array_equal(reader.read(window).values[:, 0], image[:, 0] * 0.5)
        np.testing.assert_array_equal(labels.read(window), [[-1, 0, 1, 0]])


def test_an_unlabelled_scene_says_so(make) -> None:
    scene = SceneRecord(
        id="a", split="pool", files={"image": (make.raster("a.tif", np.ones((4, 4), np.uint8)),)}
    )
    dataset = make.dataset(scene)
    assert not dataset.is_labelled(dataset.scenes[0])
    with pytest.raises(DatasetError, match=r"scene 'a' \(split 'pool'\) is unlabelled"):
        dataset.label_reader(dataset.scenes[0])
    with pytest.raises(DatasetError, match=r"no target 'labels'; label rasters are label;"):
        dataset.label_reader(dataset.scenes[0], "labels")


GOOD = "name: toy\nclasses:\n  - {id: 1, name: land}\n"


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (GOOD + "ignore: 0\n", r"line 4: ignore is no key here; did you mean 'ignore_id'\?"),
        (
            "name: t\nclasses:\n  - id: 1\n    name: a\n    colour: [1, 2, 3]\n",
            r"dataset\.yaml: line 5: classes\[0\]\.colour is no key here; did you mean 'color'\?",
        ),
        ("name: t\nclasses: []\n", r"classes is empty; list them"),
        ("name: t\n", "classes is empty"),
        (GOOD + "ignore_id: 1\n", "ignore_id 1 is also the id of class 'land'"),
        (
            "name: t\nclasses:\n  - {id: 1, name: a}\n  - {id: 1, name: b}\n",
            "class id 1 stands more than once",
        ),
        ("name: t\nclasses:\n  - {id: 70000, name: a}\n", r"class id 70000 .* is outside"),
        (GOOD + "sources: [{name: split}]\n", "'split' would name two columns"),
        (GOOD + "sources: [{name: a}]\ntargets: [{name: a}]\n", "'a' would name two columns"),
        (GOOD + "targets: [{kind: masks}]\n", r"'masks': did you mean 'mask'\?"),
        (GOOD + "gsd_m: 0\n", "line 4: gsd_m = 0: input should be greater than 0"),
        (GOOD + "gsd_m: 1e-3\nlicence: no\nname: u\n", "line 6, column 1: key 'name' stands twice"),
        (
            GOOD + "statistics: {mean: [1, 2], std: [1]}\n",
            "2 means, 1 standard deviations and no band names",
        ),
        (
            GOOD + "statistics: {mean: [1], std: [1], class_counts: [1, 2]}\n",
            "class_counts has 2 entries for 1 classes",
        ),
        (GOOD + "scenes: [", r"dataset\.yaml, line 4, column 10"),
    ],
)
def test_a_wrong_description_is_explained(
    scene_table: Callable, description: str, message: str
) -> None:
    folder = scene_table("id,split,image\na,s,a.tif\n", description)
    with pytest.raises(DatasetError, match=message):
        load_dataset(folder)


def test_a_folder_without_description_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no dataset at .*no file .*dataset\.yaml"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="cannot read"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("nodata", [float("nan"), float("-inf"), -3.4e38])
def test_any_nodata_value_is_read_back_as_written(tmp_path: Path, nodata: float) -> None:
    spec = DatasetSpec(name="n", classes=TWO_CLASSES, sources=(SourceSpec(nodata=nodata),))
    scene = SceneRecord(id="a", split="s", files={"image": (tmp_path / "a.tif",)})
    back = load_dataset(write_dataset(spec, [scene], tmp_path)).spec.sources[0].nodata
    np.testing.assert_equal(back, nodata)
