from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from wholescene.errors import InputError, OutputError
from wholescene.evaluate import scores
from wholescene.evaluate.boundary import BoundaryTable
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.files import (
    read_scores,
    scores_document,
    to_json,
    total_boundary,
    total_table,
    write_scores,
)
from wholescene.evaluate.score_map import SceneScore
from wholescene.labels import ClassTable

THREE = ClassTable.from_names(["land", "water", "ship"], ignore_id=255)


def scene(
    name: str,
    counts: list[list[int]],
    *,
    unmapped: tuple[int, int, int] = (0, 0, 0),
    ignored: int = 0,
    erode_px: int = 0,
    with_boundary: bool = False,
) -> SceneScore:
    table = ConfusionTable(
        THREE, np.array(counts), unmapped=np.array(unmapped), ignored_pixels=ignored
    )
    boundary = None
    if with_boundary:
        boundary = BoundaryTable(THREE, 2)
        boundary.hits, boundary.truth, boundary.guess = (
            np.array(part) for part in ([3, 1, 0], [4, 2, 0], [5, 1, 0])
        )
    return SceneScore(scene=name, table=table, boundary=boundary, erode_px=erode_px)


ONE = scene("one", [[8, 1, 0], [1, 9, 0], [0, 0, 0]], unmapped=(2, 0, 0), ignored=5)
OTHER = scene("other", [[4, 0, 0], [2, 6, 0], [0, 0, 0]], ignored=1)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_document_holds_the_sum_of_the_scenes() -> None:
    document = scores_document([ONE, OTHER], resamples=50)
    assert document["confusion"] == [[12, 1, 0], [3, 15, 0], [0, 0, 0]]
    assert document["overall_accuracy"] == 27 / 33
    assert document["miou"] == pytest.approx((12 / 18 + 15 / 19) / 2)
    assert document["per_class"]["land"]["support"] == 15
    assert (document["ignored_pixels"], document["unmapped_pixels"]) == (6, 2)
    assert [entry["id"] for entry in document["scenes"]] == ["one", "other"]
    assert document["scenes"][1]["overall_accuracy"] == 10 / 12
    assert document["conventions"]["absent_as_zero"]["miou"] == pytest.approx(
        (12 / 18 + 15 / 19) / 3
    )


def test_undefined_figures_are_null_not_nan(tmp_path: Path) -> None:
    path = write_scores(tmp_path, [ONE, OTHER], resamples=50)
    text = path.read_text()
    assert "NaN" not in text
    document = json.loads(text)
    assert document["per_class"]["ship"]["iou"] is None
    assert document["interval"]["iou"]["ship"] is None
    ship = rows(tmp_path / "scores.csv")[2]
    assert (ship["class"], ship["iou"], ship["support"]) == ("ship", "", "0")


def test_class_table_has_one_row_per_class(tmp_path: Path) -> None:
    write_scores(tmp_path, [ONE, OTHER], resamples=50)
    land, water, _ = rows(tmp_path / "scores.csv")
    assert (land["id"], land["class"], land["support"], land["unmapped"]) == (
        "0",
        "land",
        "15",
        "2",
    )
    assert float(water["iou"]) == pytest.approx(15 / 19)
    assert float(water["iou_low"]) <= 15 / 19 <= float(water["iou_high"])
    assert "boundary_iou" not in land


def test_scene_table_has_one_row_per_scene(tmp_path: Path) -> None:
    write_scores(tmp_path, [ONE, OTHER], resamples=50)
    one, other = rows(tmp_path / "scenes.csv")
    assert (one["scene"], one["scored_pixels"], one["ignored_pixels"]) == ("one", "21", "5")
    assert float(one["iou_land"]) == pytest.approx(8 / 12)
    assert float(other["overall_accuracy"]) == pytest.approx(10 / 12)
    assert one["iou_ship"] == ""


def test_scores_read_back_as_they_were_written(tmp_path: Path) -> None:
    scenes = [
        scene("a", [[8, 1, 0], [1, 9, 0], [2, 0, 1]], unmapped=(2, 0, 1), with_boundary=True),
        scene("b", [[2**40, 1, 0], [1, 9, 0], [2, 0, 1]], ignored=7, with_boundary=True),
    ]
    stored = read_scores(write_scores(tmp_path, scenes, resamples=50))
    assert list(stored.scenes) == scenes
    assert stored.table == total_table(scenes)
    assert read_scores(tmp_path).document == stored.document


def test_boundary_scores_are_written(tmp_path: Path) -> None:
    scenes = [scene(name, [[1, 0, 0]] * 3, with_boundary=True) for name in "ab"]
    document = json.loads(write_scores(tmp_path, scenes, resamples=10).read_text())
    assert document["boundary"]["boundary_px"] == 2
    assert document["boundary"]["per_class"]["land"]["iou"] == 6 / (8 + 10 - 6)
    assert document["boundary"]["per_class"]["ship"]["iou"] is None
    assert document["boundary"]["mean_iou"] == pytest.approx((6 / 12 + 2 / 4) / 2)
    assert float(rows(tmp_path / "scores.csv")[1]["boundary_iou"]) == 2 / 4


def test_boundary_is_left_out_unless_every_scene_has_it() -> None:
    assert total_boundary([ONE, scene("x", [[1, 0, 0]] * 3, with_boundary=True)]) is None


def test_one_scene_has_no_interval_and_says_why() -> None:
    interval = scores_document([ONE])["interval"]
    assert interval["miou"] is None
    assert "one scene has no spread" in interval["reason"]


def test_named_classes_to_exclude_reach_the_conventions() -> None:
    found = scores_document([ONE], exclude=["water"])["conventions"]
    assert found["without_water"]["miou"] == pytest.approx(scores.iou(ONE.table)[0])


def test_scenes_counted_differently_do_not_mix() -> None:
    with pytest.raises(InputError, match=r"different erode_px \[0, 3\]"):
        total_table([ONE, scene("x", [[1, 0, 0]] * 3, erode_px=3)])
    with pytest.raises(InputError, match="scene one was scored more than once"):
        total_table([ONE, ONE])
    with pytest.raises(InputError, match="no scene was scored"):
        total_table([])


def test_scores_written_anew_replace_the_old_whole(tmp_path: Path) -> None:
    write_scores(tmp_path, [ONE, OTHER], resamples=10)
    write_scores(tmp_path, [OTHER], resamples=10)
    assert len(read_scores(tmp_path).scenes) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scenes.csv",
        "scores.csv",
        "scores.json",
    ]


def test_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_scores(tmp_path / "file", [ONE])


def test_missing_or_damaged_score_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scores\.json does not exist; write it with"):
        read_scores(tmp_path)
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(InputError, match="is no score file"):
        read_scores(tmp_path)
    document = json.loads(write_scores(tmp_path, [ONE]).read_text())
    del document["scenes"][0]["confusion"]
    (tmp_path / "scores.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="lacks 'confusion'"):
        read_scores(tmp_path)
    document["scenes"][0]["confusion"] = [[1]]
    (tmp_path / "scores.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="does not fit the classes"):
        read_scores(tmp_path)


def test_lists_of_numbers_stand_on_one_line() -> None:
    document = {"a": [1, -2.5e-7, None], "b": [{"c": [1]}], "d": ["x", "y"], "e": []}
    text = to_json(document)
    assert '"a": [1, -2.5e-07, null]' in text
    assert json.loads(text) == document


def test_json_is_refused_rather_than_written_with_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": math.nan})
