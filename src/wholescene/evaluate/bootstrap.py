"""How much the scores would move had other scenes been drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.evaluate.confusion import ConfusionTable

__all__ = ["Bounds", "ScoreInterval", "bootstrap_interval"]

Bounds = tuple[float, float]

_DRAWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreInterval:
    """Percentile intervals over resampled scenes.

    Args:
        level: Share of the resamples inside, 0 to 1.
        resamples: Number of times the scenes were drawn again, with replacement.
        seed: Seed of the draws.
        num_scenes: Scenes drawn from.
        reason: Why there is no interval; empty if there is one.
        overall_accuracy: Low and high end; ``None`` if undefined.
        miou: Likewise, over the classes present in each resample.
        iou: Likewise for each class, by name.
    """

    level: float
    resamples: int
    seed: int
    num_scenes: int
    reason: str = ""
    overall_accuracy: Bounds | None = None
    miou: Bounds | None = None
    iou: dict[str, Bounds | None]


def bootstrap_interval(
    tables: Sequence[ConfusionTable],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> ScoreInterval:
    """Interval of overall accuracy, mIoU and per-class IoU by resampling scenes.

    Scenes, not pixels, are drawn: pixels of one scene are far from independent.

    Args:
        tables: One table per scene, all of the same classes.
        resamples: Number of draws, >= 1.
        level: Share of the draws inside the interval, between 0 and 1.
        seed: Seed of the draws; equal seeds give equal intervals.

    Returns:
        The interval; with fewer than two scenes one without bounds that says so.

    Raises:
        InputError: If no table is given, classes differ, or a number is out of range.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentile).
    """
    _check(tables, resamples, level)
    names = tables[0].classes.names
    if len(tables) < 2:
        return ScoreInterval(
            level=level,
            resamples=resamples,
            seed=seed,
            num_scenes=len(tables),
            reason="one scene has no spread; score at least two scenes for an interval",
            iou=dict.fromkeys(names),
        )
    accuracy, ious = _resampled_scores(tables, resamples, seed)
    with np.errstate(invalid="ignore"):
        mious = np.nansum(ious, axis=1) / (~np.isnan(ious)).sum(axis=1)
    return ScoreInterval(
        level=level,
        resamples=resamples,
        seed=seed,
        num_scenes=len(tables),
        overall_accuracy=_bounds(accuracy, level),
        miou=_bounds(mious, level),
        iou={name: _bounds(ious[:, i], level) for i, name in enumerate(names)},
    )


def _resampled_scores(
    tables: Sequence[ConfusionTable], resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Overall accuracy (resamples,) and IoU (resamples, K)."""
    hits = np.stack([t.hits for t in tables])
    support = np.stack([t.support for t in tables])
    union = support + np.stack([t.mapped for t in tables]) - hits
    rng = np.random.default_rng(seed)
    accuracy, ious = [], []
    for start in range(0, resamples, _DRAWS_AT_ONCE):
        num_draws = min(_DRAWS_AT_ONCE, resamples - start)
        drawn = rng.integers(len(tables), size=(num_draws, len(tables)))
        h, s, u = (counts[drawn].sum(axis=1) for counts in (hits, support, union))
        with np.errstate(invalid="ignore"):
            accuracy.append(h.sum(axis=1) / s.sum(axis=1))
            ious.append(h / u)
    return np.concatenate(accuracy), np.concatenate(ious)


def _bounds(values: NDArray[np.float64], level: float) -> Bounds | None:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check(tables: Sequence[ConfusionTable], resamples: int, level: float) -> None:
    if not tables:
        raise InputError("no scene to resample; score at least two scenes for an interval")
    if len({t.classes.names for t in tables}) > 1:
        raise InputError("scenes were scored with different classes; use one class table")
    if resamples < 1:
        raise InputError(f"resamples {resamples} is not >= 1")
    if not 0 < level < 1:
        raise InputError(f"level {level} is not between 0 and 1; 0.95 is usual")
