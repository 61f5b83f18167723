from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from wholescene.datasets import (
    ClassEntry,
    Dataset,
    DatasetSpec,
    Finding,
    SceneRecord,
    Statistics,
    TargetSpec,
    verify,
)
from wholescene.raster.source import BandSpec, SourceSpec

STATISTICS = Statistics(mean=(1.0, 1.0), std=(1.0, 1.0))
SPEC = DatasetSpec(
    name="toy",
    classes=(ClassEntry(id=1, name="land"), ClassEntry(id=10, name="water")),
    ignore_id=0,
    statistics=STATISTICS,
)


def found(dataset: Dataset, check: str) -> list[Finding]:
    """Findings of one check; nothing else may be found."""
    findings = verify(dataset)
    assert {finding.check for finding in findings} <= {check}
    return findings


def test_a_sound_dataset_has_no_findings(make) -> None:
    pool = SceneRecord(
        id="p",
        split="pool",
        files={"image": (make.raster("p.tif", np.ones((2, 8, 8), np.uint8), col=40),)},
    )
    scenes = [make.scene("a", "train"), make.scene("b", "val", col=8), pool]
    calls: list[tuple[int, int]] = []
    dataset = make.dataset(*scenes, spec=SPEC)
    assert verify(dataset, progress=lambda done, total: calls.append((done, total))) == []
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_missing_files_are_each_named(make) -> None:
    first, second = make.scene("a", "train"), make.scene("b", "train", col=8)
    dataset = make.dataset(first, second, spec=SPEC)
    first.files["image"][0].unlink()
    first.labels["label"].unlink()
    second.labels["label"].unlink()
    missing = found(dataset, "missing-file")
    assert [(f.severity, f.scene) for f in missing] == [("error", "a")] * 2 + [("error", "b")]
    assert all("no file" in finding.what for finding in missing)
    assert "b_label.tif" in missing[2].what


def test_a_file_that_is_no_raster_is_unreadable(make) -> None:
    scene = make.scene("a", "train")
    dataset = make.dataset(scene, spec=SPEC)
    scene.files["image"][0].write_text("none")
    (finding,) = found(dataset, "unreadable-file")
    assert (finding.severity, finding.scene) == ("error", "a")
    assert "a.tif" in finding.what


def test_a_file_cut_short_is_unreadable(make) -> None:
    image = np.random.default_rng(0).integers(1, 255, (2, 300, 300), np.uint8)
    scene = make.scene("a", "train", image=image)
    dataset = make.dataset(scene, spec=SPEC)
    path = scene.files["image"][0]
    os.truncate(path, path.stat().st_size - 1000)
    (finding,) = found(dataset, "unreadable-file")
    assert "rows 299:300" in finding.what
    os.truncate(scene.labels["label"], scene.labels["label"].stat().st_size - 1000)
    assert [f.check for f in verify(dataset)] == ["unreadable-file", "unreadable-file"]


def test_band_counts_must_agree(make) -> None:
    scenes = [make.scene(f"{i}", "train", col=8 * i) for i in range(3)]
    odd = make.scene("odd", "train", image=np.ones((3, 8, 8), np.uint8), col=30)
    (finding,) = found(make.dataset(odd, *scenes, spec=SPEC), "bands")
    assert (finding.severity, finding.scene) == ("error", "odd")
    assert "3 bands" in finding.what
    assert "scene '0' has 2" in finding.what


@pytest.mark.parametrize(
    ("names", "severity"), [(("nir", "red"), "error"), (("red", "swir"), "warning")]
)
def test_band_names_must_agree(make, names: tuple[str, ...], severity: str) -> None:
    image = np.ones((2, 8, 8), np.uint8)
    scenes = [make.scene(f"{i}", "train", image=image, col=8 * i) for i in range(3)]
    for i, scene in enumerate(scenes):
        make.raster(
            scene.files["image"][0].name,
            image,
            col=8 * i,
            band_names=names if i == 2 else ("red", "nir"),
        )
    (finding,) = found(make.dataset(*scenes, spec=SPEC), "bands")
    assert (finding.severity, finding.scene) == (severity, "2")
    assert f"bands {', '.join(names)}, where scene '0' has red, nir" in finding.what
    chosen = SPEC.model_copy(update={"sources": (SourceSpec(bands=_by_position()),)})
    assert verify(make.dataset(*scenes, spec=chosen)) == []


def _by_position() -> tuple[BandSpec, ...]:
    return (BandSpec(name="first", index=1), BandSpec(name="second", index=2))


def test_label_ids_outside_the_table_are_counted_over_all_scenes(make) -> None:
    scenes = []
    for i, odd in enumerate(([], [7, 7, 3], [7])):
        label = np.tile(np.array([1, 10], np.uint8), (8, 4))
        label.flat[: len(odd)] = odd
        scenes.append(make.scene(f"{i}", "train", label=label, col=8 * i))
    first, second = found(make.dataset(*scenes, spec=SPEC), "label-id")
    assert first.severity == second.severity == "error"
    assert "label id 3 is in no class: 1 px in 1 scene(s)" in first.what
    assert "label id 7 is in no class: 3 px in 2 scene(s), such as " in second.what
    assert "1_label.tif; known are [1, 10] and ignore_id 0" in second.what


