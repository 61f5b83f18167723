"""Mapping every scene of a split and scoring it; each pixel once, unless a protocol has patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wholescene.datasets import Dataset, SceneRecord, load_dataset
from wholescene.datasets.public.recipe import Recipe, load_recipe, recipe_names
from wholescene.errors import DatasetError, InputError, ModelFileError
from wholescene.evaluate import (
    EvaluatedScene,
    SceneScore,
    build_report,
    count_sizes,
    read_scores,
    score_map,
    write_evaluation,
    write_scores,
)
from wholescene.evaluate.objects import check_sizes
from wholescene.evaluate.protocol import PatchRule, Protocol, load_protocol, store_protocol
from wholescene.models import Segmenter, load_model
from wholescene.prediction import mapper
from wholescene.progress import Progress
from wholescene.study.patch_scoring import score_patches
from wholescene.study.scoring import describe_objects, describe_scores, percent

__all__ = [
    "check_classes",
    "evaluate_split",
    "map_scenes",
    "official_recipe",
    "refuse_together",
]

DEFAULT_SPLIT = "test"
HEADLINES = {"miou": "mIoU", "mf1": "mean F1", "overall_accuracy": "overall accuracy"}


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """Which pixels score."""

    split: str
    target: str | None
    erode_px: int
    exclude: tuple[str, ...]
    protocol: Protocol | None
    boundary_px: int | None = None
    object_sizes: tuple[int, ...] | None = None

    @property
    def patches(self) -> PatchRule | None:
        """How patches are cut; ``None`` for whole scenes."""
        return None if self.protocol is None else self.protocol.patches


def evaluate_split(
    dataset: Path,
    model: Path | Segmenter,
    out: Path,
    *,
    protocol: str | Path | None = None,
    split: str | None = None,
    erode_px: int | None = None,
    boundary_px: int | None = None,
    object_sizes: Sequence[int] | None = None,
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
        protocol: Name or file of a protocol, which then says split, target, erosion, classes and
            patches. One that scores patches leaves no maps.
        split: Split to map; ``None`` for ``test``. Scenes without labels are mapped, not scored.
        erode_px: Radius around class boundaries that does not score.
        boundary_px: Width of the bands of boundary IoU; ``None`` leaves it out.
        object_sizes: Also scores by size of object: the largest size of each group but the last,
            rising, px; ``None`` leaves them out.
        exclude: Classes to report scores without.
        resume: Continue unfinished maps and keep finished ones.
        progress: Called with pixels done and in all; with scenes where patches are scored.
        engine: Further arguments of :func:`wholescene.predict`.

    Returns:
        The content of ``scores.json`` (empty if nothing is labelled) and a text to print.

    Raises:
        DatasetError: If the split is unknown.
        InputError: If the protocol does not fit, another argument contradicts it, or the labels
            of the split are not public.
        ModelFileError: If the model's classes are not the dataset's.
    """
    found = load_dataset(dataset)
    rules = _rules(found, protocol, split, erode_px, exclude)
    rules = replace(rules, boundary_px=boundary_px, object_sizes=_checked(object_sizes))
    scenes = found.split(rules.split)
    labelled = _labelled(found, scenes, rules)
    network = model if isinstance(model, Segmenter) else load_model(model)
    check_classes(found, network)
    engine = {**engine, "resume": resume}
    maps: Mapping[str, Path] = {}
    notes: Sequence[str] = ()
    if rules.patches is not None:
        scored = score_patches(
            found,
            labelled,
            network,
            rules.patches,
            target=rules.target,
            erode_px=rules.erode_px,
            progress=progress,
            boundary=rules.boundary_px,
            object_sizes=rules.object_sizes,
            **engine,
        )
    else:
        maps, notes = map_scenes(scenes, network, out, progress=progress, **engine)
        scored = _score_maps(found, labelled, maps, rules)
    _write_index(out, found, scenes, maps, rules, model)
    if not scored:
        build_report(out)
        text = f"{len(maps)} scenes mapped into {out / 'maps'}; split {rules.split!r} has no labels"
        return {}, "\n".join((*notes, text))
    document = _store(out, scored, rules)
    page = build_report(out)
    notes = (*notes, *_missing(found, rules, len(scored)))
    return document, "\n".join((*notes, *_describe(document), f"report: {page}"))


