"""Scores, each a pure function of the confusion table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.index import classes_to_json

__all__ = [
    "CATCH_ALL_NAMES",
    "CONVENTIONS",
    "Absent",
    "ClassScores",
    "Summary",
    "catch_all_classes",
    "conventions",
    "f1",
    "iou",
    "kappa",
    "mean_score",
    "mf1",
    "miou",
    "overall_accuracy",
    "per_class",
    "precision",
    "recall",
    "scores_dict",
    "summary",
]

Floats = NDArray[np.float64]
Absent = Literal["skip", "undefined", "zero", "one"]
"""What a class absent from both truth and map adds to a mean."""

CONVENTIONS: dict[str, str] = {
    "all_classes": "mean over every class; given only if every class occurs in truth or map",
    "present_classes": "mean over the classes that occur in truth or map; the headline figures",
    "absent_as_zero": "a class in neither truth nor map counts 0 (PaddleSeg 2.6)",
    "absent_as_one": "a class in neither truth nor map counts 1 in mIoU, 0 in mF1 (PaddleSeg 2.8+)",
    "protocol_*": "the figures of the protocol that was asked for; see docs/protocols.md",
    "foreground_only": "mean without the class called 'background'; its pixels still count "
    "in the other figures",
    "without_*": "mean without the named class; its pixels still count in overall accuracy and "
    "kappa, and as errors of the other classes",
    "ignored_*": "true pixels of the named class are ignored in every figure; pixels of other "
    "classes mapped as it stay wrong",
}
"""Every published convention: its key in ``scores.json`` (``*`` is a class name) and its meaning.

All leave out unlabelled pixels, count pixels the map left empty as wrong, and average over the
classes present in truth or map unless they say otherwise.
"""

CATCH_ALL_NAMES = frozenset({"background", "clutter", "other", "others", "unknown", "unclassified"})
"""Words in the names of classes that published tables often leave out."""


class Summary(TypedDict):
    """The four headline figures; NaN where undefined."""

    overall_accuracy: float
    kappa: float
    miou: float
    mf1: float


class ClassScores(TypedDict):
    """The figures of one class; NaN where undefined."""

    iou: float
    f1: float
    precision: float
    recall: float
    support: int
    mapped: int
    unmapped: int


def overall_accuracy(table: ConfusionTable) -> float:
    """Share of the labelled pixels that were mapped right; NaN without labelled pixels.

    Examples:
        >>> from wholescene.labels import ClassTable
        >>> classes = ClassTable.from_names(["land", "water"])
        >>> overall_accuracy(ConfusionTable(classes, np.array([[2, 1], [0, 1]])))
        0.75
    """
    return _ratio(table.hits.sum(), table.support.sum()).item()


def kappa(table: ConfusionTable) -> float:
    """Cohen's kappa; NaN if truth and map hold one and the same class, or nothing.

    The map's empty pixels are a category of their own that truth never takes.
    """
    total = float(table.scored_pixels)
    if not total:
        return float("nan")
    observed = table.hits.sum() / total
    # As shares, since products of counts overflow int64 from 3 * 10^9 pixels on.
    expected = ((table.support / total) * (table.mapped / total)).sum()
    return _ratio(observed - expected, 1 - expected).item()


def iou(table: ConfusionTable) -> Floats:
    """Intersection over union of each class, (K,); NaN where in neither truth nor map.

    Examples:
        >>> from wholescene.labels import ClassTable
        >>> classes = ClassTable.from_names(["land", "water"])
        >>> iou(ConfusionTable(classes, np.array([[2, 1], [0, 1]]))).round(3).tolist()
        [0.667, 0.5]
    """
    return _ratio(table.hits, table.support + table.mapped - table.hits)


def f1(table: ConfusionTable) -> Floats:
    """F1 (Dice) of each class, (K,); NaN where in neither truth nor map."""
    return _ratio(2 * table.hits, table.support + table.mapped)


def precision(table: ConfusionTable) -> Floats:
    """Share of the pixels mapped as each class that are it, (K,); NaN where none was mapped.

    Also called user's accuracy.
    """
    return _ratio(table.hits, table.mapped)


def recall(table: ConfusionTable) -> Floats:
    """Share of the true pixels of each class that were found, (K,); NaN where there are none.

    Also called producer's accuracy.
    """
    return _ratio(table.hits, table.support)


def miou(table: ConfusionTable, *, exclude: Iterable[str] = (), absent: Absent = "skip") -> float:
    """Mean of ``iou`` over classes.

    Args:
        table: Counts.
        exclude: Names of classes left out of the mean; their pixels still count as errors.
        absent: What a class in neither truth nor map adds.

    Returns:
        The mean; NaN if no class is left.

    Raises:
        LabelError: If a name is no class.
    """
    return mean_score(table, iou(table), exclude=exclude, absent=absent)


def mf1(table: ConfusionTable, *, exclude: Iterable[str] = (), absent: Absent = "skip") -> float:
    """Mean of ``f1`` over classes; arguments as in ``miou``."""
    return mean_score(table, f1(table), exclude=exclude, absent=absent)


def mean_score(
    table: ConfusionTable,
    values: Floats,
    *,
    exclude: Iterable[str] = (),
    absent: Absent = "skip",
) -> float:
    """Mean of one score per class; arguments as in ``miou``."""
    left_out = {table.index(name) for name in exclude}
    kept = values[[i for i in range(values.size) if i not in left_out]]
    if absent == "skip":
        kept = kept[~np.isnan(kept)]
    elif absent in ("zero", "one"):
        kept = np.where(np.isnan(kept), float(absent == "one"), kept)
    elif absent != "undefined":
        raise InputError(f"absent={absent!r} is not one of 'skip', 'undefined', 'zero', 'one'")
    return float(kept.mean()) if kept.size else float("nan")


def summary(
    table: ConfusionTable, *, exclude: Iterable[str] = (), absent: Absent = "skip"
) -> Summary:
    """The headline figures; ``exclude`` and ``absent`` act on the means only."""
    exclude = tuple(exclude)
    return {
        "overall_accuracy": overall_accuracy(table),
        "kappa": kappa(table),
        "miou": miou(table, exclude=exclude, absent=absent),
        "mf1": mf1(table, exclude=exclude, absent=absent),
    }


def per_class(table: ConfusionTable) -> dict[str, ClassScores]:
    """Every figure of every class, by name."""
    columns = (iou(table), f1(table), precision(table), recall(table))
    counts = (table.support, table.mapped, table.unmapped)
    return {
        name: {
            "iou": float(columns[0][i]),
            "f1": float(columns[1][i]),
            "precision": float(columns[2][i]),
            "recall": float(columns[3][i]),
            "support": int(counts[0][i]),
            "mapped": int(counts[1][i]),
            "unmapped": int(counts[2][i]),
        }
        for i, name in enumerate(table.classes.names)
    }


def catch_all_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Classes whose name holds one of ``CATCH_ALL_NAMES`` as a word.

    Examples:
        >>> catch_all_classes(["Clutter/background", "otherwise", "road"])
        ('Clutter/background',)
    """
    return tuple(n for n in names if CATCH_ALL_NAMES & set(re.split(r"[\W_]+", n.casefold())))


