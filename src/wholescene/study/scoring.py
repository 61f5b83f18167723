"""Scoring files by name: what ``wholescene score`` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wholescene.datasets import load_dataset
from wholescene.errors import InputError
from wholescene.evaluate import group_name, score_map, scores_document, write_scores
from wholescene.labels import ClassTable, LabelClass
from wholescene.progress import Progress
from wholescene.raster import read_class_names, read_palette

__all__ = ["classes_of_map", "describe_objects", "describe_scores", "score_files", "percent"]


def score_files(
    label: Path,
    label_map: Path,
    *,
    classes: Path | None = None,
    ignore: int | None = None,
    erode_px: int = 0,
    boundary_px: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], str]:
    """Score one map against one label raster.

    Args:
        label: Label raster of class ids.
        label_map: Label map on the same grid.
        classes: ``dataset.yaml`` with the classes; ``None`` takes those named in the map.
        ignore: Label id that does not score; ``None`` takes the class table's.
        erode_px: Radius around class boundaries that does not score.
        boundary_px: Width of the bands of boundary IoU; ``None`` leaves it out.
        out: Folder for the score files; ``None`` writes none.
        progress: Called with pixels done and in all.

    Returns:
        The content of ``scores.json`` and a table to print.

    Raises:
        InputError: If classes are unknown or the rasters are not on one grid.
        LabelError: If an id is in no class.
    """
    table = load_dataset(classes).classes if classes else classes_of_map(label_map, ignore)
    score = score_map(
        label,
        label_map,
        table,
        ignore=ignore,
        erode_px=erode_px,
        boundary_px=boundary_px,
        progress=progress,
    )
    if out is not None:
        write_scores(out, [score])
    document = scores_document([score])
    return document, describe_scores(document)


def classes_of_map(label_map: Path, ignore: int | None) -> ClassTable:
    """Build the class table from the names a map carries.

    Raises:
        InputError: If the map carries none.
    """
    names, palette = read_class_names(label_map), read_palette(label_map)
    ids = [i for i in names if i != ignore]
    if not ids:
        raise InputError(
            f"{label_map} carries no class names (no {label_map.name}.aux.xml beside it); name "
            "the classes with --classes dataset.yaml"
        )
    return ClassTable(
        tuple(LabelClass(id=i, name=names[i], color=palette.get(i, (0, 0, 0))) for i in ids),
        ignore,
    )


def describe_scores(document: dict[str, Any]) -> str:
    """Lay out the main scores and the per-class table as text."""
    head = [
        f"overall accuracy {percent(document['overall_accuracy'])}   "
        f"mIoU {percent(document['miou'])}   mean F1 {percent(document['mf1'])}   "
        f"kappa {_number(document['kappa'])}"
    ]
    width = max(len(name) for name in document["per_class"])
    head.append(f"{'class':<{width}}     IoU      F1   precision   recall      pixels")
    for name, row in document["per_class"].items():
        head.append(
            f"{name:<{width}} {percent(row['iou']):>7} {percent(row['f1']):>7} "
            f"{percent(row['precision']):>11} {percent(row['recall']):>8} {row['support']:>11}"
        )
    return "\n".join(head)


def describe_objects(objects: Mapping[str, Any]) -> str:
    """Lay out the scores by size of object as text; ``objects`` as in ``scores.json``."""
    per_class = objects["per_class"]
    width = max(len(name) for name in per_class)
    lines = [f"{'class':<{width}}  object px   objects   found  recall     IoU"]
    for name, groups in per_class.items():
        for group in groups:
            figures = (percent(group[key]) for key in ("found", "recall", "iou"))
            lines.append(
                f"{name:<{width}} {group_name(group):>10} {group['objects']:>9} "
                f"{' '.join(f'{x:>7}' for x in figures)}"
            )
    return "\n".join(lines)


def percent(value: float | None) -> str:
    """A share in percent, or a dash."""
    return "-" if value is None else f"{100 * value:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
