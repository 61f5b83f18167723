"""Preparation: scenes, splits, masks, statistics, interruption, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from public_fixtures import potsdam
from public_fixtures.common import class_ids, pixels, read, write

from wholescene.datasets import Dataset, compute_statistics, load_dataset, verify
from wholescene.datasets.prepare import scene as scene_module
from wholescene.datasets.prepare.run import Prepared, prepare_dataset
from wholescene.datasets.public.recipe import Recipe, load_recipe, parse_recipe
from wholescene.errors import DatasetError, InputError, LabelError

POTSDAM = load_recipe("potsdam")
TOY = """
name: toy
title: Toy
homepage: https://example.org
licence: none
about: For tests.
size: some
classes: [{id: 3, name: land, color: [0, 99, 0]}, {id: 7, name: water, color: [0, 0, 99]}]
ignore_id: 0
sources: {image: {}}
targets: [label]
layouts:
  a:
    images: {image: '(?P<split>train|val)/(?P<scene>\\w+)\\.tif'}
    labels: {label: '(?P<split>train|val)/masks/(?P<scene>\\w+)\\.png'}
    ids: {0: 3, 1: 7, 9: 0}
  b:
    images: {image: '(?P<split>train|val)/(?P<scene>\\w+)\\.tif'}
    labels: {label: '(?P<split>train|val)/masks/(?P<scene>\\w+)\\.png'}
    ids: {1: 3, 2: 7, 0: 0}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    potsdam.make(tmp_path / "source")
    return tmp_path / "source"


def prepared(recipe: Recipe, source: Path, **settings: object) -> tuple[Prepared, Dataset]:
    made = prepare_dataset(recipe, source, source.parent / "out", **settings)
    return made, load_dataset(made.path)


def toy(root: Path, values: list[int]) -> Path:
    for number, split in enumerate(("train", "train", "val")):
        ids = class_ids(24, 40, values, number)
        write(root / f"{split}/s{number}.tif", pixels(ids, 2, "uint16", number))
        write(root / f"{split}/masks/s{number}.png", ids.astype(np.uint8))
    return root


def test_scenes_splits_and_labels_are_those_of_the_publisher(source: Path) -> None:
    made, dataset = prepared(POTSDAM, source)
    assert made.splits == potsdam.COUNTS
    assert {s.id: s.split for s in dataset.scenes}["2_13"] == "val"
    label = read(dataset.scene("2_10").labels["eroded"])[0]
    truth = class_ids(96, 96, range(6), 0)
    truth[::8], truth[:, ::8] = 255, 255
    assert np.array_equal(label, truth)
    assert [f for f in verify(dataset) if f.severity == "error"] == []


def test_labels_lie_where_their_images_lie(source: Path) -> None:
    path = source / "5_Labels_all/top_potsdam_3_11_label.tif"
    values = read(path)
    write(path, values)  # without a georeference
    _, dataset = prepared(POTSDAM, source)
    scene = dataset.scene("3_11")
    image, label = rasterio.open(scene.files["image"][0]), rasterio.open(scene.labels["full"])
    assert (label.transform, label.crs) == (image.transform, image.crs)


def test_statistics_are_those_of_the_training_split(source: Path) -> None:
    _, dataset = prepared(POTSDAM, source)
    assert dataset.spec.statistics is not None
    again = compute_statistics(dataset, "train")
    assert np.allclose(dataset.spec.statistics.mean, again.mean, rtol=1e-12)
    assert np.allclose(dataset.spec.statistics.std, again.std, rtol=1e-12)
    assert dataset.spec.statistics.class_counts == again.class_counts
    assert dataset.spec.statistics.bands == ("red", "green", "blue")


@pytest.mark.parametrize(
    ("variant", "bands"),
    [
        ("irrg", ("nir", "red", "green")),
        ("rgbir-dsm", ("red", "green", "blue", "nir", "height")),
    ],
)
def test_a_variant_takes_its_rasters(source: Path, variant: str, bands: tuple[str, ...]) -> None:
    _, dataset = prepared(POTSDAM, source, variant=variant)
    with dataset.reader(dataset.scene("7_12")) as reader:
        assert reader.band_names == bands
        assert reader.size == (90, 101)


def test_another_way_to_split(source: Path) -> None:
    made, dataset = prepared(POTSDAM, source, split="strict")
    assert made.splits == {"train": 2, "test": 2, "val": 1}
    assert dataset.spec.split_way == "strict"


def test_files_that_are_missing_as_a_whole_are_told(source: Path) -> None:
    made, _ = prepared(POTSDAM, source)
    assert any("3 of 24 scenes" in note for note in made.notes)


