from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
)

from wholescene.errors import InputError, LabelError
from wholescene.evaluate import scores
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.scores import CONVENTIONS, catch_all_classes, conventions
from wholescene.labels import ClassTable

NAN = math.nan


def table_of(
    counts: list[list[int]], *, names: str = "abcdefgh", unmapped: list[int] | None = None
) -> ConfusionTable:
    classes = ClassTable.from_names(list(names[: len(counts)]))
    empty = None if unmapped is None else np.array(unmapped)
    return ConfusionTable(classes, np.array(counts), unmapped=empty)


def named(counts: list[list[int]], *names: str) -> ConfusionTable:
    return ConfusionTable(ClassTable.from_names(names), np.array(counts))


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 500)
    guess = np.where(rng.random(500) < 0.6, truth, rng.integers(0, 4, 500))
    table = ConfusionTable(ClassTable.from_names("abcd"))
    table.add(truth, guess)
    by_class = {"labels": range(4), "average": None}
    pairs = [
        (scores.overall_accuracy(table), accuracy_score(truth, guess)),
        (scores.kappa(table), cohen_kappa_score(truth, guess)),
        (scores.iou(table), jaccard_score(truth, guess, **by_class)),
        (scores.f1(table), f1_score(truth, guess, **by_class)),
        (scores.precision(table), precision_score(truth, guess, **by_class)),
        (scores.recall(table), recall_score(truth, guess, **by_class)),
        (scores.miou(table), jaccard_score(truth, guess, average="macro")),
        (scores.mf1(table), f1_score(truth, guess, average="macro")),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_unmapped_pixels_score_as_wrong_by_hand() -> None:
    # Class a: 3 right, 1 unmapped. Class b: 2 right, 2 mapped as a.
    table = table_of([[3, 0], [2, 2]], unmapped=[1, 0])
    assert scores.overall_accuracy(table) == 5 / 8
    np.testing.assert_allclose(scores.recall(table), [3 / 4, 2 / 4])
    np.testing.assert_allclose(scores.precision(table), [3 / 5, 2 / 2])
    np.testing.assert_allclose(scores.iou(table), [3 / 6, 2 / 4])
    np.testing.assert_allclose(scores.f1(table), [6 / 9, 4 / 6])
    # Agreement 5/8; by chance (4 * 5 + 4 * 2) / 64.
    assert scores.kappa(table) == pytest.approx((5 / 8 - 28 / 64) / (1 - 28 / 64))


def test_unmapped_pixels_score_as_an_extra_category_does_in_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth, guess = rng.integers(0, 3, 400), rng.integers(-1, 3, 400)
    table = ConfusionTable(ClassTable.from_names("abc"))
    table.add(truth, guess)
    assert scores.kappa(table) == pytest.approx(cohen_kappa_score(truth, guess))
    expected = jaccard_score(truth, guess, labels=[0, 1, 2], average=None)
    np.testing.assert_allclose(scores.iou(table), expected)


def test_class_in_neither_truth_nor_map_is_undefined_and_skipped() -> None:
    table = table_of([[1, 1, 0], [0, 2, 0], [0, 0, 0]])
    np.testing.assert_allclose(scores.iou(table), [1 / 2, 2 / 3, NAN])
    np.testing.assert_allclose(scores.f1(table), [2 / 3, 4 / 5, NAN])
    assert scores.miou(table) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert math.isnan(scores.miou(table, absent="undefined"))
    assert scores.miou(table, absent="zero") == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert scores.miou(table, absent="one") == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)


def test_class_only_mapped_or_only_true_scores_zero_not_undefined() -> None:
    only_mapped = table_of([[1, 1], [0, 0]])
    assert scores.iou(only_mapped)[1] == 0
    assert math.isnan(scores.recall(only_mapped)[1])
    only_true = table_of([[1, 0], [1, 0]])
    assert scores.iou(only_true)[1] == 0
    assert math.isnan(scores.precision(only_true)[1])


def test_scores_of_nothing_are_undefined() -> None:
    nothing = table_of([[0, 0], [0, 0]])
    assert all(math.isnan(value) for value in scores.summary(nothing).values())


def test_kappa_is_undefined_for_one_class_and_exact_for_huge_scenes() -> None:
    assert math.isnan(scores.kappa(table_of([[7, 0], [0, 0]])))
    small = table_of([[3, 1], [2, 4]])
    huge = table_of([[3 * 10**15, 10**15], [2 * 10**15, 4 * 10**15]])
    assert scores.kappa(huge) == pytest.approx(scores.kappa(small), rel=1e-12)


