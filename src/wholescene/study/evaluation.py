"""Mapping every scene of a split whole and scoring each pixel once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wholescene.datasets import Dataset, SceneRecord, load_dataset
from wholescene.errors import DatasetError, ModelFileError
from wholescene.evaluate import (
    EvaluatedScene,
    build_report,
    score_map,
    scores_document,
    write_evaluation,
    write_scores,
)
from wholescene.models import Segmenter, load_model
from wholescene.prediction import predict
from wholescene.progress import Progress
from wholescene.study.scoring import describe_scores

__all__ = ["evaluate_split"]


def evaluate_split(
    dataset: Path,
    model: Path | Segmenter,
    out: Path,
    *,
    split: str = "test",
    erode_px: int = 0,
    boundary_px: int | None = None,
    exclude: tuple[str, ...] = (),
    resume: bool = False,
    progress: Progress | None = None,
    **engine: Any,
) -> tuple[dict[str, Any], str]:
    """Map and score a split; writes ``maps/``, the score files, ``evaluation.json``, a report.

    Args:
        dataset: ``dataset.yaml`` or its folder.
        model: Model directory, or a model.
        out: Folder for everything written.
        split: Split to map. Scenes without labels are mapped, not scored.
        erode_px: Radius around class boundaries that does not score.
        boundary_px: Width of the bands of boundary IoU; ``None`` leaves it out.
        exclude: Classes to report scores without.
        resume: Continue unfinished maps and keep finished ones.
        progress: Called with pixels done and in all.
        engine: Further arguments of :func:`wholescene.predict`.

    Returns:
        The content of ``scores.json`` (empty if nothing is labelled) and a text to print.

    Raises:
        DatasetError: If the split is unknown.
        ModelFileError: If the model's classes are not the dataset's.
    """
    found = load_dataset(dataset)
    scenes = found.split(split)
    network = model if isinstance(model, Segmenter) else load_model(model)
    _check_classes(found, network)
    maps, notes = _map_scenes(
        found, scenes, network, out, resume=resume, progress=progress, engine=engine
    )
    entries = [_entry(found, scene, maps[scene.id]) for scene in scenes]
    write_evaluation(
        out,
        entries,
        dataset=found.spec.name,
        split=split,
        classes=found.classes,
        model=_name(model),
    )
    scored = [
        score_map(
            entry.label,
            maps[entry.id],
            found.classes,
            scene=entry.id,
            erode_px=erode_px,
            boundary_px=boundary_px,
        )
        for entry in entries
        if entry.label is not None
    ]
    if not scored:
        build_report(out)
        text = f"{len(maps)} scenes mapped into {out / 'maps'}; split {split!r} has no labels"
        return {}, "\n".join((*notes, text))
    write_scores(out, scored, exclude=exclude)
    page = build_report(out)
    document = scores_document(scored, exclude=exclude)
    return document, "\n".join((*notes, describe_scores(document), f"report: {page}"))


def _map_scenes(
    dataset: Dataset,
    scenes: tuple[SceneRecord, ...],
    model: Segmenter,
    out: Path,
    *,
    resume: bool,
    progress: Progress | None,
    engine: dict[str, Any],
) -> tuple[dict[str, Path], list[str]]:
    """Map the scenes; give their maps, and notes with the scenes that they are about."""
    maps: dict[str, Path] = {}
    notes: dict[str, list[str]] = {}
    for number, scene in enumerate(scenes):
        path = out / "maps" / f"{scene.id}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        result = predict(
            scene.files,
            model,
            path,
            resume=resume,
            progress=progress and _part(progress, number, len(scenes)),
            **engine,
        )
        maps[scene.id] = path
        for note in result.notes:
            notes.setdefault(note, []).append(scene.id)
    return maps, [f"note ({_named(about)}): {note}" for note, about in notes.items()]


def _named(scenes: list[str]) -> str:
    return ", ".join(scenes) if len(scenes) <= 3 else f"{len(scenes)} scenes"


def _name(model: Path | Segmenter) -> str:
    return str(model.spec.architecture) if isinstance(model, Segmenter) else str(model)


def _part(progress: Progress, number: int, count: int) -> Progress:
    """Count a scene as an equal share of the whole."""
    return lambda done, total: progress(number * total + done, count * total)


def _entry(dataset: Dataset, scene: SceneRecord, label_map: Path) -> EvaluatedScene:
    label = scene.labels[dataset.mask_target()] if dataset.is_labelled(scene) else None
    image = scene.files[dataset.spec.source_names[0]]
    return EvaluatedScene(id=scene.id, image=image, map=label_map, label=label)


def _check_classes(dataset: Dataset, model: Segmenter) -> None:
    ours, theirs = model.spec.class_table, dataset.classes
    if (ours.ids, ours.names) != (theirs.ids, theirs.names):
        raise ModelFileError(
            f"the model maps classes {dict(zip(ours.ids, ours.names, strict=True))}, but dataset "
            f"{dataset.path} has {dict(zip(theirs.ids, theirs.names, strict=True))}; use a model "
            "trained on this class table"
        )
    if not dataset.scenes:
        raise DatasetError(f"{dataset.path} has no scenes")