def map_scenes(
    scenes: Sequence[SceneRecord],
    model: Segmenter,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None,
    **settings: Any,
) -> tuple[dict[str, Path], list[str]]:
    """Map scenes into ``out/maps``.

    Args:
        scenes: Scenes.
        model: The network.
        out: Folder.
        resume: Continue unfinished maps and keep finished ones.
        progress: Called with pixels done and in all.
        settings: Further arguments of :func:`wholescene.predict`.

    Returns:
        Their maps by id, and notes with the scenes they are about.
    """
    maps: dict[str, Path] = {}
    notes: dict[str, list[str]] = {}
    with mapper(model, **settings) as ready:
        for number, scene in enumerate(scenes):
            path = out / "maps" / f"{scene.id}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            part = progress and _part(progress, number, len(scenes))
            result = ready.map(scene.files, path, resume=resume, progress=part)
            maps[scene.id] = path
            for note in result.notes:
                notes.setdefault(note, []).append(scene.id)
    return maps, [f"note ({_named(about)}): {note}" for note, about in notes.items()]


def check_classes(dataset: Dataset, model: Segmenter) -> None:
    """Make sure that a model maps the classes of a dataset.

    Raises:
        DatasetError: If the dataset is empty.
        ModelFileError: If it maps others.
    """
    ours, theirs = model.spec.class_table, dataset.classes
    if (ours.ids, ours.names) != (theirs.ids, theirs.names):
        raise ModelFileError(
            f"the model maps classes {dict(zip(ours.ids, ours.names, strict=True))}, but dataset "
            f"{dataset.path} has {dict(zip(theirs.ids, theirs.names, strict=True))}; use a model "
            "trained on this class table"
        )
    if not dataset.scenes:
        raise DatasetError(f"{dataset.path} has no scenes")


def official_recipe(dataset: Dataset) -> Recipe | None:
    """The recipe whose splits a dataset has under their official names; ``None`` if none."""
    if dataset.spec.name not in recipe_names() or dataset.spec.split_way not in (None, "official"):
        return None
    return load_recipe(dataset.spec.name)


def refuse_together(setting: str, others: Mapping[str, object]) -> None:
    """Refuse settings that contradict another.

    Raises:
        InputError: Naming both.
    """
    for flag, value in others.items():
        if value is not None and value is not False and value != ():
            raise InputError(f"{flag} does not go with {setting}; leave out one of the two")


def _rules(
    dataset: Dataset,
    name: str | Path | None,
    split: str | None,
    erode_px: int | None,
    exclude: tuple[str, ...],
) -> _Rules:
    if name is None:
        return _Rules(
            split=DEFAULT_SPLIT if split is None else split,
            target=None,
            erode_px=erode_px or 0,
            exclude=exclude,
            protocol=None,
        )
    protocol = load_protocol(name)
    refuse_together(
        f"--protocol {protocol.name}, which says that itself",
        {"--split": split, "--erode": erode_px, "--exclude": exclude},
    )
    protocol.check(dataset)
    return _Rules(
        split=protocol.split,
        target=protocol.target,
        erode_px=protocol.erode_px,
        exclude=protocol.named,
        protocol=protocol,
    )


def _checked(sizes: Sequence[int] | None) -> tuple[int, ...] | None:
    """Sizes of objects, looked at before anything is mapped."""
    check_sizes(sizes or ())
    return None if sizes is None else tuple(sizes)


def _labelled(dataset: Dataset, scenes: Sequence[SceneRecord], rules: _Rules) -> list[SceneRecord]:
    """Scenes that can be scored; refuses a split whose labels are not public."""
    recipe = official_recipe(dataset)
    found = [scene for scene in scenes if dataset.is_labelled(scene, rules.target)]
    for split in {scene.split for scene in scenes} - {scene.split for scene in found}:
        if recipe is not None and split in recipe.unlabelled:
            raise InputError(_not_public(recipe, split))
    if not found and rules.protocol is not None:
        raise InputError(
            f"protocol {rules.protocol.name!r} scores split {rules.split!r}, but none of its "
            f"{len(scenes)} scenes in {dataset.path} has a {dataset.mask_target(rules.target)!r}; "
            "prepare the dataset with its labels"
        )
    return found