def test_a_label_of_fractions_is_refused(make) -> None:
    label = np.full((8, 8), 1.5, np.float32)
    (finding,) = found(make.dataset(make.scene("a", "val", label=label), spec=SPEC), "label-id")
    assert "label 1.5 is no whole number" in finding.what


def test_a_label_of_another_size_is_named_with_both_sizes(make) -> None:
    label = np.tile(np.array([1, 10], np.uint8), (8, 3))
    scene = make.scene("a", "train", label=label)
    (finding,) = found(make.dataset(scene, spec=SPEC), "label-grid")
    assert finding.severity == "error"
    assert "image has 8 x 8 px, its label" in finding.what
    assert "has 8 x 6 px" in finding.what


LABEL = np.tile(np.array([1, 10], np.uint8), (8, 4))


def test_a_label_elsewhere_is_named_with_both_transforms(make) -> None:
    dataset = make.dataset(make.scene("a", "train"), spec=SPEC)
    make.raster("a_label.tif", LABEL, col=0.04, row=0.04)
    assert verify(dataset) == []
    make.raster("a_label.tif", LABEL, col=-0.6)
    (finding,) = found(dataset, "label-grid")
    assert "up to 0.6 px apart" in finding.what
    assert "500000.0" in finding.what
    assert "499994.0" in finding.what


def test_a_label_turned_round_is_named(make) -> None:
    dataset = make.dataset(make.scene("a", "train"), spec=SPEC)
    make.raster("a_label.tif", LABEL, transform=Affine(10, 0, 5e5, 0, 10, 1e5 - 80))
    (finding,) = found(dataset, "label-grid")
    assert "up to 8 px apart" in finding.what


def test_a_label_in_another_crs_is_named_with_both(make) -> None:
    dataset = make.dataset(make.scene("a", "train"), spec=SPEC)
    make.raster("a_label.tif", LABEL, crs="EPSG:32637")
    (finding,) = found(dataset, "label-grid")
    assert "image has CRS EPSG:32636, its label" in finding.what
    assert "has EPSG:32637" in finding.what


def test_a_label_without_georeferencing_counts_pixels_alone(make) -> None:
    dataset = make.dataset(make.scene("a", "train"), spec=SPEC)
    make.raster("a_label.tif", LABEL, crs=None)
    assert verify(dataset) == []


def test_common_ground_of_two_splits_is_a_leak(make) -> None:
    scenes = [
        make.scene("a", "train"),
        make.scene("b", "train", col=8),
        make.scene("far", "val", col=40),
        make.scene("near", "val", col=4),
    ]
    (leak,) = found(make.dataset(*scenes, spec=SPEC), "shared-ground")
    assert (leak.severity, leak.scene) == ("error", "near")
    assert "'val' scene 'near' shows the same ground as 2 of split 'train': 'a' (" in leak.what
    assert "'b' (" in leak.what


def test_scenes_of_one_split_may_overlap(make) -> None:
    scenes = [make.scene("a", "train"), make.scene("b", "train", col=4)]
    assert verify(make.dataset(*scenes, spec=SPEC)) == []


def test_neighbours_may_differ_by_rounding(make) -> None:
    train = make.scene("a", "train")
    assert verify(make.dataset(train, make.scene("b", "val", col=7.6), spec=SPEC)) == []
    (leak,) = found(
        make.dataset(train, make.scene("b", "val", col=7.4), spec=SPEC), "shared-ground"
    )
    assert "'a' (1 %)" in leak.what


def test_ground_is_compared_across_pixel_sizes_and_crs(make) -> None:
    coarse = make.scene("a", "train", pixel_m=20)  # 160 m
    fine = make.scene("b", "val", col=10, row=10, pixel_m=5)  # 40 m inside it
    (leak,) = found(make.dataset(coarse, fine, spec=SPEC), "shared-ground")
    assert "'a' (100 %)" in leak.what

    lonlat = Affine(1e-4, 0, 33.0001, 0, -1e-4, 0.9045)  # 8 px of 11 m, inside as well
    image, label = np.ones((2, 8, 8), np.uint8), LABEL
    make.raster("b.tif", image, transform=lonlat, crs="EPSG:4326")
    make.raster("b_label.tif", label, transform=lonlat, crs="EPSG:4326")
    (leak,) = found(make.dataset(coarse, fine, spec=SPEC), "shared-ground")
    assert "'a' (100 %)" in leak.what


def test_one_file_in_two_splits_is_a_leak_even_through_a_link(make) -> None:
    first = make.scene("a", "train", crs=None)
    link = make.root / "other" / "b.tif"
    link.parent.mkdir()
    link.symlink_to(first.files["image"][0])
    second = SceneRecord(id="b", split="val", files={"image": (link,)})
    (leak,) = found(make.dataset(first, second, spec=SPEC), "shared-file")
    assert (leak.severity, leak.scene) == ("error", "b")
    assert "belongs to 'val' scene 'b' and to 'train' scene 'a'" in leak.what


