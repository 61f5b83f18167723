"""Details of GLH-Water, Five-Billion-Pixels, WHU-OHS and the pools Million-AID and DOTA."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from public_fixtures import dota, five_billion_pixels, glh_water, million_aid, whu_ohs
from public_fixtures.common import pixels, read, write

from wholescene.datasets import Dataset, load_dataset, verify
from wholescene.datasets.prepare.match import find_files, match_layout
from wholescene.datasets.prepare.run import Prepared, prepare_dataset
from wholescene.datasets.prepare.splits import assign_splits, split_ways
from wholescene.datasets.public.recipe import load_recipe, parse_recipe, split_table_text
from wholescene.errors import DatasetError, LabelError, RasterError
from wholescene.geometry import Window
from wholescene.raster.read import SceneReader

FIXTURES: dict[str, ModuleType] = {
    "glh-water": glh_water,
    "five-billion-pixels": five_billion_pixels,
    "whu-ohs": whu_ohs,
    "million-aid": million_aid,
    "dota": dota,
}
EVERY_TRAP = [(name, trap) for name, module in FIXTURES.items() for trap in module.TRAPS]
POOLS = ("million-aid", "dota")
FBP_TEST_SCENES = {"PMS1": 13, "PMS2": 17}


def prepared(name: str, source: Path, **settings: object) -> tuple[Prepared, Dataset]:
    made = prepare_dataset(load_recipe(name), source, source.parent / "out", **settings)
    return made, load_dataset(made.path)


def made_of(name: str, tmp_path: Path) -> Path:
    FIXTURES[name].make(tmp_path / "source")
    return tmp_path / "source"


def whole(reader: SceneReader) -> np.ndarray:
    return reader.read(Window.whole(reader.size)).values


def label_of(dataset: Dataset, scene: str) -> np.ndarray:
    return read(dataset.scene(scene).labels["label"])[0]


def splits_of(dataset: Dataset) -> dict[str, str]:
    return {scene.id: scene.split for scene in dataset.scenes}


@pytest.mark.parametrize("name", FIXTURES)
def test_what_the_publisher_ships_is_clean(name: str, tmp_path: Path) -> None:
    made, dataset = prepared(name, made_of(name, tmp_path))
    assert made.layout == "publisher"
    assert made.splits == FIXTURES[name].COUNTS
    assert dataset.spec.scenes == ("scenes.parquet" if name in POOLS else "scenes.csv")
    assert verify(dataset) == []


@pytest.mark.parametrize(("name", "trap"), EVERY_TRAP)
def test_traps_give_their_error(name: str, trap: str, tmp_path: Path) -> None:
    source, planted = made_of(name, tmp_path), FIXTURES[name].TRAPS[trap]
    planted.plant(source)
    if planted.found_by == "prepare":
        with pytest.raises((DatasetError, LabelError, RasterError), match=planted.error):
            prepared(name, source, **(planted.settings or {}))
    else:
        _, dataset = prepared(name, source)
        assert any(planted.error in finding.what for finding in verify(dataset))


# GLH-Water


def test_water_is_1_in_masks_of_one_band_and_of_three(tmp_path: Path) -> None:
    _, dataset = prepared("glh-water", made_of("glh-water", tmp_path))
    assert splits_of(dataset) == glh_water.SPLITS
    for split, name in glh_water.SCENES:
        assert np.array_equal(label_of(dataset, f"{split}_{name}"), glh_water.truth(split, name))


@pytest.mark.parametrize("layout", ["from-zero", "crops", "mmseg"])
def test_copies_of_glh_water(layout: str, tmp_path: Path) -> None:
    image, label = {
        "from-zero": ("water/ori/{}/img/{}.jpg", "water/ori/{}/label/{}.png"),
        "crops": ("1280/{}/image/{}.png", "1280/{}/label/{}.png"),
        "mmseg": ("img_dir/{}/{}.png", "ann_dir/{}/{}.png"),
    }[layout]
    for key in glh_water.SCENES:
        ids = glh_water.truth(*key)
        write(tmp_path / "source" / image.format(*key), pixels(ids, 3, "uint8", 0))
        write(tmp_path / "source" / label.format(*key), ids.astype(np.uint8))
    made, dataset = prepared("glh-water", tmp_path / "source")
    assert (made.layout, splits_of(dataset)) == (layout, glh_water.SPLITS)
    assert np.array_equal(label_of(dataset, "val_12"), glh_water.truth("val", "12"))


# Five-Billion-Pixels


@pytest.mark.parametrize(
    ("variant", "order", "divisor"),
    [("8bit", (3, 2, 1, 0), 8), ("16bit", (0, 1, 2, 3), 1), ("8bit-rgb", (2, 1, 0), 8)],
)
def test_stored_bands_are_read_with_their_names(
    variant: str, order: tuple[int, ...], divisor: int, tmp_path: Path
) -> None:
    _, dataset = prepared(
        "five-billion-pixels", made_of("five-billion-pixels", tmp_path), variant=variant
    )
    scene = dataset.scene(five_billion_pixels.HELD_OUT)
    stored = five_billion_pixels.values(scene.id)[list(order)] // divisor
    with dataset.reader(scene) as reader:
        names = ("blue", "green", "red", "nir")
        assert reader.band_names == tuple(names[i] for i in order)
        assert np.array_equal(whole(reader), stored.astype(np.float32))
    assert np.array_equal(label_of(dataset, scene.id), five_billion_pixels.truth(scene.id))


def test_a_tiff_tagged_cmyk_keeps_its_four_bands_and_its_place(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 40, 50)).astype(np.uint8)
    write(tmp_path / "a.tif", values, place=2000, photometric="CMYK", tiled=True, compress="lzw")
    write(tmp_path / "b.tif", values, place=2000)
    with SceneReader(tmp_path / "a.tif") as tagged, SceneReader(tmp_path / "b.tif") as plain:
        assert np.array_equal(whole(tagged), values.astype(np.float32))
        assert tagged.grid == plain.grid
        assert tagged.valid(Window.whole(tagged.size)).all()


def test_colour_masks_say_the_same_as_index_masks(tmp_path: Path) -> None:
    source = made_of("five-billion-pixels", tmp_path)
    shutil.rmtree(source / "Annotation__index")
    _, dataset = prepared("five-billion-pixels", source)
    for scene in five_billion_pixels.SCENES:
        assert np.array_equal(label_of(dataset, scene), five_billion_pixels.truth(scene))


def test_the_30_published_test_scenes_are_test_and_others_train(tmp_path: Path) -> None:
    rows = [row.split(",") for row in split_table_text("five-billion-pixels.csv").split()][1:]
    assert {split for _, split in rows} == {"test"}
    assert Counter(scene[4:8] for scene, _ in rows) == FBP_TEST_SCENES
    _, dataset = prepared("five-billion-pixels", made_of("five-billion-pixels", tmp_path))
    listed = {scene for scene, _ in rows}
    assert {s for s, split in splits_of(dataset).items() if split == "test"} == (
        listed & set(five_billion_pixels.SCENES)
    )


def test_strict_holds_training_scenes_out_whatever_else_is_there(tmp_path: Path) -> None:
    source = made_of("five-billion-pixels", tmp_path)
    (source / "Image_16bit_BGRNir.zip").unlink()
    made, dataset = prepared("five-billion-pixels", source, split="strict")
    assert made.splits == {"train": 2, "val": 1, "test": 2}
    assert splits_of(dataset)[five_billion_pixels.HELD_OUT] == "val"
    for scene in list(five_billion_pixels.SCENES)[1:3]:
        for path in source.rglob(f"{scene}*"):
            path.unlink()
    made, _ = prepared("five-billion-pixels", source, split="strict")
    assert made.splits == {"val": 1, "test": 2}


@pytest.mark.parametrize("layout", ["3band", "mmseg", "mmseg-from-zero"])
def test_copies_of_five_billion_pixels(layout: str, tmp_path: Path) -> None:
    image, label, tail, bands = {
        "3band": ("ori_3band/{}/img/{}.png", "ori_3band/{}/annotation/{}.png", "", 3),
        "mmseg": ("img_8bit_NirRGB/{}/{}.tif", "ann_dir/{}/{}.png", "_0_512", 4),
        "mmseg-from-zero": ("img_8bit_NirRGB/{}/{}.tif", "ann_dir/{}/{}.png", "_0_512", 4),
    }[layout]
    split_of = dict(
        zip(five_billion_pixels.SCENES, ("train", "train", "val", "test", "test"), strict=True)
    )
    for scene, split in split_of.items():
        ids = five_billion_pixels.truth(scene)
        stored = ids if layout == "mmseg" else np.where(ids == 0, 255, ids - 1)
        name = f"{scene}{tail}"
        write(tmp_path / "source" / image.format(split, name), pixels(ids, bands, "uint8", 0))
        write(tmp_path / "source" / label.format(split, name), stored.astype(np.uint8))
    made, dataset = prepared("five-billion-pixels", tmp_path / "source")
    assert made.layout == layout
    assert splits_of(dataset) == {f"{scene}{tail}": s for scene, s in split_of.items()}
    for scene in five_billion_pixels.SCENES:
        assert np.array_equal(label_of(dataset, f"{scene}{tail}"), five_billion_pixels.truth(scene))


# WHU-OHS


def test_32_bands_are_reflectance_with_wavelengths(tmp_path: Path) -> None:
    _, dataset = prepared("whu-ohs", made_of("whu-ohs", tmp_path))
    with dataset.reader(dataset.scene("ts_S1_0105")) as reader:
        wavelengths = [band.wavelength_nm for band in reader.band_specs]
        assert (len(wavelengths), wavelengths[0], wavelengths[-1]) == (32, 466, 940)
        assert [wavelengths[i] for i in (13, 6, 1)] == [670, 566, 480]
        assert np.allclose(whole(reader), whu_ohs.values("ts", "S1_0105") / 10_000, rtol=1e-6)


def test_patches_of_one_name_in_two_splits_are_two_scenes(tmp_path: Path) -> None:
    _, dataset = prepared("whu-ohs", made_of("whu-ohs", tmp_path))
    assert splits_of(dataset) == {
        f"{split}_{patch}": {"tr": "train", "ts": "test"}.get(split, split)
        for split, patch in whu_ohs.PATCHES
    }
    for split, patch in whu_ohs.PATCHES:
        assert np.array_equal(label_of(dataset, f"{split}_{patch}"), whu_ohs.truth(split, patch))


def test_ways_by_scene_keep_all_patches_of_a_scene_together(tmp_path: Path) -> None:
    source = made_of("whu-ohs", tmp_path)
    ways = split_ways(load_recipe("whu-ohs"), "publisher")
    assert ways == ("official", "transfer", *(f"transfer{i}" for i in range(1, 9)), "cities")
    _, dataset = prepared("whu-ohs", source, split="transfer1")
    expected = {"tr_S1_0105": "train", "ts_S1_0105": "train", "tr_T1_0007": "test"}
    assert splits_of(dataset) == expected
    _, dataset = prepared("whu-ohs", source, split="cities")
    found = splits_of(dataset)
    assert {found["tr_S1_0105"], found["ts_S1_0105"], found["tr_O1_0001"]} == {"train"}
    assert (found["val_O5_0003"], found["ts_O3_0148"]) == ("val", "test")


@pytest.mark.parametrize(
    ("layout", "image", "label", "is_from_zero"),
    [
        ("publisher", "{}/images/{}.tif", "{}/labels/{}.tif", False),
        ("from-zero", "{}/image/{}.tif", "{}/label/{}.tif", True),
        ("by-kind", "myohs/512/image/{}/{}.tif", "myohs/512/label/{}/{}.tif", False),
        ("by-kind-from-zero", "myohs/512/image/{}/{}.tif", "myohs/512/label_0/{}/{}.tif", True),
    ],
)
def test_copies_of_whu_ohs(
    layout: str, image: str, label: str, is_from_zero: bool, tmp_path: Path
) -> None:
    names = {"tr": "train", "val": "val", "ts": "test"}
    for split, patch in whu_ohs.PATCHES:
        ids, place = whu_ohs.truth(split, patch), (names[split], patch)
        stored = np.where(ids == 0, 255, ids - 1) if is_from_zero else ids
        write(tmp_path / "source" / image.format(*place), whu_ohs.values(split, patch))
        write(tmp_path / "source" / label.format(*place), stored.astype(np.uint8))
    made, dataset = prepared("whu-ohs", tmp_path / "source")
    assert (made.layout, made.splits) == (layout, whu_ohs.COUNTS)
    truth = whu_ohs.truth("ts", "O3_0148")
    assert np.array_equal(label_of(dataset, "test_O3_0148"), truth)


def test_both_encodings_side_by_side_give_the_published_one(tmp_path: Path) -> None:
    for split, patch in whu_ohs.PATCHES:
        ids, folder = whu_ohs.truth(split, patch), tmp_path / "source"
        write(folder / f"image/{split}/{patch}.tif", whu_ohs.values(split, patch))
        write(folder / f"label/{split}/{patch}.tif", ids.astype(np.uint8))
        zero = np.where(ids == 0, 255, ids - 1).astype(np.uint8)
        write(folder / f"label_0/{split}/{patch}.tif", zero)
    made, dataset = prepared("whu-ohs", tmp_path / "source")
    assert made.layout == "by-kind"
    assert np.array_equal(label_of(dataset, "tr_O1_0001"), whu_ohs.truth("tr", "O1_0001"))


# Pools


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_has_one_split_and_no_labels(name: str, tmp_path: Path) -> None:
    _, dataset = prepared(name, made_of(name, tmp_path))
    assert dataset.splits == ("train",)
    assert (dataset.spec.classes, dataset.spec.targets) == ((), ())
    assert not any(scene.labels for scene in dataset.scenes)


def test_images_of_million_aid_keep_their_part_in_the_id(tmp_path: Path) -> None:
    _, dataset = prepared("million-aid", made_of("million-aid", tmp_path))
    expected = {f"{name.split('/')[0]}_{Path(name).stem}" for name in million_aid.IMAGES}
    assert set(splits_of(dataset)) == expected


def test_a_flat_million_aid_and_no_images_of_dota(tmp_path: Path) -> None:
    for name in ("P0000001.jpg", "P0001.jpg", "P0000002.jpg"):
        write(tmp_path / "source" / name, np.full((3, 40, 40), 9, np.uint8))
    made, dataset = prepared("million-aid", tmp_path / "source")
    assert (made.layout, set(splits_of(dataset))) == ("merged", {"P0000001", "P0000002"})


def test_images_of_isaid_val_and_test_stay_out_of_the_pool(tmp_path: Path) -> None:
    _, dataset = prepared("dota", made_of("dota", tmp_path))
    assert set(splits_of(dataset)) == set(dota.NEW.values())


@pytest.mark.parametrize(
    ("folder", "taken"),
    [
        ("train/images", {"P0003", "P2806", "P2807"}),
        ("images/train", {"P0003", "P2806", "P2807"}),
        ("train/images/part1/images", {"P0003", "P2806", "P2807"}),
        ("val/images", {"P2807"}),
        ("images/test", {"P2807"}),
        ("test-dev/images/part1/images", {"P2807"}),
        ("trainval/images", {"P2807"}),
        ("train/val/images", {"P2807"}),
        ("images", {"P2807"}),
    ],
)
def test_folders_tell_which_images_of_dota_are_for_training(
    folder: str, taken: set[str], tmp_path: Path
) -> None:
    for name in ("P0003", "P2806", "P2807"):
        write(tmp_path / "source" / folder / f"{name}.png", np.full((3, 40, 40), 9, np.uint8))
    _, dataset = prepared("dota", tmp_path / "source")
    assert set(splits_of(dataset)) == taken


def test_the_real_images_of_dota(tmp_path: Path) -> None:
    folder = os.environ.get("WHOLESCENE_DATA")
    if folder is None or not (Path(folder) / "dota").is_dir():
        pytest.skip("WHOLESCENE_DATA is unset or has no folder dota")
    # The sample does not say of which split it is; the name of its folder would.
    (tmp_path / "source").mkdir()
    (tmp_path / "source/train").symlink_to(Path(folder) / "dota", target_is_directory=True)
    _, dataset = prepared("dota", tmp_path / "source")
    sizes = {}
    for scene in dataset.scenes:
        with dataset.reader(scene) as reader:
            sizes[scene.id] = (reader.size.width, reader.size.height, reader.num_bands)
    assert sizes == {"P0770": (805, 679, 3), "P1088": (800, 952, 3), "P1888": (356, 278, 3)}
    assert verify(dataset) == []


def test_scenes_are_held_out_of_folders_too(tmp_path: Path) -> None:
    recipe = parse_recipe(
        """