@given(arrays(np.int64, (3, 3), elements=st.integers(0, 50)), st.permutations([0, 1, 2]))
def test_order_of_classes_does_not_matter(counts: np.ndarray, order: list[int]) -> None:
    table = ConfusionTable(ClassTable.from_names("abc"), counts)
    turned = ConfusionTable(ClassTable.from_names("abc"), counts[np.ix_(order, order)])
    np.testing.assert_allclose(scores.iou(turned), scores.iou(table)[order])
    for ours, theirs in zip(
        scores.summary(turned).values(), scores.summary(table).values(), strict=True
    ):
        assert ours == pytest.approx(theirs, nan_ok=True)


def test_excluded_class_leaves_the_mean_but_not_the_errors_of_others() -> None:
    table = named([[6, 0, 2], [0, 4, 0], [1, 1, 2]], "building", "tree", "clutter")
    ious = [6 / 9, 4 / 5, 2 / 6]
    assert scores.miou(table) == pytest.approx(sum(ious) / 3)
    assert scores.miou(table, exclude=["clutter"]) == pytest.approx(sum(ious[:2]) / 2)


def test_unknown_class_to_exclude_is_refused() -> None:
    with pytest.raises(LabelError, match="no class is called 'sea'"):
        scores.miou(table_of([[1]]), exclude=["sea"])


def test_unknown_absent_rule_is_refused() -> None:
    with pytest.raises(InputError, match="absent='two'"):
        scores.miou(table_of([[1]]), absent="two")  # type: ignore[arg-type]


def test_published_conventions_by_hand() -> None:
    # Columns: building, tree, clutter, car (absent from truth and map).
    table = named(
        [[6, 0, 2, 0], [0, 4, 0, 0], [1, 1, 2, 0], [0, 0, 0, 0]],
        "building",
        "tree",
        "clutter",
        "car",
    )
    found = conventions(table)
    assert set(found) == {
        "present_classes",
        "absent_as_zero",
        "absent_as_one",
        "without_clutter",
        "ignored_clutter",
    }
    ious, f1s = [6 / 9, 4 / 5, 2 / 6], [12 / 15, 8 / 9, 4 / 8]
    assert found["present_classes"]["miou"] == pytest.approx(sum(ious) / 3)
    assert found["absent_as_zero"]["miou"] == pytest.approx(sum(ious) / 4)
    assert found["absent_as_one"]["miou"] == pytest.approx((sum(ious) + 1) / 4)
    assert found["absent_as_one"]["mf1"] == pytest.approx(sum(f1s) / 4)
    assert found["without_clutter"]["miou"] == pytest.approx(sum(ious[:2]) / 2)
    assert found["without_clutter"]["overall_accuracy"] == 12 / 16
    # Truth clutter ignored: building 6 right, 2 lost to clutter; tree 4 right.
    assert found["ignored_clutter"]["overall_accuracy"] == 10 / 12
    assert found["ignored_clutter"]["miou"] == pytest.approx((6 / 8 + 4 / 4) / 2)


def test_mean_over_all_classes_is_given_where_every_class_occurs() -> None:
    table = named([[3, 1], [1, 5]], "background", "ship")
    found = conventions(table)
    assert found["all_classes"] == found["present_classes"]
    assert found["foreground_only"]["miou"] == pytest.approx(5 / 7)
    assert found["foreground_only"] == found["without_background"]


def test_classes_to_exclude_are_reported_alone_and_together() -> None:
    table = named([[3, 1, 0], [1, 5, 0], [0, 1, 1]], "road", "tree", "car")
    found = conventions(table, exclude=["car", "tree"])
    assert found["without_car"]["miou"] == pytest.approx((3 / 5 + 5 / 8) / 2)
    assert found["without_tree"]["miou"] == pytest.approx((3 / 5 + 1 / 2) / 2)
    assert found["without_car+tree"]["miou"] == pytest.approx(3 / 5)
    assert found["ignored_car+tree"]["overall_accuracy"] == 3 / 4


def test_every_convention_has_a_documented_meaning() -> None:
    table = named([[3, 1, 0], [1, 5, 0], [0, 1, 1]], "background", "tree", "clutter")
    for name in conventions(table, exclude=["tree", "clutter"]):
        assert name in CONVENTIONS or f"{name.split('_')[0]}_*" in CONVENTIONS


def test_only_whole_words_make_a_catch_all_class() -> None:
    names = ["Clutter/background", "no_clutter_here", "motherland", "other", "water"]
    assert catch_all_classes(names) == ("Clutter/background", "no_clutter_here", "other")


def test_scores_dict_holds_table_and_figures() -> None:
    table = table_of([[3, 0], [2, 2]], unmapped=[1, 0])
    found = scores.scores_dict(table)
    assert found["confusion"] == [[3, 0], [2, 2]]
    assert (found["scored_pixels"], found["unmapped_pixels"]) == (8, 1)
    assert found["per_class"]["a"] == {  # type: ignore[index]
        "iou": 0.5,
        "f1": 6 / 9,
        "precision": 0.6,
        "recall": 0.75,
        "support": 4,
        "mapped": 5,
        "unmapped": 1,
    }