def _not_public(recipe: Recipe, split: str) -> str:
    has_server = any(form.split == split for form in recipe.submission)
    cure = "write what its server takes with --submission, or " if has_server else ""
    return (
        f"the labels of split {split!r} of {recipe.name} are not public: "
        f"{recipe.unlabelled[split]}; {cure}score a split with labels (--split), or map the scenes "
        "with 'wholescene predict'"
    )


def _missing(dataset: Dataset, rules: _Rules, scored: int) -> list[str]:
    """Say if a protocol's figure is of fewer scenes than there are."""
    recipe = official_recipe(dataset)
    wanted = len(dataset.split(rules.split))
    if recipe is not None:
        left_out = len(recipe.exclude) + len(recipe.may_lack_labels)
        wanted = max(wanted, recipe.counts.get(rules.split, 0) - left_out)
    if rules.protocol is None or scored == wanted:
        return []
    return [
        f"note: {scored} of the {wanted} scenes of split {rules.split!r} were scored; figures of "
        f"protocol {rules.protocol.name} on all of them do not compare"
    ]


def _score_maps(
    dataset: Dataset,
    scenes: Sequence[SceneRecord],
    maps: Mapping[str, Path],
    rules: _Rules,
) -> list[SceneScore]:
    target = dataset.mask_target(rules.target)
    scored = []
    for scene in scenes:
        pair = scene.labels[target], maps[scene.id]
        found = score_map(
            *pair,
            dataset.classes,
            scene=scene.id,
            erode_px=rules.erode_px,
            boundary_px=rules.boundary_px,
        )
        if rules.object_sizes is not None:
            found = replace(found, objects=count_sizes(*pair, dataset.classes, rules.object_sizes))
        scored.append(found)
    return scored


def _write_index(
    out: Path,
    dataset: Dataset,
    scenes: Sequence[SceneRecord],
    maps: Mapping[str, Path],
    rules: _Rules,
    model: Path | Segmenter,
) -> None:
    target = dataset.mask_target(rules.target)
    entries = [
        EvaluatedScene(
            id=scene.id,
            image=scene.files[dataset.spec.source_names[0]],
            map=maps.get(scene.id),
            label=scene.labels.get(target),
        )
        for scene in scenes
    ]
    write_evaluation(
        out,
        entries,
        dataset=dataset.spec.name,
        split=rules.split,
        classes=dataset.classes,
        model=str(model.spec.architecture) if isinstance(model, Segmenter) else str(model),
    )


def _store(out: Path, scored: Sequence[SceneScore], rules: _Rules) -> dict[str, Any]:
    write_scores(out, scored, exclude=rules.exclude)
    if rules.protocol is None:
        return read_scores(out).document
    return store_protocol(out, rules.protocol)


def _describe(document: Mapping[str, Any]) -> list[str]:
    """The protocol's figure, the main scores, and every convention."""
    lines = []
    if "protocol" in document:
        stated = document["protocol"]
        published = [f"{each['model']} {each['value']:.2f}" for each in stated["published"]]
        beside = f" (published: {', '.join(published)})" if published else ""
        figure = f"{HEADLINES[stated['headline']]} {percent(stated['value'])}"
        lines.append(f"protocol {stated['name']}: {figure}{beside}")
    lines.append(describe_scores(dict(document)))
    if document["objects"] is not None:
        lines.append(describe_objects(document["objects"]))
    width = max(len(name) for name in document["conventions"])
    lines.append(f"{'convention':<{width}}    mIoU mean F1      OA")
    for name, row in document["conventions"].items():
        figures = (row["miou"], row["mf1"], row["overall_accuracy"])
        lines.append(f"{name:<{width}} {' '.join(f'{percent(x):>7}' for x in figures)}")
    return lines


def _named(scenes: list[str]) -> str:
    return ", ".join(scenes) if len(scenes) <= 3 else f"{len(scenes)} scenes"


def _part(progress: Progress, number: int, count: int) -> Progress:
    """Count a scene as an equal share of the whole."""
    return lambda done, total: progress(number * total + done, count * total)
