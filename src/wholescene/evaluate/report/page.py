"""One self-contained HTML page of a run or an evaluation."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from wholescene.errors import InputError
from wholescene.evaluate.report.crops import crop_section
from wholescene.evaluate.report.markup import esc
from wholescene.evaluate.report.sections import (
    class_section,
    confusion_section,
    convention_section,
    curve_section,
    fact_section,
    headline,
    object_section,
    scene_section,
)
from wholescene.evaluate.report.sources import (
    EvaluationFiles,
    RunFiles,
    find_evaluations,
    find_run,
)
from wholescene.raster.aside import written_aside

__all__ = ["REPORT_HTML", "build_report"]

REPORT_HTML = "report.html"


def build_report(run_dir: str | Path, out: str | Path | None = None) -> Path:
    """Write one HTML page about a training run, its evaluations, or both.

    The page needs no network, no JavaScript and no other file. It shows what it finds in the
    directory and its direct subfolders: ``config.yaml``, ``metrics.csv`` and
    ``environment.json`` of a run, ``scores.json`` and ``evaluation.json`` of evaluations.

    Args:
        run_dir: Run or evaluation directory, or a folder of both.
        out: HTML file to write; ``report.html`` in the directory if not given.

    Returns:
        Path of the page.

    Raises:
        InputError: If there is nothing to report, or a file found is damaged.
        OutputError: If the page cannot be written.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give a run or evaluation directory")
    run, evaluations = find_run(folder), find_evaluations(folder)
    if run is None and not evaluations:
        raise InputError(
            f"{folder} and its subfolders hold no config.yaml, metrics.csv, scores.json or "
            "evaluation.json; give a directory written by `wholescene train` or `wholescene "
            "evaluate`"
        )
    page = Path(out) if out is not None else folder / REPORT_HTML
    text = _page(folder, run, evaluations)
    with written_aside(page) as part:
        part.write_text(text, encoding="utf-8")
    return page


def _page(folder: Path, run: RunFiles | None, evaluations: list[EvaluationFiles]) -> str:
    title = folder.resolve().name
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    parts = [_evaluation(files) for files in evaluations]
    if run is not None:
        body = curve_section(run) + fact_section(run)
        parts.append(f"<h2>Training run {esc(run.folder.resolve().name)}</h2>{body}")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{esc(title)}</title><style>\n{style}</style></head>\n<body>"
        f"<header><h1>{esc(title)}</h1><p>{_subtitle(run, evaluations)}</p></header>\n"
        f"<main>{''.join(parts)}</main>\n"
        "<footer>Written by wholescene report. This page needs no network.</footer></body></html>\n"
    )


def _subtitle(run: RunFiles | None, evaluations: list[EvaluationFiles]) -> str:
    parts = ["Training run"] if run is not None else []
    indices = [files.index for files in evaluations if files.index is not None]
    parts += [f"{index.dataset}, {index.split} split" for index in indices]
    return esc("; ".join(parts) or "Scores of a label map")


def _evaluation(files: EvaluationFiles) -> str:
    index, scores = files.index, files.scores
    title = files.folder.resolve().name
    model = ""
    if index is not None:
        title = f"{index.dataset}, {index.split} split"
        model = f'<p class="note">Model: {esc(index.model)}</p>' if index.model else ""
    parts = [f"<h2>{esc(title)}</h2>{model}"]
    if scores is not None:
        parts += [headline(scores), class_section(scores), object_section(scores)]
        parts += [confusion_section(scores), scene_section(scores)]
    if index is not None:
        classes = index.classes or (scores.table.classes if scores is not None else None)
        stored = scores.document["scenes"] if scores is not None else []
        miou = {scene["id"]: scene["miou"] for scene in stored}
        if classes is not None:
            parts.append(crop_section(index.scenes, classes, miou=miou))
        else:
            parts.append('<p class="note">evaluation.json names no classes: no maps shown.</p>')
    if scores is not None:
        parts.append(convention_section(scores))
    return "\n".join(parts)