def test_partial_data_is_indexed_when_asked_for(source: Path) -> None:
    potsdam.TRAPS["missing label"].plant(source)
    made, dataset = prepared(POTSDAM, source, partial=True)
    assert set(dataset.scene("2_10").labels) == {"eroded"}
    assert any("indexed as unlabelled" in note for note in made.notes)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"variant": "sar"}, InputError, "no variant 'sar'; it has rgb, irrg"),
        ({"layout": "coco"}, DatasetError, "no layout 'coco'; it has publisher"),
        ({"split": "random"}, DatasetError, "no way to split called 'random'"),
    ],
)
def test_names_that_mean_nothing(
    source: Path, settings: dict[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        prepared(POTSDAM, source, **settings)


def test_a_variant_without_its_files(source: Path) -> None:
    shutil.rmtree(source / "1_DSM")
    with pytest.raises(DatasetError, match="needs the files of dsm; found are those of irrg, rgb"):
        prepared(POTSDAM, source, variant="rgb-dsm")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    write(tmp_path / "source/cat.png", np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(DatasetError, match=r"no image of potsdam among 1 files.*cat\.png"):
        prepared(POTSDAM, tmp_path / "source")
    with pytest.raises(DatasetError, match="is no folder"):
        prepared(POTSDAM, tmp_path / "nowhere")


@pytest.mark.parametrize(("values", "layout"), [([0, 1, 9], "a"), ([0, 1, 2], "b")])
def test_values_tell_layouts_with_equal_names_apart(
    tmp_path: Path, values: list[int], layout: str
) -> None:
    made, dataset = prepared(parse_recipe(TOY, "toy"), toy(tmp_path / "source", values))
    assert made.layout == layout
    assert set(np.unique(read(dataset.scene("s0").labels["label"]))) <= {0, 3, 7}


def test_values_of_no_layout_are_refused_with_their_count(tmp_path: Path) -> None:
    source = toy(tmp_path / "source", [0, 1, 9])
    path = source / "val/masks/s2.png"
    ids = read(path)[0]
    ids[:2, :3] = 42
    write(path, ids)
    with pytest.raises(LabelError, match=r"s2.png: value 42 \(6 px\) stands for no class"):
        prepared(parse_recipe(TOY, "toy"), source)


def test_finished_scenes_are_not_done_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    convert = scene_module.convert_mask

    def counting(mask: Path, *args: object, **settings: object) -> object:
        calls.append(Path(mask).name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return convert(mask, *args, **settings)

    monkeypatch.setattr(scene_module, "convert_mask", counting)
    with pytest.raises(KeyboardInterrupt):
        prepared(POTSDAM, source, workers=1)
    assert not (source.parent / "out/dataset.yaml").exists()
    prepared(POTSDAM, source, workers=1)
    assert len(calls) == 4 + 8  # one scene of two masks was done, the second half
    calls.clear()
    _, first = prepared(POTSDAM, source)
    assert calls == []
    _full = source / "5_Labels_all/top_potsdam_2_10_label.tif"
    write(_full, read(_full))
    _, second = prepared(POTSDAM, source)
    assert len(calls) == 2  # both masks of the scene whose file is new
    assert first.spec == second.spec


def test_the_number_of_workers_changes_nothing(source: Path) -> None:
    specs = []
    for workers in (1, 4):
        made = prepare_dataset(POTSDAM, source, source.parent / f"out{workers}", workers=workers)
        specs.append(made.path.read_text())
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace("(?P<scene>", "("), "has no group 'scene'"),
        (lambda t: t.replace("image: {}", "other: {}"), "which nothing declares"),
        (lambda t: t.replace("targets:", "target:"), "targets"),
        (lambda t: t.replace("\\w+", "\\w+("), "is not a regular expression"),
    ],
)
def test_a_wrong_recipe_is_explained(change: Callable[[str], str], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        parse_recipe(change(TOY), "toy.yaml")


def test_an_unknown_dataset() -> None:
    with pytest.raises(DatasetError, match="no dataset 'mars'; known are folder"):
        load_recipe("mars")
    with pytest.raises(DatasetError, match="no recipe at"):
        load_recipe("mars.yaml")


def test_only_the_masks_known_to_be_off_may_be(source: Path) -> None:
    path = source / "5_Labels_all/top_potsdam_2_10_label.tif"
    colors = read(path).astype(int)
    write(path, np.clip(colors + 5, 0, 255).astype(np.uint8))
    with pytest.raises(LabelError, match=r"top_potsdam_2_10_label\.tif: colour"):
        prepared(POTSDAM, source)
