"""Sections of the report that show numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.files import StoredScores
from wholescene.evaluate.report.charts import Series, line_chart
from wholescene.evaluate.report.markup import (
    DASH,
    bar,
    count,
    esc,
    percent,
    swatch,
    table,
    tile,
)
from wholescene.evaluate.report.matrix import confusion_matrix
from wholescene.evaluate.report.sources import RunFiles
from wholescene.evaluate.scores import CONVENTIONS
from wholescene.evaluate.sizes import group_name

__all__ = [
    "class_section",
    "confusion_section",
    "convention_section",
    "curve_section",
    "fact_section",
    "headline",
    "object_section",
    "scene_section",
]

Json = dict[str, Any]

_KINDS = ("Loss", "Validation", "Validation IoU by class", "Learning rate")
_CLASS_COLUMN = "val_iou_"
# Wider confusion tables take the whole page.
_BESIDE_CLASSES = 13


def headline(scores: StoredScores) -> str:
    """The figures to read first."""
    document = scores.document
    interval = document["interval"]
    tiles = [
        tile("mIoU", percent(document["miou"]), _range(interval["miou"], interval)),
        tile(
            "Overall accuracy",
            percent(document["overall_accuracy"]),
            _range(interval["overall_accuracy"], interval),
        ),
        tile("mean F1", percent(document["mf1"])),
        tile("Kappa", DASH if document["kappa"] is None else f"{document['kappa']:.3f}"),
    ]
    if document["boundary"] is not None:
        width = document["boundary"]["boundary_px"]
        share = percent(document["boundary"]["mean_iou"])
        tiles.append(tile("Boundary IoU", share, f"mean, bands of {width} px"))
    tiles.append(tile("Pixels scored", _about(document["scored_pixels"]), _left_out(document)))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def class_section(scores: StoredScores) -> str:
    """One row per class."""
    document = scores.document
    rows = [_class_row(cls, document) for cls in document["classes"]]
    reason = document["interval"]["reason"]
    why = f"{reason.capitalize()}." if reason else "The interval resamples scenes."
    body = table(rows[0], [row.values() for row in rows])
    note = f'<p class="note">All figures in percent. {esc(why)}</p>'
    return _section("Classes", body + note)


def _class_row(cls: Json, document: Json) -> dict[str, str]:
    """Cells by heading; columns without content in this evaluation are left out."""
    row = document["per_class"][cls["name"]]
    interval, boundary = document["interval"], document["boundary"]
    cells = {"Class": f"{swatch(cls['color'])}{esc(cls['name'])}", "IoU": bar(row["iou"])}
    if not interval["reason"]:
        low, high = interval["iou"][cls["name"]] or (None, None)
        known = f"{percent(low)} &ndash; {percent(high)}"
        cells[f"{100 * interval['level']:g} % interval"] = DASH if low is None else known
    for heading in ("F1", "Precision", "Recall"):
        cells[heading] = percent(row[heading.casefold()])
    if boundary is not None:
        cells["Boundary IoU"] = percent(boundary["per_class"][cls["name"]]["iou"])
    scored = document["scored_pixels"]
    cells["Share of truth"] = bar(row["support"] / scored if scored else None, kind="quiet")
    cells["Pixels"] = count(row["support"])
    return cells


def object_section(scores: StoredScores) -> str:
    """Objects of each class by size; nothing if they were not counted."""
    objects = scores.document.get("objects")
    if objects is None:
        return ""
    rows = [
        [
            f"{swatch(cls['color'])}{esc(cls['name'])}",
            group_name(group),
            count(group["objects"]),
            *(bar(group[key]) for key in ("found", "recall", "iou")),
        ]
        for cls in scores.document["classes"]
        for group in objects["per_class"][cls["name"]]
    ]
    note = (
        "Objects are true pixels of a class that touch by sides or corners. Found: at least half "
        "of the object was mapped as the class. IoU: false pixels count by the size of the mapped "
        "object that holds them."
    )
    body = table(["Class", "Size, px", "Objects", "Found", "Recall", "IoU"], rows, text_columns=2)
    return _section("Objects by size", f'{body}<p class="note">{note}</p>')


def confusion_section(scores: StoredScores) -> str:
    """The confusion table as a heat map, and its largest errors."""
    note = (
        "Rows are the truth, columns the map; percent of each row. Point at a cell for its count. "
        "The shade of errors grows with the square root, so that small ones show."
    )
    is_wide = scores.table.classes.num_classes > _BESIDE_CLASSES
    body = confusion_matrix(scores.table) + _largest_errors(scores.table)
    layout = "below" if is_wide else "beside"
    note = f'<p class="note">{note}</p>'
    return _section("Confusion", f'<div class="{layout}">{body}</div>{note}')


def _largest_errors(counts: ConfusionTable, *, most: int = 8) -> str:
    columns = [*counts.classes.names, "not mapped"]
    cells = np.column_stack([counts.table, counts.unmapped])
    np.fill_diagonal(cells, 0)
    rows = []
    for flat in np.argsort(-cells, axis=None, kind="stable")[:most]:
        truth, mapped = divmod(int(flat), len(columns))
        pixels = int(cells[truth, mapped])
        if pixels:
            share = percent(pixels / int(counts.support[truth]))
            rows.append([esc(columns[truth]), esc(columns[mapped]), count(pixels), share])
    if not rows:
        return ""
    body = table(["Truth", "Mapped as", "Pixels", "% of truth"], rows, text_columns=2)
    return f'<div class="errors"><h4>Largest errors</h4>{body}</div>'


def convention_section(scores: StoredScores) -> str:
    """The headline figures under each published convention."""
    rows = []
    for name, figures in scores.document["conventions"].items():
        pattern = name if name in CONVENTIONS else f"{name.split('_', 1)[0]}_*"
        rows.append(
            [
                f"<code>{esc(name)}</code>",
                esc(CONVENTIONS.get(pattern, "")),
                *(percent(figures[key]) for key in ("miou", "mf1", "overall_accuracy")),
                DASH if figures["kappa"] is None else f"{figures['kappa']:.3f}",
            ]
        )
    body = table(["Name", "Meaning", "mIoU", "mean F1", "OA", "Kappa"], rows, text_columns=2)
    note = '<p class="note">One confusion table, read the way other publications read theirs.</p>'
    return _section("Conventions", f"{body}{note}")


def scene_section(scores: StoredScores) -> str:
    """One row per scene."""
    scenes: Sequence[Json] = scores.document["scenes"]
    with_boundary = scores.document["boundary"] is not None
    head = ["Scene", "mIoU", "OA", "mean F1", "Kappa"]
    head += ["Boundary IoU"] if with_boundary else []
    rows = []
    for scene in scenes:
        cells = [esc(scene["id"]), bar(scene["miou"]), percent(scene["overall_accuracy"])]
        cells += [percent(scene["mf1"])]
        cells += [DASH if scene["kappa"] is None else f"{scene['kappa']:.3f}"]
        cells += [percent(scene["boundary"]["mean_iou"])] if with_boundary else []
        rows.append(
            [
                *cells,
                count(scene["scored_pixels"]),
                count(scene["ignored_pixels"]),
                count(scene["unmapped_pixels"]),
            ]
        )
    return _section("Scenes", table([*head, "Scored px", "Ignored px", "Not mapped px"], rows))


def curve_section(run: RunFiles) -> str:
    """Training curves, one chart per kind of quantity."""
    groups: dict[str, list[Series]] = {kind: [] for kind in _KINDS}
    for name, series in run.metrics.items():
        shown = replace(series, name=name.removeprefix(_CLASS_COLUMN))
        groups.setdefault(_kind(name), []).append(shown)
    steps = [x for series in run.metrics.values() for x, _ in series.points]
    charts = [
        line_chart(
            series,
            title=_best(series) if kind == "Validation" else kind,
            x_range=(min(0.0, *steps), max(steps)),
            smooth=kind not in ("Learning rate", "Validation"),
        )
        for kind, series in groups.items()
        if series
    ]
    if not charts:
        return ""
    return _section("Training", f'<div class="charts">{"".join(charts)}</div>')


def fact_section(run: RunFiles) -> str:
    """Versions, seed and the resolved configuration."""
    parts = []
    if run.environment:
        rows = [[esc(name), esc(value)] for name, value in run.environment.items()]
        parts.append(table(["Fact", "Value"], rows, text_columns=2))
    if run.config:
        parts.append(
            f"<details><summary>config.yaml</summary><pre>{esc(run.config)}</pre></details>"
        )
    return _section("Run", "".join(parts)) if parts else ""


def _kind(column: str) -> str:
    name = column.casefold()
    if "loss" in name:
        return "Loss"
    if name == "lr" or name.startswith(("lr_", "lr-", "lr/")) or "learning_rate" in name:
        return "Learning rate"
    if name.startswith(_CLASS_COLUMN):
        return "Validation IoU by class"
    return "Validation" if name.startswith("val") else column.replace("_", " ").capitalize()


def _best(series: Sequence[Series]) -> str:
    for curve in series:
        if curve.name.casefold() == "val_miou":
            step, value = max(curve.points, key=lambda point: point[1])
            return f"Validation: best mIoU {percent(value)} at step {count(int(step))}"
    return "Validation"


def _range(bounds: Sequence[float] | None, interval: Json) -> str:
    if bounds is None:
        return "one scene, no interval" if interval["num_scenes"] == 1 else ""
    return (
        f"{percent(bounds[0])} &ndash; {percent(bounds[1])}, "
        f"{100 * interval['level']:g} % over {interval['num_scenes']} scenes"
    )


def _left_out(document: Json) -> str:
    parts = [f"{_about(document['ignored_pixels'])} ignored"]
    if document["unmapped_pixels"]:
        parts.append(f"{_about(document['unmapped_pixels'])} not mapped")
    if document["erode_px"]:
        parts.append(f"boundaries eroded by {document['erode_px']} px")
    return ", ".join(parts)


def _about(number: int) -> str:
    """A count short enough for a headline."""
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return count(number)


def _section(title: str, body: str) -> str:
    return f"<section><h3>{esc(title)}</h3>{body}</section>"
