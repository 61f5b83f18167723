from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from wholescene.errors import InputError
from wholescene.evaluate import scores
from wholescene.evaluate.bootstrap import bootstrap_interval
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.labels import ClassTable

TWO = ClassTable.from_names(["land", "water"])


def scene(*counts: int, unmapped: int = 0) -> ConfusionTable:
    return ConfusionTable(TWO, np.array(counts).reshape(2, 2), unmapped=np.array([unmapped, 0]))


def test_one_scene_has_no_interval_and_says_why() -> None:
    interval = bootstrap_interval([scene(5, 1, 2, 8)])
    assert interval.overall_accuracy is interval.miou is interval.iou["land"] is None
    assert "one scene has no spread" in interval.reason


def test_alike_scenes_have_an_interval_of_no_width() -> None:
    table = scene(5, 1, 2, 8, unmapped=2)
    interval = bootstrap_interval([table] * 4, resamples=50)
    assert interval.overall_accuracy == pytest.approx([scores.overall_accuracy(table)] * 2)
    assert interval.miou == pytest.approx([scores.miou(table)] * 2)
    assert interval.iou["water"] == pytest.approx([scores.iou(table)[1]] * 2)
    assert interval.reason == ""


def test_bounds_are_percentiles_over_every_possible_draw() -> None:
    scenes = [scene(9, 1, 0, 10), scene(4, 6, 5, 5), scene(30, 2, 1, 3, unmapped=7)]
    drawn = [sum(draw[1:], draw[0]) for draw in itertools.product(scenes, repeat=3)]
    interval = bootstrap_interval(scenes, resamples=40_000, level=0.8, seed=3)
    for found, score in (
        (interval.overall_accuracy, scores.overall_accuracy),
        (interval.miou, scores.miou),
        (interval.iou["water"], lambda table: scores.iou(table)[1]),
    ):
        # 27 equally likely draws: the bounds are draws themselves, hit by so many resamples.
        expected = np.quantile([score(table) for table in drawn], [0.1, 0.9], method="inverted_cdf")
        assert found == pytest.approx(expected, abs=1e-12)


def test_seed_fixes_the_interval() -> None:
    scenes = [scene(9, 1, 0, 10), scene(4, 6, 5, 5), scene(3, 0, 1, 3)]
    again = [bootstrap_interval(scenes, resamples=10, seed=seed) for seed in (1, 1, 2)]
    assert again[0] == again[1]
    assert again[0].miou != again[2].miou


def test_class_absent_from_some_draws_is_skipped_there() -> None:
    # Water occurs in one scene only; draws without it say nothing about its IoU.
    interval = bootstrap_interval([scene(5, 0, 0, 0), scene(5, 0, 1, 3)], resamples=500)
    assert interval.iou["water"] == (0.75, 0.75)
    assert interval.miou is not None
    assert not any(map(math.isnan, interval.miou))
    assert interval.miou[1] == 1


def test_class_absent_everywhere_has_no_interval() -> None:
    interval = bootstrap_interval([scene(5, 0, 0, 0), scene(4, 0, 0, 0)], resamples=20)
    assert interval.iou["water"] is None
    assert interval.iou["land"] == (1, 1)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(InputError, match="no scene to resample"):
        bootstrap_interval([])
    with pytest.raises(InputError, match=r"level 95 is not between 0 and 1"):
        bootstrap_interval([scene(1, 0, 0, 1)] * 2, level=95)
    with pytest.raises(InputError, match="resamples 0"):
        bootstrap_interval([scene(1, 0, 0, 1)] * 2, resamples=0)
    other = ConfusionTable(ClassTable.from_names(["land", "sea"]))
    with pytest.raises(InputError, match="different classes"):
        bootstrap_interval([scene(1, 0, 0, 1), other])
