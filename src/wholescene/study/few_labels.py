"""What pre-training is worth where labels are few; what is there is not done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from wholescene.config import StudyConfig, config_hash, dump_config
from wholescene.datasets import Dataset, load_dataset
from wholescene.errors import ConfigError, DatasetError, OutputError
from wholescene.pretrain import plan_pretraining, pretrain
from wholescene.raster.aside import written_aside
from wholescene.study.demo import Bar
from wholescene.study.evaluation import evaluate_split
from wholescene.study.few_labels_cells import Cell, Row, draw_labels, find_cells, find_rows
from wholescene.study.few_labels_results import CellResult, PretrainingResult, StudyResult
from wholescene.study.few_labels_table import write_tables
from wholescene.study.training import narrate
from wholescene.train import RunResult, fit, plan

__all__ = ["run_few_labels"]

RESULT_FILE = "result.json"
STUDY_FILE = "study.yaml"
BULKY = ("checkpoints", "model", "test/maps")
"""What a finished cell can do without."""

Say = Callable[[str], None]


def run_few_labels(
    study: StudyConfig, out: str | Path, *, say: Say, bar: Bar
) -> tuple[StudyResult, str]:
    """Pre-train every method once, fine-tune and score every cell.

    Pre-trainings live in ``out/pretraining``, fine-tunings in ``out/cells``, drawn labels in
    ``out/labels``. What was interrupted is continued; what is finished is kept as long as its
    settings are the same. After each cell ``few-labels.json``, ``.csv``, ``-attempts.csv``,
    ``.html`` and ``.svg`` are written anew. A run whose loss diverges is listed as failed, and
    tried again by the next start.

    Args:
        study: What to do.
        out: Folder of the study.
        say: Receives one line per event worth reading.
        bar: Opens a progress display, given a title and a unit.

    Returns:
        All results, and a table as text.

    Raises:
        ConfigError: If a configuration is not legal, before any work.
        DatasetError: If the dataset lacks a split or labels.
        OutputError: If ``out`` holds something else.
        KeyboardInterrupt: If it was stopped; started again, it goes on.
    """
    out, dataset = Path(out).resolve(), load_dataset(study.dataset)
    _open(out, study, dataset)
    rows = find_rows(study, dataset)
    labels = draw_labels(study, dataset, out)
    cells = list(find_cells(study, rows, labels, out))
    _check(rows, cells, dataset)
    dump_config(study, out / STUDY_FILE)
    pretrainings = {}
    for row in rows:
        if (folder := row.start(out)) is not None:
            pretrainings[row.name] = _pretrain(row, folder, dataset, say, bar)
    found: list[CellResult] = []
    for number, cell in enumerate(cells, start=1):
        drawn = cell.labels
        say(
            f"[{number}/{len(cells)}] {cell.row.name}, {100 * drawn.fraction:g} % by {drawn.by}, "
            f"draw {drawn.draw}, repeat {cell.repeat}"
        )
        learned = pretrainings.get(cell.row.name)
        found.append(_run_cell(cell, learned, study, dataset, out, say, bar))
        result = StudyResult(
            study=study,
            pretrainings=pretrainings,
            cells=tuple(found),
            superseded=_superseded(out, cells),
        )
        text = write_tables(out, result)
    return result, text


def _open(out: Path, study: StudyConfig, dataset: Dataset) -> None:
    """Refuse a folder or a dataset that will not do."""
    is_used = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if is_used and not (out / STUDY_FILE).is_file():
        raise OutputError(f"{out} holds something that is no study; give --out an empty folder")
    if not any(dataset.is_labelled(scene) for scene in dataset.split(study.test_split)):
        raise DatasetError(
            f"{dataset.path}: no scene of split {study.test_split!r} has labels to score against; "
            "name another in test_split"
        )
    out.mkdir(parents=True, exist_ok=True)
    dump_config(study, out / STUDY_FILE)


def _check(rows: tuple[Row, ...], cells: list[Cell], dataset: Dataset) -> None:
    """Find what cannot work in any row before hours are spent."""
    for row in rows:
        if row.pretraining is not None:
            planned = plan_pretraining(row.pretraining, dataset)
            if row.part == "all" and planned.trained != "all":
                raise ConfigError(
                    f"method {row.name!r} hands its decoder on (part: all), but "
                    f"{row.pretraining.method.name!r} teaches only the encoder; set part: encoder"
                )
        plan(next(cell for cell in cells if cell.row is row).config, dataset)


def _pretrain(row: Row, folder: Path, dataset: Dataset, say: Say, bar: Bar) -> PretrainingResult:
    """Pre-train what is not pre-trained."""
    config = row.pretraining
    assert config is not None
    stored = _stored(folder)
    if stored is not None and stored["failure"] is None:
        say(f"pre-training of {row.name} kept: {folder}")
        return PretrainingResult(**stored)
    say(f"pre-training of {row.name}: {folder}")
    _make_way(folder)
    result = PretrainingResult(
        name=config.name,
        method=config.method.name,
        folder=folder.name,
        config_hash=config_hash(config),
        steps=config.train.steps,
    )
    try:
        with bar("pre-train", "steps") as progress:
            done = pretrain(
                config,
                dataset,
                folder,
                resume=folder.is_dir(),
                progress=narrate(say, progress),
            )
    except ConfigError as error:
        result = replace(result, failure=str(error))
    else:
        result = replace(
            result,
            seconds=done.seconds,
            embedding_spread=done.embedding_spread,
            knn_accuracy=done.knn_accuracy,
        )
    _store(folder, result)
    return result


def _run_cell(
    cell: Cell,
    learned: PretrainingResult | None,
    study: StudyConfig,
    dataset: Dataset,
    out: Path,
    say: Say,
    bar: Bar,
) -> CellResult:
    """Fine-tune and score what is not scored."""
    folder, result = cell.folder(out), _empty_result(cell, learned, out)
    stored = _stored(folder)
    if learned is not None and learned.failure is not None:
        return replace(result, failure=f"pre-training: {learned.failure}")
    if stored is not None and stored["failure"] is None:
        say(f"  kept: {folder}")
        place = {key: getattr(result, key) for key in ("fraction", "draw", "repeat")}
        result = CellResult(**{**stored, **place})
    else:
        _make_way(folder)
        result = _fill(result, cell, dataset, folder, say, bar)
        _store(folder, result)
    if result.failure is None and not study.keep_models:
        for name in BULKY:
            shutil.rmtree(folder / name, ignore_errors=True)
    return result


def _fill(
    result: CellResult,
    cell: Cell,
    dataset: Dataset,
    folder: Path,
    say: Say,
    bar: Bar,
) -> CellResult:
    try:
        with bar("fine-tune", "steps") as progress:
            trained = fit(
                cell.config,
                dataset,
                folder,
                resume=folder.is_dir(),
                progress=narrate(say, progress),
            )
    except ConfigError as error:
        say(f"  failed: {error}")
        return replace(result, failure=str(error))
    with bar("score", "px") as progress:
        scores, _ = evaluate_split(
            dataset.path,
            trained.model,
            folder / "test",
            split=cell.test_split,
            resume=True,
            progress=progress,
            **cell.scoring.model_dump(),
        )
    return _with_scores(result, trained, scores)


def _with_scores(result: CellResult, trained: RunResult, scores: Mapping[str, Any]) -> CellResult:
    return replace(
        result,
        best_step=trained.exported_step,
        val_miou=trained.best_miou,
        miou=scores["miou"],
        overall_accuracy=scores["overall_accuracy"],
        per_class={name: each["iou"] for name, each in scores["per_class"].items()},
        seconds=trained.seconds,
    )


def _empty_result(cell: Cell, learned: PretrainingResult | None, out: Path) -> CellResult:
    return CellResult(
        method=cell.row.name,
        baseline=cell.row.baseline,
        encoder=cell.config.model.encoder,
        by=cell.labels.by,
        fraction=cell.labels.fraction,
        draw=cell.labels.draw,
        repeat=cell.repeat,
        labels=cell.labels.count,
        seed=cell.config.train.seed,
        config_hash=cell.digest,
        folder=cell.folder(out).name,
        pretraining=None if learned is None else learned.folder,
        steps=cell.config.train.steps,
    )


def _superseded(out: Path, cells: list[Cell]) -> tuple[CellResult, ...]:
    """Results of attempts under other settings, which a study must not hide."""
    current = {cell.folder(out).name for cell in cells}
    others = sorted(path for path in (out / "cells").glob("*") if path.name not in current)
    stored = (_stored(path) for path in others)
    return tuple(CellResult(**each) for each in stored if each is not None)


def _stored(folder: Path) -> dict[str, Any] | None:
    path = folder / RESULT_FILE
    found: dict[str, Any] | None = None
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
    return found


def _store(folder: Path, result: PretrainingResult | CellResult) -> None:
    with written_aside(folder / RESULT_FILE) as part:
        part.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")


def _make_way(folder: Path) -> None:
    """Remove a run that was cut short before it wrote its settings."""
    if folder.is_dir() and not (folder / "config.yaml").is_file():
        shutil.rmtree(folder)
