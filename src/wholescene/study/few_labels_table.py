"""Tables of a few-label study: mean and spread of each row, and what it adds to a random start."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wholescene.raster.aside import written_aside
from wholescene.study.few_labels_plot import draw_study
from wholescene.study.few_labels_results import CellResult, PretrainingResult, StudyResult
from wholescene.study.tables import csv_table, html_page, html_table, text_table

__all__ = ["summarise_study", "write_tables"]

NAME = "few-labels"
PRINTED = (
    "method",
    "by",
    "fraction",
    "labels",
    "runs",
    "failed",
    "miou",
    "spread",
    "difference",
    "difference_spread",
    "pairs",
)
ATTEMPT = (
    "method",
    "by",
    "fraction",
    "draw",
    "repeat",
    "labels",
    "seed",
    "val_miou",
    "miou",
    "overall_accuracy",
    "best_step",
    "steps",
    "seconds",
    "pretraining",
    "folder",
    "failure",
)
HOW = (
    "mIoU in % on the test scenes, mean and standard deviation over draws and repeats. "
    "Difference: to the row from random weights with the same encoder, labels and seed, paired. "
    "The step of each fine-tuning was chosen on split {select_on!r}; {test_split!r} was only "
    "scored. Each method was pre-trained once, so the spread holds no chance of pre-training."
)
TRANSDUCTIVE = (
    " The pool {pool!r} holds the scored scenes, without their labels: read the differences as "
    "those of maps of a known area."
)

Pair = tuple[str, float, int, int]


def write_tables(folder: Path, result: StudyResult) -> str:
    """Write table, attempts, page and plot; give the table as text.

    Args:
        folder: Where to write.
        result: All there is so far, at least one cell.
    """
    rows = summarise_study(result)
    attempts = [*_attempts(result.cells, False), *_attempts(result.superseded, True)]
    plot = draw_study(rows)
    document = {
        "study": _settings(result),
        "pretrainings": {name: asdict(each) for name, each in result.pretrainings.items()},
        "rows": rows,
        "cells": [asdict(cell) for cell in result.cells],
        "superseded": [asdict(cell) for cell in result.superseded],
    }
    for suffix, text in (
        (".csv", csv_table(list(rows[0]), rows)),
        ("-attempts.csv", csv_table(list(attempts[0]), attempts)),
        (".svg", plot),
        (".html", _page(result, rows, attempts, plot)),
        (".json", json.dumps(document, indent=2) + "\n"),
    ):
        with written_aside(folder / f"{NAME}{suffix}") as part:
            part.write_text(text, encoding="utf-8", newline="")
    return text_table(PRINTED, [[_cell(row[name]) for name in PRINTED] for row in rows])


def summarise_study(result: StudyResult) -> list[dict[str, Any]]:
    """One row per method, kind of draw and fraction; shares of pixels in percent.

    ``spread`` is the standard deviation of a sample, undefined for one run; ``difference`` the
    mean over the pairs of ``pairs`` runs that differ in the start alone.
    """
    groups: dict[tuple[str, float, str], list[CellResult]] = {}
    for cell in result.cells:
        groups.setdefault((cell.by, cell.fraction, cell.method), []).append(cell)
    scores = {
        (cell.method, _pair(cell)): cell.miou for cell in result.cells if cell.miou is not None
    }
    ordered = sorted(groups, key=lambda key: (key[0], key[1]))
    return [_summary(groups[key], scores, result.pretrainings.get(key[2])) for key in ordered]


def _summary(
    cells: Sequence[CellResult],
    scores: Mapping[tuple[str, Pair], float],
    learned: PretrainingResult | None,
) -> dict[str, Any]:
    first = cells[0]
    miou = [100 * cell.miou for cell in cells if cell.miou is not None]
    pairs = [
        100 * (cell.miou - scores[first.baseline, _pair(cell)])
        for cell in cells
        if first.baseline is not None
        and cell.miou is not None
        and (first.baseline, _pair(cell)) in scores
    ]
    return {
        "method": first.method,
        "encoder": first.encoder,
        "by": first.by,
        "fraction": first.fraction,
        "labels": first.labels,
        "runs": len(cells),
        "failed": sum(cell.failure is not None for cell in cells),
        "miou": _mean(miou),
        "spread": _spread(miou),
        "difference": _mean(pairs),
        "difference_spread": _spread(pairs),
        "pairs": len(pairs),
        "overall_accuracy": _mean_percent(cell.overall_accuracy for cell in cells),
        "val_miou": _mean_percent(cell.val_miou for cell in cells),
        "pretraining_seconds": None if learned is None else learned.seconds,
        "finetuning_seconds": _mean([c.seconds for c in cells if c.seconds is not None]),
    }


def _pair(cell: CellResult) -> Pair:
    return cell.by, cell.fraction, cell.draw, cell.repeat


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _mean_percent(values: Iterable[float | None]) -> float | None:
    return _mean([100 * value for value in values if value is not None])


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _settings(result: StudyResult) -> dict[str, Any]:
    """The study without the paths of this machine; ``study.yaml`` has them."""
    study = result.study.model_dump(mode="json")
    study["methods"] = {
        name: {**method, "pretrain": Path(method["pretrain"]).name}
        for name, method in study["methods"].items()
    }
    names = {key: Path(study[key]).name for key in ("dataset", "finetune")}
    return {**study, **names}


def _attempts(cells: Sequence[CellResult], superseded: bool) -> list[dict[str, Any]]:
    return [
        {**{name: getattr(cell, name) for name in ATTEMPT}, "superseded": superseded}
        for cell in cells
    ]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _page(
    result: StudyResult,
    rows: Sequence[Mapping[str, Any]],
    attempts: Sequence[Mapping[str, Any]],
    plot: str,
) -> str:
    study = result.study
    how = HOW.format(select_on=study.select_on, test_split=study.test_split)
    pools = {part.strip() for part in study.pool.split("+")}
    if pools & {part.strip() for part in study.test_split.split("+")}:
        how += TRANSDUCTIVE.format(pool=study.pool)
    learned = [asdict(each) for each in result.pretrainings.values()]
    parts = [plot, _table(f"{study.about} {how}".strip(), rows)]
    if learned:
        parts.append(_table("Pre-trainings", learned))
    parts.append(
        _table("All attempts, those under settings that were changed since last", attempts)
    )
    return html_page(f"{study.name}: labels and pre-training", "".join(parts))


def _table(caption: str, rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(rows[0])
    return html_table(caption, columns, [[_cell(row[name]) for name in columns] for row in rows])
