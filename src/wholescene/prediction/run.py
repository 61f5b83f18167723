"""Mapping one scene, or several into a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wholescene.errors import InputError, OutputError, WholesceneError
from wholescene.models import Segmenter
from wholescene.prediction.mapping import PredictResult, mapper
from wholescene.prediction.options import Options
from wholescene.prediction.outputs import Outputs, refuse_overwriting
from wholescene.prediction.plan import SceneFiles
from wholescene.progress import Progress

__all__ = ["predict", "predict_many"]


def predict(
    scene: SceneFiles,
    model: Segmenter | str | Path,
    out: str | Path,
    *,
    preview: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> PredictResult:
    """Map one scene: a COG of class ids with palette and names, its footprint that of the scene.

    The map appears under its name when it is complete. Until then it lives in ``<out>.part``; with
    ``resume=True`` a call with the same scene, model and settings continues there and ends with
    the same bytes.

    Args:
        scene: A path; ``"red.tif;nir.tif"``, one file per band; or paths by source name.
        model: A model, or its directory, ``.zip`` or run directory.
        out: The map, ``.tif``.
        preview: PNG of image, classes and overlay.
        resume: Continue an unfinished map; keep a finished one of the same making.
        progress: Called with pixels done and in all.
        settings: Fields of :class:`~wholescene.prediction.options.Options`: engine, block,
            overlap, batch, memory, strict, device, precision, bands, tta, probabilities,
            uncertainty.

    Raises:
        InputError: If a setting is out of range.
        ModelFileError: If the model is damaged or does not fit the scene.
        RasterError: If the scene cannot be read.
        OutputError: If the map cannot be written.
        ResumeError: If the unfinished map is of another making.
        UnsupportedError: If the engine is not there, the network cannot be traced for it, or the
            network gives NaN.
    """
    with mapper(model, **settings) as ready:
        return ready.map(scene, out, preview=preview, resume=resume, progress=progress)


def predict_many(
    scenes: Sequence[SceneFiles],
    model: Segmenter | str | Path,
    out_dir: str | Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> list[PredictResult]:
    """Map several scenes into a folder, each under its own name; arguments as for ``predict``.

    A scene that fails does not stop the others; all failures are reported together at the end.

    Raises:
        InputError: If no scene is given or two would have one name, before any work.
        WholesceneError: If scenes failed, naming each with its reason.
    """
    targets = _targets(scenes, Path(out_dir))
    results: list[PredictResult] = []
    failures: list[str] = []
    with mapper(model, **settings) as ready:
        _check_apart(targets, ready.model, ready.options)
        for number, (target, scene) in enumerate(targets.items()):
            part = progress and _share(progress, number, len(targets))
            try:
                results.append(ready.map(scene, target, resume=resume, progress=part))
            except WholesceneError as error:
                failures.append(f"{target.name}: {error}")
    if failures:
        raise WholesceneError(
            f"{len(failures)} of {len(targets)} scenes failed, the others are mapped:\n"
            + "\n".join(failures)
        )
    return results


def _targets(scenes: Sequence[SceneFiles], folder: Path) -> dict[Path, SceneFiles]:
    if not scenes:
        raise InputError("no scene to map; give at least one")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; several scenes need --out to be a folder")
    targets: dict[Path, SceneFiles] = {}
    for scene in scenes:
        target = folder / f"{_stem(scene)}.tif"
        if target in targets:
            raise InputError(
                f"scenes {targets[target]} and {scene} would both become {target}; map them in two "
                "calls with different --out"
            )
        targets[target] = scene
    return targets


def _check_apart(targets: Mapping[Path, SceneFiles], model: Segmenter, options: Options) -> None:
    """Refuse files that would be written twice, or written over a scene, before any work."""
    inputs = [path for scene in targets.values() for path in _paths(scene)]
    owners: dict[Path, Path] = {}
    for target in targets:
        files = Outputs(target, model.spec.class_table, options).files
        refuse_overwriting(files, inputs)
        for file in files:
            if file in owners:
                raise InputError(
                    f"{file} would be written for both {owners[file]} and {target}; map the two "
                    "scenes in two calls with different --out"
                )
            owners[file] = target


def _paths(scene: SceneFiles) -> Iterator[Path]:
    """Files of a scene, whichever way they are given."""
    if isinstance(scene, Mapping):
        for files in scene.values():
            yield from _paths(files)
    elif isinstance(scene, Sequence) and not isinstance(scene, str):
        for file in scene:
            yield from _paths(file)
    else:
        yield from map(Path, str(scene).split(";"))


def _stem(scene: SceneFiles) -> str:
    return next(_paths(scene)).stem


def _share(progress: Progress, number: int, count: int) -> Progress:
    """Count one scene as an equal share of all."""

    def part(done: int, total: int, /) -> None:
        progress(number * total + done, count * total)

    return part
