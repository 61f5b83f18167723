"""Scores of this package against those of other ones, on labels with ignored pixels and with
classes that occur nowhere, only in the truth or only in the map."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wholescene.evaluate import scores
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.scores import conventions
from wholescene.labels import IGNORE_INDEX, ClassTable

NAMES = tuple("abcdef")
K = len(NAMES)
IGNORED = 255


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth with ignored pixels, and a map; each lacks classes, so that three kinds of absence
    come up among the seeds."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(5, 40, 2))
    in_truth = rng.choice(K, rng.integers(1, K + 1), replace=False)
    in_map = rng.choice(K, rng.integers(1, K + 1), replace=False)
    truth, guess = rng.choice(in_truth, shape), rng.choice(in_map, shape)
    agree = rng.random(shape) < rng.random()
    guess = np.where(agree & np.isin(truth, in_map), truth, guess)
    return np.where(rng.random(shape) < 0.2, IGNORED, truth), guess


def table_of(truth: np.ndarray, guess: np.ndarray) -> ConfusionTable:
    table = ConfusionTable(ClassTable.from_names(NAMES))
    table.add(np.where(truth == IGNORED, IGNORE_INDEX, truth), guess)
    return table


SCENES = [scene(seed) for seed in range(40)]


def test_scenes_hold_every_kind_of_absence() -> None:
    tables = [table_of(*pair) for pair in SCENES]
    for has_truth, has_map in ((False, False), (False, True), (True, False)):
        kinds = [(t.support > 0) == has_truth for t in tables]
        maps = [(t.mapped > 0) == has_map for t in tables]
        assert sum((a & b).any() for a, b in zip(kinds, maps, strict=True)) > 5


def areas(truth: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels hit, mapped and true of each class, counted class by class."""
    kept = truth != IGNORED
    classes = range(K)
    hit = [(kept & (truth == c) & (guess == c)).sum() for c in classes]
    mapped = [(kept & (guess == c)).sum() for c in classes]
    true = [(kept & (truth == c)).sum() for c in classes]
    return np.array(hit, float), np.array(mapped, float), np.array(true, float)


def divided(part: np.ndarray, whole: np.ndarray, otherwise: float) -> np.ndarray:
    return np.array([p / w if w else otherwise for p, w in zip(part, whole, strict=True)])


