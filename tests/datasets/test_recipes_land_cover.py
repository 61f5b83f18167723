"""LoveDA, OpenEarthMap and UAVid: what their recipes say, and what comes of their layouts."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio
from public_fixtures import loveda, openearthmap, uavid
from public_fixtures.common import colored, read, write, zip_folder
from rasterio.errors import NotGeoreferencedWarning

from wholescene.datasets import Dataset, load_dataset, verify
from wholescene.datasets.prepare.run import Prepared, prepare_dataset
from wholescene.datasets.public.recipe import load_recipe

FIXTURES = {"loveda": loveda, "openearthmap": openearthmap, "uavid": uavid}

# As published, written down a second time.
CLASSES = {
    "loveda": {
        1: ("background", (255, 255, 255)),
        2: ("building", (255, 0, 0)),
        3: ("road", (255, 255, 0)),
        4: ("water", (0, 0, 255)),
        5: ("barren", (159, 129, 183)),
        6: ("forest", (0, 255, 0)),
        7: ("agriculture", (255, 195, 128)),
    },
    "openearthmap": {
        1: ("bareland", (128, 0, 0)),
        2: ("rangeland", (0, 255, 36)),
        3: ("developed space", (148, 148, 148)),
        4: ("road", (255, 255, 255)),
        5: ("tree", (34, 97, 38)),
        6: ("water", (0, 69, 255)),
        7: ("agriculture land", (75, 181, 73)),
        8: ("building", (222, 31, 7)),
    },
    "uavid": {
        0: ("clutter", (0, 0, 0)),
        1: ("building", (128, 0, 0)),
        2: ("road", (128, 64, 128)),
        3: ("tree", (0, 128, 0)),
        4: ("low vegetation", (128, 128, 0)),
        5: ("moving car", (64, 0, 128)),
        6: ("static car", (192, 0, 192)),
        7: ("human", (64, 64, 0)),
    },
}
IGNORED = {"loveda": 0, "openearthmap": 0, "uavid": None}
COUNTS = {"loveda": 5987, "openearthmap": 5000, "uavid": 420}


def prepared(name: str, source: Path, **settings: object) -> tuple[Prepared, Dataset]:
    made = prepare_dataset(load_recipe(name), source, source.parent / "out", **settings)
    return made, load_dataset(made.path)


@pytest.fixture
def filled(tmp_path: Path) -> Callable[[ModuleType], Path]:
    def fill(module: ModuleType) -> Path:
        module.make(tmp_path / "source")
        return tmp_path / "source"

    return fill


def split_of(dataset: Dataset) -> dict[str, str]:
    return {scene.id: scene.split for scene in dataset.scenes}


@pytest.mark.parametrize("name", FIXTURES)
def test_classes_and_counts_are_as_published(name: str) -> None:
    recipe = load_recipe(name)
    assert {entry.id: (entry.name, entry.color) for entry in recipe.classes} == CLASSES[name]
    assert recipe.ignore_id == IGNORED[name]
    assert sum(recipe.counts.values()) == COUNTS[name]
    assert set(recipe.unlabelled) == {"test"}


@pytest.mark.parametrize("name", FIXTURES)
def test_what_was_downloaded_becomes_a_clean_dataset(
    filled: Callable[[ModuleType], Path], name: str
) -> None:
    made, dataset = prepared(name, filled(FIXTURES[name]))
    assert (made.layout, made.splits) == ("publisher", FIXTURES[name].COUNTS)
    assert [finding for finding in verify(dataset) if finding.severity == "error"] == []
    assert not any(scene.labels for scene in dataset.split("test"))
    assert all(scene.labels for scene in dataset.split("train+val"))


def test_loveda_no_data_is_not_background(filled: Callable[[ModuleType], Path]) -> None:
    _, dataset = prepared("loveda", filled(loveda))
    truth = np.stack([loveda.truth(number) for number in (0, 9, 1366, 1367)])
    assert np.array_equal(read(dataset.scene("1366").labels["label"])[0], truth[2])
    statistics = dataset.spec.statistics
    assert statistics is not None
    assert statistics.ignored_pixels == (truth == 0).sum() > 0
    assert statistics.class_counts == tuple((truth == i).sum() for i in range(1, 8))


def test_loveda_archives_as_published(filled: Callable[[ModuleType], Path]) -> None:
    source = filled(loveda)
    for name in ("Train", "Val"):
        (source / "pack").mkdir()
        (source / name).rename(source / "pack" / name)
        zip_folder(source / "pack", source / f"{name}.zip")
    made = prepare_dataset(load_recipe("loveda"), source, source.parent / "out")
    assert made.splits == loveda.COUNTS
    assert sum("packed again" in note for note in made.notes) == 2


@pytest.mark.parametrize("inner", ["", "train/"])
def test_loveda_with_img_dir_and_ann_dir(tmp_path: Path, inner: str) -> None:
    source = tmp_path / "loveDA"
    for number in (0, 1):
        truth = loveda.truth(number)
        write(source / f"img_dir/{inner}{number}.png", np.stack([truth + 1] * 3).astype(np.uint8))
        write(source / f"ann_dir/{inner}{number}.png", truth.astype(np.uint8))
    made, dataset = prepared("loveda", source)
    assert (made.layout, made.splits) == ("mmseg", {"train": 2})
    assert np.array_equal(read(dataset.scene("1").labels["label"])[0], loveda.truth(1))


def test_loveda_masks_of_another_tool_get_the_publishers_ids(
    filled: Callable[[ModuleType], Path],
) -> None:
    source = filled(loveda)
    for path in [*source.rglob("masks_png/*.png")]:
        ids = read(path)[0].astype(np.int64)
        out = path.parent.with_name("masks_png_convert") / path.name
        write(out, np.where(ids == 0, 7, ids - 1).astype(np.uint8))
        path.unlink()
    made, dataset = prepared("loveda", source)
    assert made.layout == "geoseg"
    assert np.array_equal(read(dataset.scene("3514").labels["label"])[0], loveda.truth(3514))


def test_loveda_takes_the_publishers_masks_where_both_are(
    filled: Callable[[ModuleType], Path],
) -> None:
    source = filled(loveda)
    for path in [*source.rglob("masks_png/*.png")]:
        write(path.parent.with_name("masks_png_convert") / path.name, read(path) * 0 + 2)
    made, dataset = prepared("loveda", source)
    assert made.layout == "publisher"
    assert np.array_equal(read(dataset.scene("3514").labels["label"])[0], loveda.truth(3514))


def test_loveda_goes_to_the_server_as_ids_from_zero() -> None:
    recipe = load_recipe("loveda")
    (form,) = recipe.submission
    assert form.coding == "ids"
    assert [entry.id + form.offset for entry in recipe.classes] == [*range(7)]
    assert form.name.format(scene="4191", split="Test", area="Rural", id="4191") == "4191.png"


def test_openearthmap_keeps_sizes_and_places(filled: Callable[[ModuleType], Path]) -> None:
    made, dataset = prepared("openearthmap", filled(openearthmap))
    assert split_of(dataset) == {
        scene: split for split, scenes in openearthmap.SPLITS.items() for scene in scenes
    }
    for scene in ("aachen_16", "saint_louis_du_sud_7", "kujawsko-pomorskie_3"):
        paths = dataset.scene(scene).files["image"][0], dataset.scene(scene).labels["label"]
        with rasterio.open(paths[0]) as image, rasterio.open(paths[1]) as mask:
            assert (mask.crs, mask.transform) == (image.crs, image.transform)
            assert np.array_equal(mask.read(1), openearthmap.truth(scene))
    assert any("2 masks without an image" in note for note in made.notes)


def test_openearthmap_takes_images_of_xbd_once_they_are_there(
    filled: Callable[[ModuleType], Path],
) -> None:
    source = filled(openearthmap)
    folder = source / openearthmap.FOLDER / "tulsa/images"
    for number in (1, 2, 3):
        write(folder / f"tulsa_{number}.tif", np.full((3, 96, 96), 9 * number, np.uint8))
    made, dataset = prepared("openearthmap", source)
    assert made.splits == {"train": 5, "val": 3, "test": 3}
    assert np.array_equal(
        read(dataset.scene("tulsa_1").labels["label"])[0], openearthmap.truth("tulsa_1")
    )
    assert not any("without an image" in note for note in made.notes)


def test_openearthmap_archive(filled: Callable[[ModuleType], Path]) -> None:
    source = filled(openearthmap)
    zip_folder(source / "OpenEarthMap", source / "OpenEarthMap_wo_xBD.zip")
    made, _ = prepared("openearthmap", source)
    assert made.splits == openearthmap.COUNTS


@pytest.mark.parametrize(("images", "labels"), [("img_dir", "ann_dir"), ("images", "label")])
def test_openearthmap_in_folders_of_splits(
    filled: Callable[[ModuleType], Path], images: str, labels: str
) -> None:
    source, other = filled(openearthmap), filled(openearthmap).parent / "other"
    for split, scenes in openearthmap.SPLITS.items():
        for scene in scenes:
            for old, new in (("images", images), ("labels", labels)):
                path = source / openearthmap.FOLDER / scene.rpartition("_")[0] / old
                if (path / f"{scene}.tif").exists():
                    (other / new / split).mkdir(parents=True, exist_ok=True)
                    shutil.move(path / f"{scene}.tif", other / new / split)
    made, dataset = prepared("openearthmap", other)
    assert (made.layout, made.splits) == ("mmseg", openearthmap.COUNTS)
    assert split_of(dataset)["saint_louis_du_sud_7"] == "val"


def test_uavid_colors_become_ids_and_black_is_a_class(
    filled: Callable[[ModuleType], Path],
) -> None:
    _, dataset = prepared("uavid", filled(uavid))
    found = read(dataset.scene("seq31_000100").labels["label"])[0]
    assert np.array_equal(found, uavid.truth(31, "000100"))
    assert dataset.scene("seq31_000100").group == "seq31"
    statistics = dataset.spec.statistics
    assert statistics is not None
    assert statistics.ignored_pixels == 0
    assert statistics.class_counts is not None
    assert statistics.class_counts[0] > 0


def test_uavid_archive(filled: Callable[[ModuleType], Path]) -> None:
    source = filled(uavid)
    (source / "pack").mkdir()
    (source / uavid.FOLDER).rename(source / "pack" / uavid.FOLDER)
    zip_folder(source / "pack", source / f"{uavid.FOLDER}.zip")
    made, dataset = prepared("uavid", source)
    assert made.splits == uavid.COUNTS
    found = read(dataset.scene("seq16_000000").labels["label"])[0]
    assert np.array_equal(found, uavid.truth(16, "000000"))


def test_uavid_under_the_folder_names_of_mirrors(filled: Callable[[ModuleType], Path]) -> None:
    source = filled(uavid)
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        target = source / name / name
        target.parent.mkdir()
        (source / uavid.FOLDER / f"uavid_{split}").rename(target)
    (source / "valid/valid/seq16").rename(source / "valid/valid/Seq16")
    made, dataset = prepared("uavid", source)
    assert made.splits == uavid.COUNTS
    assert split_of(dataset)["seq16_000100"] == "val"


def test_uavid_ids_of_the_publishers_toolkit(filled: Callable[[ModuleType], Path]) -> None:
    source = filled(uavid)
    # clutter, building, road, static car, tree, vegetation, human, moving car
    order = np.array([0, 1, 2, 4, 5, 7, 3, 6])
    for split in ("train", "val"):
        for sequence in uavid.SEQUENCES[split]:
            folder = source / uavid.FOLDER / f"uavid_{split}/seq{sequence}"
            for frame in uavid.FRAMES:
                ids = order[uavid.truth(sequence, frame)].astype(np.uint8)
                write(folder / f"TrainId/{frame}.png", ids)
            shutil.rmtree(folder / "Labels")
    made, dataset = prepared("uavid", source)
    assert made.layout == "trainid"
    found = read(dataset.scene("seq4_000100").labels["label"])[0]
    assert np.array_equal(found, uavid.truth(4, "000100"))


@pytest.mark.parametrize("size", ["ori", "2048", "512"])
def test_uavid_as_rest_lays_it_out(tmp_path: Path, size: str) -> None:
    source = tmp_path / "uavid"
    for split, sequence in (("trainval", 1), ("trainval", 16), ("test", 21)):
        for frame in uavid.FRAMES:
            ids, name = uavid.truth(sequence, frame), f"seq{sequence}_{frame}.png"
            image = colored(ids, uavid.PALETTE) + sequence + int(frame) // 100
            write(source / size / split / "img" / name, image.astype(np.uint8))
            write(source / size / split / "mask" / name, ids.astype(np.uint8))
    made, dataset = prepared("uavid", source)
    assert made.layout == ("rest" if size == "ori" else f"rest-{size}")
    assert made.splits == {"train": 4, "test": 2}
    assert dataset.scene("seq16_000100").group == "seq16"
    found = read(dataset.scene("seq16_000100").labels["label"])[0]
    assert np.array_equal(found, uavid.truth(16, "000100"))


@pytest.mark.parametrize(("name", "held_out"), [("loveda", {"9"}), ("openearthmap", {"aachen_16"})])
def test_strict_holds_training_scenes_out_and_scores_the_official_val(
    filled: Callable[[ModuleType], Path], name: str, held_out: set[str]
) -> None:
    source = filled(FIXTURES[name])
    official = split_of(prepared(name, source)[1])
    expected = {
        scene: "test" if split == "val" else "val" if scene in held_out else "train"
        for scene, split in official.items()
        if split != "test"
    }
    hashes = {s: int(sha256(s.encode()).hexdigest()[:16], 16) / 2**64 for s in official}
    assert held_out == {s for s, split in official.items() if split == "train" and hashes[s] < 0.1}
    assert split_of(prepared(name, source, split="strict")[1]) == expected


@pytest.mark.parametrize(
    ("way", "splits"),
    [
        ("strict", {"train": 4, "val": 2, "test": 4}),
        ("v1", {"train": 4, "val": 2, "test": 2}),
        ("trainval", {"train": 10, "test": 4}),
    ],
)
def test_uavid_ways_to_split(
    filled: Callable[[ModuleType], Path], way: str, splits: dict[str, int]
) -> None:
    made, dataset = prepared("uavid", filled(uavid), split=way)
    assert made.splits == splits
    sequences = {scene.group: scene.split for scene in dataset.scenes}
    assert all(scene.split == sequences[scene.group] for scene in dataset.scenes)


def test_uavid_goes_to_the_server_as_colors_in_folders_of_sequences() -> None:
    (form,) = load_recipe("uavid").submission
    assert form.coding == "colors"
    assert form.name.format(seq="21", frame="000100", id="") == "seq21/Labels/000100.png"


@pytest.mark.skipif("WHOLESCENE_DATA" not in os.environ, reason="WHOLESCENE_DATA is unset")
def test_the_real_sample_of_loveda(tmp_path: Path) -> None:
    source = Path(os.environ["WHOLESCENE_DATA"]) / "published-layouts/pseudo_loveda_dataset"
    if not source.is_dir():
        pytest.skip(f"no folder {source}")
    made = prepare_dataset(load_recipe("loveda"), source, tmp_path / "out")
    dataset = load_dataset(made.path)
    assert (made.layout, made.splits) == ("mmseg", {"train": 3})
    expected: Counter[int] = Counter()
    for path in sorted((source / "ann_dir").glob("*.png")):
        with pytest.warns(NotGeoreferencedWarning), rasterio.open(path) as file:
            values = file.read(1)
        assert np.array_equal(read(dataset.scene(path.stem).labels["label"])[0], values)
        expected.update(dict(zip(*np.unique(values, return_counts=True), strict=True)))
    statistics = dataset.spec.statistics
    assert statistics is not None
    assert statistics.class_counts == tuple(expected[i] for i in range(1, 8))
    assert statistics.ignored_pixels == expected[0]
    assert sum(expected.values()) == 3 * 1024 * 1024
