"""Objects by size on the way to files and back: counts that add up, columns, the page."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wholescene.errors import InputError
from wholescene.evaluate import (
    SceneScore,
    SizeTable,
    build_report,
    count_sizes,
    parse_sizes,
    read_scores,
    score_map,
    scores_document,
    total_sizes,
    write_scores,
)
from wholescene.evaluate.objects import object_table, score_sizes
from wholescene.labels import ClassTable

WriteRaster = Callable[..., Path]
EDGES = (4, 9)


@pytest.fixture
def pairs(write_raster: WriteRaster) -> list[tuple[Path, Path]]:
    """Two scenes of random specks and blocks, half of them moved in the map."""
    found = []
    for number in range(2):
        rng = np.random.default_rng(number)
        label = np.kron(rng.integers(0, 3, (10, 8)), np.ones((2, 2), int)).astype(np.uint8)
        label[rng.random(label.shape) < 0.1] = 1
        label[:2] = 255
        guess = np.where(rng.random(label.shape) < 0.2, 2, label).astype(np.uint8)
        found.append(
            (write_raster(f"label{number}.tif", label), write_raster(f"map{number}.tif", guess))
        )
    return found


@pytest.fixture
def scored(pairs: list[tuple[Path, Path]], classes: ClassTable) -> list[SceneScore]:
    return [
        replace(score_map(*pair, classes), objects=count_sizes(*pair, classes, EDGES))
        for pair in pairs
    ]


def test_counts_of_scenes_add_up_to_the_scores_of_all_objects(
    pairs: list[tuple[Path, Path]], scored: list[SceneScore], classes: ClassTable
) -> None:
    total = total_sizes(scored)
    assert total is not None
    for name, groups in total.to_json()["per_class"].items():
        one, other = (object_table(*pair, classes, name) for pair in pairs)
        wanted = score_sizes(one + other, EDGES)
        assert sum(bin.objects for bin in wanted) == one.sizes.size + other.sizes.size
        for group, bin in zip(groups, wanted, strict=True):
            assert {key: group[key] for key in vars(bin)} == vars(bin)


def test_counting_by_hand(write_raster: WriteRaster, classes: ClassTable) -> None:
    label, guess = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    label[1, 1:5] = 1  # 4 px, 2 mapped: found
    label[4:6, 2:7] = 1  # 10 px, 3 mapped: not found
    guess[1, 3:5] = guess[4, 2:5] = 1
    guess[2, 7] = guess[3, 7] = 1  # 2 px, false
    table = count_sizes(write_raster("l.tif", label), write_raster("m.tif", guess), classes, EDGES)
    small, middle, large = table.to_json()["per_class"]["water"]
    assert small == {
        "objects": 1,
        "found_objects": 1,
        "pixels": 4,
        "hits": 2,
        "false": 2,
        "smallest": 1,
        "largest": 4,
        "found": 1.0,
        "recall": 0.5,
        "iou": 2 / (4 + 2),
    }
    assert (middle["objects"], middle["iou"]) == (0, None)
    assert (large["largest"], large["found"], large["iou"]) == (None, 0.0, 0.3)
    road = table.to_json()["per_class"]["road"]
    assert [group["recall"] for group in road] == [None] * 3


def test_files_hold_objects_and_give_them_back(scored: list[SceneScore], tmp_path: Path) -> None:
    document = json.loads(write_scores(tmp_path / "out", scored, resamples=10).read_text())
    stored = read_scores(tmp_path / "out")
    for scene, wanted in zip(stored.scenes, scored, strict=True):
        assert scene.objects is not None
        assert wanted.objects is not None
        assert scene.objects.edges == EDGES
        np.testing.assert_array_equal(scene.objects.counts, wanted.objects.counts)
    again = scores_document(stored.scenes, resamples=10)
    assert again["objects"] == document["objects"]
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        water = list(csv.DictReader(file))[1]
    group = document["objects"]["per_class"]["water"][1]
    assert float(water["objects_5-9"]) == group["objects"]
    assert float(water["objects_iou_5-9"]) == group["iou"]
    assert {"objects_found_10+", "objects_recall_1-4"} <= water.keys()


def test_without_sizes_nothing_is_said(scored: list[SceneScore], tmp_path: Path) -> None:
    plain = [replace(scene, objects=None) for scene in scored]
    path = write_scores(tmp_path / "out", plain, resamples=10)
    document = json.loads(path.read_text())
    assert document["objects"] is None
    assert "objects" not in (tmp_path / "out" / "scores.csv").read_text()
    assert "Objects by size" not in build_report(tmp_path / "out").read_text()
    for part in (document, *document["scenes"]):
        del part["objects"]  # as earlier versions wrote it
    path.write_text(json.dumps(document))
    assert read_scores(path).scenes[0].objects is None
    build_report(tmp_path / "out")


def test_the_report_shows_sizes(scored: list[SceneScore], tmp_path: Path) -> None:
    write_scores(tmp_path / "out", scored, resamples=10)
    page = build_report(tmp_path / "out").read_text()
    assert "Objects by size" in page
    assert page.count(">5-9<") == 3


def test_scenes_are_counted_alike(scored: list[SceneScore], classes: ClassTable) -> None:
    other = SizeTable(classes, (5,), np.zeros((3, 5, 2), np.int64))
    with pytest.raises(InputError, match=r"by sizes \[4, 9\] and \[5\]"):
        total_sizes([scored[0], replace(scored[1], objects=other)])
    assert total_sizes([scored[0], replace(scored[1], objects=None)]) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("32,big", "'big' is no whole number of pixels"),
        ("32;96", "'32;96' is no whole number"),
        ("", "'' is no whole number"),
        ("3.5", "'3.5' is no whole number"),
        ("-3", "'-3' is no whole number"),
        ("96,32", "96, 32 do not rise from above 0"),
        ("0,5", "0, 5 do not rise"),
    ],
)
def test_sizes_that_are_none(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_sizes(text)


def test_sizes_in_words() -> None:
    assert parse_sizes(None) is None
    assert parse_sizes("32") == (32,)
    assert parse_sizes(" 32, 96 ") == (32, 96)