@pytest.mark.parametrize("pair", SCENES)
@pytest.mark.parametrize(("key", "absent"), [("absent_as_zero", 0.0), ("absent_as_one", 1.0)])
def test_paddleseg(pair: tuple[np.ndarray, np.ndarray], key: str, absent: float) -> None:
    """Its table as printed: plain means over all classes, 0 where nothing was mapped or true."""
    hit, mapped, true = areas(*pair)
    table = table_of(*pair)
    found = conventions(table)[key]  # type: ignore[literal-required]
    ious = divided(hit, mapped + true - hit, absent)
    assert found["miou"] == pytest.approx(ious.mean(), rel=1e-12)
    assert found["mf1"] == pytest.approx(divided(2 * hit, mapped + true, 0).mean(), rel=1e-12)
    assert found["overall_accuracy"] == pytest.approx(hit.sum() / mapped.sum(), rel=1e-12)
    by_chance = (mapped * true).sum() / true.sum() ** 2
    if by_chance < 1:
        kappa = (hit.sum() / true.sum() - by_chance) / (1 - by_chance)
        assert found["kappa"] == pytest.approx(kappa, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(np.nan_to_num(scores.iou(table), nan=absent), ious)
    for ours, whole in ((scores.precision(table), mapped), (scores.recall(table), true)):
        np.testing.assert_allclose(np.nan_to_num(ours), divided(hit, whole, 0))


@pytest.mark.parametrize("pair", SCENES)
def test_mmsegmentation(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Its table: what is undefined is left out of each mean."""
    hit, mapped, true = areas(*pair)
    table = table_of(*pair)
    nan = float("nan")
    iou = divided(hit, mapped + true - hit, nan)
    dice = divided(2 * hit, mapped + true, nan)
    recall, precision = divided(hit, true, nan), divided(hit, mapped, nan)
    found = conventions(table)["present_classes"]
    assert found["miou"] == pytest.approx(np.nanmean(iou), rel=1e-12)
    assert found["mf1"] == pytest.approx(np.nanmean(dice), rel=1e-12)
    assert found["overall_accuracy"] == pytest.approx(hit.sum() / true.sum(), rel=1e-12)
    np.testing.assert_allclose(scores.iou(table), iou)
    np.testing.assert_allclose(scores.f1(table), dice)
    np.testing.assert_allclose(scores.recall(table), recall)
    np.testing.assert_allclose(scores.precision(table), precision)
    mean_recall = scores.mean_score(table, scores.recall(table))
    assert mean_recall == pytest.approx(np.nanmean(recall), rel=1e-12)
    # Its F-score is the harmonic mean; undefined where a class is only mapped or only true, which
    # Dice, and F1 here, count as 0.
    both = (hit > 0) & (mapped > 0) & (true > 0)
    harmonic = 2 * precision[both] * recall[both] / (precision[both] + recall[both])
    np.testing.assert_allclose(scores.f1(table)[both], harmonic)


@pytest.mark.parametrize("pair", SCENES)
def test_torchmetrics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    classification = pytest.importorskip("torchmetrics.functional.classification")
    import torch

    truth, guess = (torch.from_numpy(part.astype(np.int64)) for part in pair)
    table = table_of(*pair)
    options = {"num_classes": K, "ignore_index": IGNORED}

    def theirs(name: str, average: str) -> np.ndarray:
        # One image: its reduction is over all pixels, as ours.
        score = getattr(classification, f"multiclass_{name}")
        return score(guess[None], truth[None], average=average, **options).numpy()

    for name, ours in (
        ("jaccard_index", scores.iou(table)),
        ("f1_score", scores.f1(table)),
        ("precision", scores.precision(table)),
        ("recall", scores.recall(table)),
    ):
        np.testing.assert_allclose(np.nan_to_num(ours), theirs(name, "none"), rtol=1e-6)
    summary = scores.summary(table)
    assert summary["miou"] == pytest.approx(float(theirs("jaccard_index", "macro")), rel=1e-6)
    assert summary["mf1"] == pytest.approx(float(theirs("f1_score", "macro")), rel=1e-6)
    accuracy = float(theirs("accuracy", "micro"))
    assert summary["overall_accuracy"] == pytest.approx(accuracy, rel=1e-6)
    kappa = float(classification.multiclass_cohen_kappa(guess, truth, **options))
    assert summary["kappa"] == pytest.approx(kappa, rel=1e-4, abs=1e-6, nan_ok=True)


indices = arrays(np.int64, (6, 7), elements=st.integers(0, K - 1))


@given(truth=indices, guess=indices, hidden=arrays(np.bool_, (6, 7)))
def test_scikit_learn(truth: np.ndarray, guess: np.ndarray, hidden: np.ndarray) -> None:
    kept = ~hidden
    kept[0, 0] = True
    table = table_of(np.where(kept, truth, IGNORED), guess)
    pair = truth[kept], guess[kept]
    options = {"labels": range(K), "average": None, "zero_division": np.nan}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels that do not occur
        iou = sklearn.metrics.jaccard_score(*pair, **{**options, "zero_division": 0})
        theirs = sklearn.metrics.precision_recall_fscore_support(*pair, **options)
        kappa = sklearn.metrics.cohen_kappa_score(*pair)
    precision, recall, f1, support = theirs
    np.testing.assert_allclose(np.nan_to_num(scores.iou(table)), iou, rtol=1e-12)
    np.testing.assert_allclose(scores.precision(table), precision, rtol=1e-12)
    np.testing.assert_allclose(scores.recall(table), recall, rtol=1e-12)
    np.testing.assert_allclose(scores.f1(table), f1, rtol=1e-12)
    np.testing.assert_array_equal(table.support, support)
    present = np.union1d(*pair)
    expected = sklearn.metrics.jaccard_score(*pair, labels=present, average="macro")
    assert scores.miou(table) == pytest.approx(expected, rel=1e-12)
    assert scores.overall_accuracy(table) == pytest.approx((pair[0] == pair[1]).mean())
    if scores.kappa(table) == scores.kappa(table):
        assert scores.kappa(table) == pytest.approx(kappa, rel=1e-9, abs=1e-9)
    else:
        assert len(present) == 1  # nothing to agree on beyond chance