name: toy
title: Toy
homepage: https://example.org
licence: none
about: For tests.
size: some
sources: {image: {}}
layouts:
  publisher:
    images: {image: '(?P<split>train|val|test)/(?P<scene>\\w+)\\.png'}
splits:
  held_out: {share: 0.5, others: {val: test, test: ''}}
""",
        "toy.yaml",
    )
    names = {"train": [f"a{i}" for i in range(40)], "val": ["b1", "b2"], "test": ["c1"]}
    for split, scenes in names.items():
        for scene in scenes:
            path = tmp_path / split / f"{scene}.png"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    found = match_layout(recipe, "publisher", find_files([tmp_path]))
    assert split_ways(recipe, "publisher") == ("official", "strict")
    strict = assign_splits(recipe, found, "strict")
    expected = {
        scene: "val" if hashlib.sha256(scene.encode()).digest()[0] < 128 else "train"
        for scene in names["train"]
    }
    assert strict == expected | {"b1": "test", "b2": "test"}
    assert set(expected.values()) == {"train", "val"}


def test_grey_images_stand_for_all_colours(tmp_path: Path) -> None:
    dota.make(tmp_path / "source")
    grey = np.random.default_rng(0).integers(1, 255, (70, 80)).astype(np.uint8)
    write(tmp_path / "source/val/images/part2/P2809.png", grey)
    _, dataset = prepared("dota", tmp_path / "source")
    assert verify(dataset) == []
    with dataset.reader(dataset.scene("P2809")) as reader:
        assert reader.band_names == ("red", "green", "blue")
        values = reader.read(Window.whole(reader.size)).values
    assert np.array_equal(values, np.stack([grey] * 3))
