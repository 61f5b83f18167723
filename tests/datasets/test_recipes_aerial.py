"""iSAID, Vaihingen, Potsdam and DeepGlobe: names, values and splits as published."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from public_fixtures import deepglobe, isaid, potsdam, vaihingen
from public_fixtures.common import class_ids, colored, pixels, read, write

from wholescene.datasets import Dataset, load_dataset, verify
from wholescene.datasets.prepare.run import Prepared, prepare_dataset
from wholescene.datasets.public.recipe import load_recipe, parse_recipe
from wholescene.errors import DatasetError, LabelError
from wholescene.geometry import Size, Window
from wholescene.geometry.tiling import TileRule, count_tiles

FIXTURES = {"isaid": isaid, "vaihingen": vaihingen, "potsdam": potsdam, "deepglobe": deepglobe}
# Width and height of the areas of Vaihingen.
AREAS = {
    **dict.fromkeys((4, 5, 6, 7, 8, 10), (1887, 2557)),
    **dict.fromkeys((14, 15, 16), (1919, 2565)),
    **dict.fromkeys((21, 22, 23, 24), (1903, 2546)),
    **dict.fromkeys((31, 32), (1980, 2555)),
    **{1: (1919, 2569), 2: (2428, 2767), 3: (2006, 3007), 11: (1893, 2566), 12: (1922, 2575)},
    **{13: (2818, 2558), 17: (2336, 1281), 20: (1866, 2315), 26: (2995, 1783), 27: (1917, 3313)},
    **{28: (1917, 2567), 29: (1917, 2563), 30: (1934, 2563), 33: (1581, 2555), 34: (1388, 2555)},
    **{35: (2805, 1884), 37: (1996, 1995), 38: (3816, 2550)},
}


def prepared(name: str, source: Path, **settings: object) -> tuple[Prepared, Dataset]:
    made = prepare_dataset(load_recipe(name), source, source.parent / "out", workers=1, **settings)
    return made, load_dataset(made.path)


def split_table(name: str) -> list[dict[str, str]]:
    file = resources.files("wholescene.datasets.public") / "splits" / f"{name}.csv"
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def label(dataset: Dataset, scene: str, target: str | None = None) -> np.ndarray:
    return read(dataset.scene(scene).labels[dataset.mask_target(target)])[0]


def held_out(scene: str) -> float:
    """Where a scene lies between 0 and 1, by the hash of its id."""
    return int(hashlib.sha256(scene.encode()).hexdigest()[:16], 16) / 2**64


@pytest.mark.parametrize(("name", "module"), FIXTURES.items())
def test_published_files_become_a_clean_dataset(
    tmp_path: Path, name: str, module: ModuleType
) -> None:
    module.make(tmp_path / "source")
    made, dataset = prepared(name, tmp_path / "source")
    assert made.layout == "publisher"
    assert made.splits == module.COUNTS
    assert [f for f in verify(dataset) if f.severity == "error"] == []
    unlabelled = {s.split for s in dataset.scenes if not s.labels}
    assert unlabelled == {*load_recipe(name).unlabelled} & {*dataset.splits}


# Potsdam


def test_splits_of_potsdam() -> None:
    rows = split_table("potsdam")
    counts = {way: dict(Counter(row[way] for row in rows)) for way in rows[0] if way != "scene"}
    assert counts == {
        "official": {"train": 24, "val": 14},
        "strict": {"train": 19, "val": 5, "test": 14},
        "without_7_10": {"train": 23, "": 1, "val": 14},
        "train_18": {"train": 18, "test": 6, "": 14},
    }
    test = {row["scene"] for row in rows if row["official"] == "val"}
    assert test == {row["scene"] for row in rows if row["strict"] == "test"}
    by_row = {"2": "13 14", "3": "13 14", "4": "13 14 15", "5": "13 14 15", "6": "13 14 15"}
    assert test == {f"{r}_{c}" for r, cols in {**by_row, "7": "13"}.items() for c in cols.split()}


def test_both_numbers_of_a_surface_model_are_padded(tmp_path: Path) -> None:
    potsdam.make(tmp_path / "source")
    shutil.rmtree(tmp_path / "source/3_Ortho_IRRG", ignore_errors=True)
    potsdam.add_scene(tmp_path / "source", "7_7", (96, 96), 9)
    assert (tmp_path / "source/1_DSM/dsm_potsdam_07_07.tif").is_file()
    _, dataset = prepared("potsdam", tmp_path / "source", variant="rgbir-dsm")
    assert dataset.scene("7_7").files["dsm"][0].name == "dsm_potsdam_07_07.tif"


def test_labels_for_participants_beside_all_labels(tmp_path: Path) -> None:
    source = tmp_path / "source"
    potsdam.make(source)
    copy = source / "5_Labels_for_participants/5_Labels_for_participants"
    copy.mkdir(parents=True)
    for scene in ("2_10", "3_11"):
        shutil.copy(potsdam.full_mask(source, scene), copy)
    _, dataset = prepared("potsdam", source)
    assert np.array_equal(label(dataset, "2_10", "full"), potsdam.truth((96, 96), 0)[0])


@pytest.mark.parametrize("off", [87, 88])
def test_a_potsdam_label_saved_with_loss(tmp_path: Path, off: int) -> None:
    truth = potsdam.truth((96, 96), 0)[0]
    mask = colored(truth, potsdam.PALETTE)
    noise = np.random.default_rng(0).integers(0, 88, mask.shape)
    noise[:, 0, 0] = off
    lossy = np.where(mask > 0, mask - noise, noise).astype(np.uint8)
    source = tmp_path / "source"
    write(source / "top_potsdam_4_12_RGB.tif", np.ones((3, 96, 96), np.uint8))
    write(source / "top_potsdam_4_12_label.tif", lossy)
    if off > 87:
        with pytest.raises(LabelError, match=r"top_potsdam_4_12_label.tif: colour .* \(1 px\)"):
            prepared("potsdam", source)
    else:
        _, dataset = prepared("potsdam", source)
        assert np.array_equal(label(dataset, "4_12", "full"), truth)


def test_colours_too_near_for_their_tolerance_are_refused() -> None:
    text = (resources.files("wholescene.datasets.public") / "isaid.yaml").read_text()
    with pytest.raises(DatasetError, match=r"\(0, 100, 155\).*28 apart"):
        parse_recipe(text + "\ncolor_tolerance: 14\n", "isaid.yaml")
    parse_recipe(text + "\ncolor_tolerance: 13\n", "isaid.yaml")


# Vaihingen


def test_splits_of_vaihingen() -> None:
    rows = split_table("vaihingen")
    ways = {w: {int(r["scene"]): r[w] for r in rows} for w in rows[0] if w != "scene"}
    train = {area for area, split in ways["official"].items() if split == "train"}
    assert train == {1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37}
    assert {*ways["official"]} == {*range(1, 39)} - {9, 18, 19, 25, 36}
    assert Counter(ways["strict"].values()) == {"train": 12, "val": 4, "test": 17}
    assert all((ways["strict"][a] == "test") == (a not in train) for a in ways["strict"])
    for way in ("held_5_15_21_30", "held_5_7_23_30"):
        test = {area for area, split in ways[way].items() if split == "test"}
        assert test == {*map(int, way.split("_")[1:])}
        assert Counter(ways[way].values()) == {"train": 12, "test": 4, "": 17}


def test_patches_of_vaihingen_are_as_many_as_published() -> None:
    recipe = load_recipe("vaihingen")
    assert recipe.tiling is not None
    rule = TileRule(recipe.tiling.size, recipe.tiling.stride, recipe.tiling.stride_ignored)
    sizes: dict[str, list[Size]] = {"train": [], "val": []}
    for row in split_table("vaihingen"):
        width, height = AREAS[int(row["scene"])]
        sizes[row["official"]].append(Size(height, width))
    assert sum(map(len, sizes.values())) == len(AREAS) == 33
    assert sum(s.height * s.width for each in sizes.values() for s in each) == 168_287_871
    totals = {split: count_tiles(each, rule) for split, each in sizes.items()}
    assert totals == recipe.tiling.totals == {"train": 344, "val": 398}
    as_declared = TileRule(recipe.tiling.size, recipe.tiling.stride)
    assert [count_tiles(each, as_declared) for each in sizes.values()] == [1046, 1208]


def test_complete_labels_are_preferred_to_those_for_participants(tmp_path: Path) -> None:
    source = tmp_path / "source"
    vaihingen.make(source)
    write(vaihingen.participants_mask(source, 1), np.zeros((3, 96, 72), np.uint8))
    _, dataset = prepared("vaihingen", source)
    full, eroded = vaihingen.truth(1, vaihingen.TRAIN[1])
    assert np.array_equal(label(dataset, "1", "full"), full)
    assert np.array_equal(label(dataset, "1", "eroded"), eroded)


def test_labels_for_participants_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    vaihingen.make(source)
    shutil.rmtree(source / vaihingen.FULL)
    _, dataset = prepared("vaihingen", source)
    assert "full" in dataset.scene("5").labels
    assert "full" not in dataset.scene("38").labels


def test_the_label_without_an_image_is_told(tmp_path: Path) -> None:
    vaihingen.make(tmp_path / "source")
    made, _ = prepared("vaihingen", tmp_path / "source")
    assert any("1 masks without an image" in note and "area9" in note for note in made.notes)


def test_bands_of_vaihingen(tmp_path: Path) -> None:
    vaihingen.make(tmp_path / "source")
    _, dataset = prepared("vaihingen", tmp_path / "source", variant="irrg-dsm")
    with dataset.reader(dataset.scene("38")) as reader:
        assert reader.band_names == ("nir", "red", "green", "height")


@pytest.mark.parametrize(
    ("images", "full", "eroded"),
    [
        ("top", ".", "eroded"),  # torchgeo
        ("train_images", "train_masks", "train_masks_eroded"),  # GeoSeg
    ],
)
def test_other_folders_of_vaihingen(tmp_path: Path, images: str, full: str, eroded: str) -> None:
    made = tmp_path / "made"
    vaihingen.make(made)
    shutil.unpack_archive(made / f"{vaihingen.ERODED}.zip", made / vaihingen.ERODED)
    for path, folder in (
        (vaihingen.image(made, 1), images),
        (vaihingen.full_mask(made, 1), full),
        (vaihingen.eroded_mask(made, 1), eroded),
    ):
        (tmp_path / "source" / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "source" / folder)
    _, dataset = prepared("vaihingen", tmp_path / "source")
    truth = vaihingen.truth(1, vaihingen.TRAIN[1])
    assert np.array_equal(label(dataset, "1", "full"), truth[0])
    assert np.array_equal(label(dataset, "1", "eroded"), truth[1])


# iSAID


def test_classes_of_isaid_come_from_the_semantic_masks(tmp_path: Path) -> None:
    isaid.make(tmp_path / "source")
    _, dataset = prepared("isaid", tmp_path / "source")
    for split in ("train", "val"):
        for scene, size in isaid.SCENES[split].items():
            assert np.array_equal(label(dataset, scene), isaid.truth(scene, size))
    assert not [*(tmp_path / "out/unpacked").rglob("*_id_RGB.png")]


def test_a_grey_image_of_isaid_has_three_bands(tmp_path: Path) -> None:
    isaid.make(tmp_path / "source")
    _, dataset = prepared("isaid", tmp_path / "source")
    scene = dataset.scene(isaid.GREY)
    assert read(scene.files["image"][0]).shape[0] == 1
    with dataset.reader(scene) as reader:
        values = reader.read(Window(row_off=3, col_off=5, height=9, width=7)).values
        assert reader.band_names == ("red", "green", "blue")
    assert (values == read(scene.files["image"][0])[:, 3:12, 5:12]).all()


def test_a_scene_that_the_publisher_skips_needs_no_mask(tmp_path: Path) -> None:
    isaid.make(tmp_path / "source")
    made, dataset = prepared("isaid", tmp_path / "source")
    assert isaid.WITHOUT_MASK not in {scene.id for scene in dataset.scenes}
    assert any("P1527" in note and "leaves it out" in note for note in made.notes)
    mask = isaid.semantic(tmp_path / "source/train", isaid.WITHOUT_MASK)
    write(mask, np.zeros((3, 16, 16), np.uint8))
    made, dataset = prepared("isaid", tmp_path / "source")
    assert not label(dataset, isaid.WITHOUT_MASK).any()
    assert not any("P1527" in note for note in made.notes)


def test_strict_isaid_scores_the_official_validation_scenes(tmp_path: Path) -> None:
    isaid.make(tmp_path / "source")
    _, dataset = prepared("isaid", tmp_path / "source", split="strict")
    splits = {split: {s.id for s in dataset.split(split)} for split in dataset.splits}
    assert held_out(isaid.HELD_OUT) < 0.05
    assert splits == {
        "train": {*isaid.SCENES["train"]} - {isaid.HELD_OUT},
        "val": {isaid.HELD_OUT},
        "test": {*isaid.SCENES["val"]},
    }


def test_strict_holds_about_a_twentieth_of_isaid_out() -> None:
    taken = sum(held_out(f"P{number:04d}") < 0.05 for number in range(2807))
    assert 0.03 < taken / 2807 < 0.07


def isaid_patches(root: Path, *, as_colors: bool) -> np.ndarray:
    """Patches as a benchmark tool cuts them: padded with 255, images BMP in spite of the name."""
    ids = class_ids(64, 64, range(16), 3)
    if not as_colors:
        ids[40:] = 255
    for split, parent, window in (
        ("train", "P0000", "0_64_0_64"),
        ("train", "P0000", "0_64_32_96"),
        ("val", "P0003", "0_64_0_64"),
    ):
        image = root / f"img_dir/{split}/{parent}_{window}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        bands = pixels(ids, 3, "uint8", len(window) + int(parent[1:]))
        Image.fromarray(np.moveaxis(bands, 0, -1)).save(image, format="BMP")
        mask = colored(ids, isaid.PALETTE) if as_colors else ids.astype(np.uint8)
        write(root / f"ann_dir/{split}/{parent}_{window}_instance_color_RGB.png", mask)
    return ids


@pytest.mark.parametrize("as_colors", [False, True])
def test_patches_of_isaid(tmp_path: Path, as_colors: bool) -> None:
    ids = isaid_patches(tmp_path / "source", as_colors=as_colors)
    made, dataset = prepared("isaid", tmp_path / "source")
    assert (made.layout, made.splits) == ("mmseg", {"train": 2, "val": 1})
    scene = dataset.scene("P0000_0_64_32_96")
    assert (scene.group, scene.split) == ("P0000", "train")
    assert np.array_equal(label(dataset, scene.id), ids)


def test_patches_of_isaid_beside_masks(tmp_path: Path) -> None:
    ids = class_ids(64, 64, range(16), 5)
    for split, name in (("train", "P0000_0"), ("train", "P0000_1"), ("val", "P0003_0")):
        root = tmp_path / "source/iSAID" / split
        write(root / f"images/{name}.png", pixels(ids, 3, "uint8", int(name[-1])))
        write(root / f"masks/{name}.png", ids.astype(np.uint8))
    made, dataset = prepared("isaid", tmp_path / "source")
    assert (made.layout, made.splits) == ("s5", {"train": 2, "val": 1})
    assert dataset.scene("P0000_1").group == "P0000"


# DeepGlobe


def test_masks_of_deepglobe_are_cut_at_128(tmp_path: Path) -> None:
    deepglobe.make(tmp_path / "source")
    _, dataset = prepared("deepglobe", tmp_path / "source")
    for scene, size in deepglobe.SCENES["train"].items():
        mask = read(tmp_path / f"source/train/{scene}_mask.png")
        assert {*np.unique(mask)} - {0, 255}
        assert np.array_equal(label(dataset, scene), deepglobe.truth(scene, size))


def test_strict_deepglobe_splits_the_scenes_with_labels(tmp_path: Path) -> None:
    deepglobe.make(tmp_path / "source")
    _, dataset = prepared("deepglobe", tmp_path / "source", split="strict")
    splits = {split: {s.id for s in dataset.split(split)} for split in dataset.splits}
    assert splits == deepglobe.STRICT
    parts = {"val": (0, 0.1), "test": (0.1, 0.3), "train": (0.3, 1)}
    for split, scenes in splits.items():
        low, high = parts[split]
        assert all(low <= held_out(scene) < high for scene in scenes)
    assert all(scene.labels for scene in dataset.scenes)


@pytest.mark.parametrize(
    ("layout", "image", "mask", "splits"),
    [
        ("torchgeo", "data/{}_data/images", "data/{}_data/masks", {"training": "train"}),
        ("glnet", "{}/Sat", "{}/Label", {"crossvali": "val", "offical_crossvali": "test"}),
    ],
)
def test_other_layouts_of_deepglobe(
    tmp_path: Path, layout: str, image: str, mask: str, splits: dict[str, str]
) -> None:
    source = tmp_path / "source"
    for number, folder in enumerate((*splits, "test")):
        ids = class_ids(32, 32, range(6), number)
        write(source / image.format(folder) / f"{number}_sat.jpg", pixels(ids, 3, "uint8", number))
        name = source / mask.format(folder) / f"{number}_mask.png"
        write(name, colored(ids, deepglobe.PALETTE))
    made, dataset = prepared("deepglobe", source)
    assert made.layout == layout
    assert {s.id: s.split for s in dataset.scenes} == {
        str(i): split for i, split in enumerate((*splits.values(), "test"))
    }