def test_a_second_source_may_be_shared_with_a_warning(make) -> None:
    spec = DatasetSpec(
        name="two",
        classes=SPEC.classes,
        sources=(SourceSpec(), SourceSpec(name="dsm")),
        targets=(TargetSpec(),),
        statistics=Statistics(mean=(1, 1, 1), std=(1, 1, 1)),
    )
    dsm = make.raster("dsm.tif", np.ones((32, 32), np.float32))
    scenes = []
    for i, split in enumerate(("train", "val")):
        image = make.raster(f"{i}.tif", np.full((2, 8, 8), 1 + i, np.uint8), col=16 * i)
        files = {"image": (image,), "dsm": (dsm,)}
        scenes.append(SceneRecord(id=f"{i}", split=split, files=files))
    (finding,) = found(make.dataset(*scenes, spec=spec), "shared-file")
    assert (finding.severity, finding.scene) == ("warning", "1")


def test_copies_without_crs_are_a_leak(make) -> None:
    first = make.scene("a", "train", crs=None)
    copy = make.root / "b.tif"
    shutil.copy(first.files["image"][0], copy)
    same_size = make.scene("c", "val", crs=None)
    second = SceneRecord(id="b", split="val", files={"image": (copy,)})
    (leak,) = found(make.dataset(first, second, same_size, spec=SPEC), "shared-content")
    assert (leak.severity, leak.scene) == ("error", "b")
    assert "same bytes" in leak.what


def test_a_group_in_two_splits_is_a_leak(make) -> None:
    scenes = [
        make.scene("a", "train", group="berlin"),
        make.scene("b", "val", group="berlin", col=20),
        make.scene("c", "val", group="bonn", col=40),
    ]
    (leak,) = found(make.dataset(*scenes, spec=SPEC), "shared-group")
    assert leak.severity == "error"
    assert "group 'berlin' stands in splits 'train' (scene 'a'), 'val' (scene 'b')" in leak.what


def test_a_scene_of_nodata_is_worth_a_warning(make) -> None:
    image = np.zeros((2, 8, 8), np.uint8)
    scene = SceneRecord(
        id="a", split="pool", files={"image": (make.raster("a.tif", image, nodata=0),)}
    )
    (finding,) = found(make.dataset(scene, spec=SPEC), "all-nodata")
    assert (finding.severity, finding.scene) == ("warning", "a")


def test_a_label_of_ignore_alone_is_worth_a_warning(make) -> None:
    empty = make.scene("b", "train", label=np.zeros((8, 8), np.uint8), col=20)
    (finding,) = found(make.dataset(make.scene("a", "train"), empty, spec=SPEC), "label-empty")
    assert (finding.severity, finding.scene) == ("warning", "b")


def test_a_class_that_never_trains_is_worth_a_warning(make) -> None:
    train = make.scene("a", "train", label=np.full((8, 8), 1, np.uint8))
    val = make.scene("b", "val", col=20)
    (finding,) = found(make.dataset(train, val, spec=SPEC), "absent-class")
    assert finding.severity == "warning"
    assert "class 'water' (id 10) stands in no label of split 'train'" in finding.what


def test_statistics_must_be_there_and_fit(make) -> None:
    scene = make.scene("a", "train")
    without = SPEC.model_copy(update={"statistics": None})
    (finding,) = found(make.dataset(scene, spec=without), "statistics")
    assert finding.severity == "warning"
    assert "wholescene data stats" in finding.what
    wrong = SPEC.model_copy(update={"statistics": Statistics(mean=(1.0,), std=(1.0,))})
    (finding,) = found(make.dataset(scene, spec=wrong), "statistics")
    assert finding.severity == "error"
    assert "statistics of 1 bands, the scenes have 2" in finding.what


def test_errors_come_before_warnings(make) -> None:
    first = make.scene("a", "train", label=np.zeros((8, 8), np.uint8))
    second = make.scene("b", "val", col=4)
    severities = [finding.severity for finding in verify(make.dataset(first, second, spec=SPEC))]
    assert severities == ["error", "warning"] or severities == sorted(severities)
    assert severities[0] == "error"
    assert severities[-1] == "warning"


def test_vector_targets_only_need_their_file(make, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no raster")
    spec = SPEC.model_copy(update={"targets": (TargetSpec(name="boxes", kind="boxes"),)})
    image = make.raster("a.tif", np.ones((2, 8, 8), np.uint8))
    scene = SceneRecord(
        id="a", split="train", files={"image": (image,)}, labels={"boxes": tmp_path / "a.txt"}
    )
    assert verify(make.dataset(scene, spec=spec)) == []
    (tmp_path / "a.txt").unlink()
    assert [f.check for f in verify(make.dataset(scene, spec=spec))] == ["missing-file"]