def conventions(table: ConfusionTable, *, exclude: Iterable[str] = ()) -> dict[str, Summary]:
    """The headline figures under every published convention that applies, from the one table.

    Args:
        table: Counts.
        exclude: Classes to report scores without, besides ``catch_all_classes``: one by one and,
            if several, also together (names joined by ``+``).

    Returns:
        Figures by the names in ``CONVENTIONS``.

    Raises:
        LabelError: If a name is no class.
    """
    names, asked = table.classes.names, tuple(dict.fromkeys(exclude))
    result: dict[str, Summary] = {}
    if not np.isnan(iou(table)).any():
        result["all_classes"] = summary(table, absent="undefined")
    result["present_classes"] = summary(table)
    result["absent_as_zero"] = summary(table, absent="zero")
    result["absent_as_one"] = summary(table, absent="one")
    result["absent_as_one"]["mf1"] = mf1(table, absent="zero")
    singles = dict.fromkeys((*catch_all_classes(names), *asked))
    groups: list[tuple[str, ...]] = [(name,) for name in singles]
    if len(asked) > 1:
        groups.append(asked)
    for group in groups:
        if len(group) < len(names):
            result[f"without_{'+'.join(group)}"] = summary(table, exclude=group)
            result[f"ignored_{'+'.join(group)}"] = summary(table.without(*group))
    for name in names:
        if name.casefold() == "background" and len(names) > 1:
            result["foreground_only"] = summary(table, exclude=(name,))
    return result


def scores_dict(table: ConfusionTable, *, exclude: Iterable[str] = ()) -> dict[str, object]:
    """Everything ``scores.json`` says about one table; figures that are undefined are NaN."""
    return {
        **classes_to_json(table.classes),
        "confusion": table.table.tolist(),
        **summary(table),
        "per_class": per_class(table),
        "scored_pixels": table.scored_pixels,
        "ignored_pixels": table.ignored_pixels,
        "unmapped_pixels": table.unmapped_pixels,
        "conventions": conventions(table, exclude=exclude),
    }


def _ratio(part: Floats | NDArray[np.int64], whole: Floats | NDArray[np.int64]) -> Floats:
    """Divide; 0 / 0 is undefined, not an error."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    undefined = np.full(whole.shape, np.nan)
    return np.asarray(np.divide(part, whole, out=undefined, where=whole != 0))
