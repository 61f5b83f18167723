"""What a directory holds for a report."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

from wholescene.errors import InputError
from wholescene.evaluate.files import SCORES_JSON, StoredScores, read_scores
from wholescene.evaluate.index import EVALUATION_JSON, Evaluation, read_evaluation
from wholescene.evaluate.report.charts import Series

__all__ = ["EvaluationFiles", "RunFiles", "find_evaluations", "find_run", "read_metrics"]

_CONFIG, _METRICS, _ENVIRONMENT = "config.yaml", "metrics.csv", "environment.json"
_NOT_A_METRIC = {"step", "epoch", "seconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """What a training run left behind.

    Args:
        folder: Run directory.
        config: Text of ``config.yaml``; empty if there is none.
        metrics: Curves by column of ``metrics.csv``.
        environment: Facts of ``environment.json``, nested names joined by dots.
    """

    folder: Path
    config: str
    metrics: dict[str, Series]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationFiles:
    """What an evaluation left behind.

    Args:
        folder: Evaluation directory.
        scores: Its scores; ``None`` for a split without public labels.
        index: Its scenes; ``None`` if only scores were written.
    """

    folder: Path
    scores: StoredScores | None
    index: Evaluation | None


def find_run(folder: Path) -> RunFiles | None:
    """The run in ``folder`` or in the first of its direct subfolders that holds one."""
    for place in _places(folder):
        if any((place / name).is_file() for name in (_CONFIG, _METRICS)):
            config = place / _CONFIG
            return RunFiles(
                folder=place,
                config=config.read_text(encoding="utf-8") if config.is_file() else "",
                metrics=read_metrics(place / _METRICS),
                environment=_read_environment(place / _ENVIRONMENT),
            )
    return None


def find_evaluations(folder: Path) -> list[EvaluationFiles]:
    """Evaluations in ``folder`` and its direct subfolders.

    Raises:
        InputError: If a file of one is damaged.
    """
    found = []
    for place in _places(folder):
        has_scores = (place / SCORES_JSON).is_file()
        has_index = (place / EVALUATION_JSON).is_file()
        if has_scores or has_index:
            scores = read_scores(place) if has_scores else None
            index = read_evaluation(place) if has_index else None
            found.append(EvaluationFiles(folder=place, scores=scores, index=index))
    return found


def read_metrics(path: Path) -> dict[str, Series]:
    """Curves of a metrics table, by column; empty and non-finite cells are left out.

    x is the column ``step`` where there is one, else the row number.

    Raises:
        InputError: If a cell is no number.
    """
    if not path.is_file():
        return {}
    points: dict[str, list[tuple[float, float]]] = {}
    text = path.read_text(encoding="utf-8")
    # A last line without its end was cut off by a kill.
    whole = text[: text.rfind("\n") + 1]
    for number, row in enumerate(csv.DictReader(io.StringIO(whole))):
        x = _number(row.get("step") or str(number), path)
        for column, cell in row.items():
            if column and cell and column not in _NOT_A_METRIC:
                y = _number(cell, path)
                if math.isfinite(x) and math.isfinite(y):
                    points.setdefault(column, []).append((x, y))
    return {name: Series(name, tuple(sorted(values))) for name, values in points.items()}


def _places(folder: Path) -> list[Path]:
    return [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]


def _number(cell: str, path: Path) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise InputError(
            f"{path} holds {cell!r} where a number belongs; training writes numbers only"
        ) from error


def _read_environment(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); remove it to report without it") from error
    return _flat(facts)


def _flat(value: object, name: str = "") -> dict[str, str]:
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = {str(number): item for number, item in enumerate(value, 1)}
    if not isinstance(value, dict):
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        return {name: text} if name and value is not None else {}
    flat: dict[str, str] = {}
    for key, item in value.items():
        flat.update(_flat(item, f"{name}.{key}" if name else str(key)))
    return flat
