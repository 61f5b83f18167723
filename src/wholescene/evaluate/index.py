"""``evaluation.json``: which scene was mapped into which file, for the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wholescene.errors import InputError
from wholescene.labels import ClassTable, LabelClass
from wholescene.raster.aside import written_aside

__all__ = [
    "EVALUATION_JSON",
    "EvaluatedScene",
    "Evaluation",
    "classes_from_json",
    "classes_to_json",
    "read_evaluation",
    "write_evaluation",
]

EVALUATION_JSON = "evaluation.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedScene:
    """The files of one mapped scene.

    Args:
        id: Name of the scene.
        image: Files of the source to show: one, or one per band.
        map: Label map; ``None`` if there is none.
        label: Label raster; ``None`` if there is none.
    """

    id: str
    image: tuple[Path, ...]
    map: Path | None = None
    label: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The scenes of one evaluation.

    Args:
        dataset: Name of the dataset.
        split: Name of the split.
        scenes: Its scenes.
        classes: Classes of labels and maps; ``None`` leaves them to ``scores.json``.
        model: Model the maps were made with, in words.
    """

    dataset: str
    split: str
    scenes: tuple[EvaluatedScene, ...]
    classes: ClassTable | None = None
    model: str = ""


def write_evaluation(
    folder: str | Path,
    scenes: Sequence[EvaluatedScene],
    *,
    dataset: str,
    split: str,
    classes: ClassTable | None = None,
    model: str = "",
) -> Path:
    """Write ``evaluation.json``; files inside ``folder`` are stored relative to it.

    Args:
        folder: Where to write it.
        scenes: The mapped scenes.
        dataset: Name of the dataset.
        split: Name of the split.
        classes: Classes of labels and maps; needed to show maps of a split without labels.
        model: Model the maps were made with, in words.

    Returns:
        Path of the file.

    Raises:
        OutputError: If it cannot be written.
    """
    folder = Path(folder)
    document: dict[str, Any] = {
        "dataset": dataset,
        "split": split,
        "model": model,
        **({} if classes is None else classes_to_json(classes)),
        "scenes": [
            {
                "id": scene.id,
                "image": [_stored(path, folder) for path in scene.image],
                "label": None if scene.label is None else _stored(scene.label, folder),
                "map": None if scene.map is None else _stored(scene.map, folder),
            }
            for scene in scenes
        ],
    }
    with written_aside(folder / EVALUATION_JSON) as part:
        part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return folder / EVALUATION_JSON


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read ``evaluation.json`` of a folder; an image may be one path or a list of them.

    Raises:
        InputError: If there is none or it is damaged.
    """
    path = Path(folder) / EVALUATION_JSON
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Evaluation(
            dataset=str(document["dataset"]),
            split=str(document["split"]),
            scenes=tuple(_scene(item, path.parent) for item in document["scenes"]),
            classes=classes_from_json(document) if "classes" in document else None,
            model=str(document.get("model", "")),
        )
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; `wholescene evaluate` writes it") from error
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path} cannot be read ({what}); write it anew with `wholescene evaluate`"
        ) from error


def classes_to_json(classes: ClassTable) -> dict[str, Any]:
    """Classes and ignore id as every file of this room stores them."""
    listed = [{"id": c.id, "name": c.name, "color": list(c.color)} for c in classes.classes]
    return {"classes": listed, "ignore_id": classes.ignore_id}


def classes_from_json(document: dict[str, Any]) -> ClassTable:
    """Inverse of ``classes_to_json``.

    Raises:
        KeyError: If an entry is missing.
        LabelError: If the classes contradict each other.
    """
    classes = tuple(
        LabelClass(id=c["id"], name=c["name"], color=tuple(c["color"])) for c in document["classes"]
    )
    return ClassTable(classes, document.get("ignore_id"))


def _scene(item: dict[str, Any], folder: Path) -> EvaluatedScene:
    images = [item["image"]] if isinstance(item["image"], str) else item["image"]
    return EvaluatedScene(
        id=str(item["id"]),
        image=tuple(folder / path for path in images),
        map=folder / item["map"] if item.get("map") else None,
        label=folder / item["label"] if item.get("label") else None,
    )


def _stored(path: Path, folder: Path) -> str:
    full, root = path.resolve(), folder.resolve()
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else full.as_posix()
