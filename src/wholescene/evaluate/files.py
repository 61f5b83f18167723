"""Scores on disk: ``scores.json``, ``scores.csv`` (per class) and ``scenes.csv`` (per scene)."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from wholescene.errors import InputError, WholesceneError
from wholescene.evaluate.bootstrap import bootstrap_interval
from wholescene.evaluate.boundary import BoundaryTable, boundary_iou
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.index import classes_from_json
from wholescene.evaluate.score_map import SceneScore
from wholescene.evaluate.scores import Summary, iou, per_class, scores_dict, summary
from wholescene.evaluate.sizes import SizeTable, group_name
from wholescene.labels import ClassTable
from wholescene.raster.aside import written_aside

__all__ = [
    "SCORES_CSV",
    "SCORES_JSON",
    "SCENES_CSV",
    "StoredScores",
    "read_scores",
    "scores_document",
    "total_boundary",
    "total_sizes",
    "total_table",
    "write_scores",
]

SCORES_JSON = "scores.json"
SCORES_CSV = "scores.csv"
SCENES_CSV = "scenes.csv"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredScores:
    """What ``scores.json`` holds.

    Args:
        scenes: Counts of each scene.
        document: The file as it stands.
    """

    scenes: tuple[SceneScore, ...]
    document: Json

    @property
    def table(self) -> ConfusionTable:
        """Counts of all scenes together."""
        return total_table(self.scenes)


def total_table(scenes: Sequence[SceneScore]) -> ConfusionTable:
    """Confusion of all scenes together.

    Raises:
        InputError: If there is no scene, or scenes were counted in different ways.
    """
    _check_alike(scenes)
    return reduce(add, (scene.table for scene in scenes))


def total_boundary(scenes: Sequence[SceneScore]) -> BoundaryTable | None:
    """Boundary counts of all scenes together; ``None`` unless every scene has them.

    Raises:
        InputError: If there is no scene, or scenes were counted in different ways.
    """
    _check_alike(scenes)
    tables = [scene.boundary for scene in scenes if scene.boundary is not None]
    return reduce(add, tables) if len(tables) == len(scenes) else None


def total_sizes(scenes: Sequence[SceneScore]) -> SizeTable | None:
    """Objects of all scenes together; ``None`` unless every scene has them.

    Raises:
        InputError: If there is no scene, or scenes were counted in different ways.
    """
    _check_alike(scenes)
    tables = [scene.objects for scene in scenes if scene.objects is not None]
    return reduce(add, tables) if len(tables) == len(scenes) else None


def scores_document(
    scenes: Sequence[SceneScore],
    *,
    exclude: Iterable[str] = (),
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Json:
    """Everything ``scores.json`` says, ready for JSON: undefined figures are ``None``.

    Args:
        scenes: Counts of at least one scene, all counted alike.
        exclude: Classes to report scores without, besides catch-alls such as clutter.
        resamples: Draws of the bootstrap interval over scenes.
        level: Share of the draws inside the interval.
        seed: Seed of the draws.

    Raises:
        InputError: If there is no scene, a name repeats, or scenes were counted differently.
        LabelError: If a name in ``exclude`` is no class.
    """
    total, boundary, objects = total_table(scenes), total_boundary(scenes), total_sizes(scenes)
    interval = bootstrap_interval(
        [scene.table for scene in scenes], resamples=resamples, level=level, seed=seed
    )
    document: Json = {
        **scores_dict(total, exclude=exclude),
        "erode_px": scenes[0].erode_px,
        "boundary": None if boundary is None else _boundary_json(boundary),
        "objects": None if objects is None else objects.to_json(),
        "interval": asdict(interval),
        "scenes": [_scene_json(scene) for scene in scenes],
    }
    return {key: _without_nan(value) for key, value in document.items()}


def write_scores(
    folder: str | Path,
    scenes: Sequence[SceneScore],
    *,
    exclude: Iterable[str] = (),
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Path:
    """Write the three score files; arguments as in ``scores_document``.

    Returns:
        Path of ``scores.json``.

    Raises:
        OutputError: If a file cannot be written.
    """
    document = scores_document(scenes, exclude=exclude, resamples=resamples, level=level, seed=seed)
    texts = {
        SCORES_CSV: _class_csv(document),
        SCENES_CSV: _scene_csv(scenes),
        # Last, so that scores.json never stands beside older tables.
        SCORES_JSON: to_json(document),
    }
    for name, text in texts.items():
        with written_aside(Path(folder) / name) as part:
            part.write_text(text, encoding="utf-8", newline="")
    return Path(folder) / SCORES_JSON


def read_scores(path: str | Path) -> StoredScores:
    """Read ``scores.json``, or the one in a folder.

    Raises:
        InputError: If there is none or it is no score file.
    """
    path = Path(path)
    path = path / SCORES_JSON if path.is_dir() else path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        scenes = _scenes_from(document)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist; write it with `wholescene evaluate` or `wholescene score`"
        ) from error
    except (KeyError, TypeError, ValueError, OSError, WholesceneError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path} is no score file ({what}); write it anew with `wholescene evaluate` or "
            "`wholescene score`"
        ) from error
    return StoredScores(scenes, document)


def to_json(document: Json) -> str:
    """Indented JSON with lists of numbers on one line."""
    text = json.dumps(document, indent=2, allow_nan=False)
    numbers = re.compile(r"\[\s+((?:[-+.\deE]+|null)(?:,\s+(?:[-+.\deE]+|null))*)\s+\]")
    return numbers.sub(lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text) + "\n"


def _check_alike(scenes: Sequence[SceneScore]) -> None:
    if not scenes:
        raise InputError("no scene was scored; give at least one scene with labels")
    radii = sorted({scene.erode_px for scene in scenes})
    if len(radii) > 1:
        raise InputError(
            f"scenes were scored with different erode_px {radii}; score all with one radius"
        )
    names = [scene.scene for scene in scenes]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"scene {', '.join(repeated)} was scored more than once; name each once")


def _boundary_json(table: BoundaryTable) -> Json:
    values = boundary_iou(table)
    present = values[~np.isnan(values)]
    return {
        "boundary_px": table.boundary_px,
        "mean_iou": float(present.mean()) if present.size else None,
        "per_class": {
            name: {
                "iou": float(values[i]),
                "hits": int(table.hits[i]),
                "truth": int(table.truth[i]),
                "map": int(table.guess[i]),
            }
            for i, name in enumerate(table.classes.names)
        },
    }


def _scene_json(scene: SceneScore) -> Json:
    table = scene.table
    return {
        "id": scene.scene,
        **summary(table),
        "scored_pixels": table.scored_pixels,
        "ignored_pixels": table.ignored_pixels,
        "unmapped_pixels": table.unmapped_pixels,
        "confusion": table.table.tolist(),
        "per_class": per_class(table),
        "boundary": None if scene.boundary is None else _boundary_json(scene.boundary),
        "objects": None if scene.objects is None else scene.objects.to_json(),
    }


def _scenes_from(document: Json) -> tuple[SceneScore, ...]:
    classes = classes_from_json(document)
    return tuple(
        SceneScore(
            scene=scene["id"],
            table=ConfusionTable(
                classes,
                np.array(scene["confusion"]),
                unmapped=np.array([scene["per_class"][name]["unmapped"] for name in classes.names]),
                ignored_pixels=scene["ignored_pixels"],
            ),
            boundary=_boundary_from(scene["boundary"], classes),
            objects=SizeTable.from_json(scene["objects"], classes)
            if scene.get("objects") is not None
            else None,
            erode_px=document["erode_px"],
        )
        for scene in document["scenes"]
    )


def _boundary_from(stored: Json | None, classes: ClassTable) -> BoundaryTable | None:
    if stored is None:
        return None
    table = BoundaryTable(classes, stored["boundary_px"])
    rows = [stored["per_class"][name] for name in classes.names]
    table.hits = np.array([row["hits"] for row in rows], np.int64)
    table.truth = np.array([row["truth"] for row in rows], np.int64)
    table.guess = np.array([row["map"] for row in rows], np.int64)
    return table


def _class_csv(document: Json) -> str:
    rows: list[Json] = []
    for cls in document["classes"]:
        row = {"id": cls["id"], "class": cls["name"], **document["per_class"][cls["name"]]}
        if document["boundary"] is not None:
            row["boundary_iou"] = document["boundary"]["per_class"][cls["name"]]["iou"]
        if document["objects"] is not None:
            row |= _size_columns(document["objects"]["per_class"][cls["name"]])
        low, high = document["interval"]["iou"][cls["name"]] or (None, None)
        rows.append({**row, "iou_low": low, "iou_high": high})
    return _csv(rows)


def _size_columns(groups: Sequence[Json]) -> Json:
    """``objects_1-32``, then share found, recall and IoU of the same group, and so on."""
    named = [(group_name(group), group) for group in groups]
    return {
        f"{column}_{name}": group[key]
        for name, group in named
        for column, key in (
            ("objects", "objects"),
            ("objects_found", "found"),
            ("objects_recall", "recall"),
            ("objects_iou", "iou"),
        )
    }


def _scene_csv(scenes: Sequence[SceneScore]) -> str:
    rows: list[Json] = []
    for scene in scenes:
        figures: Summary = summary(scene.table)
        ious = zip(scene.table.classes.names, iou(scene.table), strict=True)
        rows.append(
            {
                "scene": scene.scene,
                "scored_pixels": scene.table.scored_pixels,
                "ignored_pixels": scene.table.ignored_pixels,
                "unmapped_pixels": scene.table.unmapped_pixels,
                **figures,
                **{f"iou_{name}": float(value) for name, value in ious},
            }
        )
    return _csv([_without_nan(row) for row in rows])


def _csv(rows: list[Json]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN; undefined figures become null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
