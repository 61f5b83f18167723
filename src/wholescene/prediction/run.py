"""Mapping scenes: checks, journal, outputs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wholescene import __version__
from wholescene.errors import InputError, OutputError, WholesceneError
from wholescene.geometry import Size, Window
from wholescene.heap import steady_heap
from wholescene.launch import launched
from wholescene.models import Segmenter, load_model, model_id
from wholescene.prediction.choice import choose_engine
from wholescene.prediction.engine import Band, Engine, Forward, borrowed, find_device
from wholescene.prediction.options import Options
from wholescene.prediction.outputs import Outputs, refuse_overwriting
from wholescene.prediction.plan import SceneFiles, open_scene, scene_notes
from wholescene.prediction.preview import write_preview
from wholescene.prediction.sharded import ShardedEngine, ShardedMap, map_sharded
from wholescene.prediction.views import Views
from wholescene.progress import Progress
from wholescene.raster import RowStore, SceneReader, free_disk_check, read_tags

__all__ = ["PredictResult", "predict", "predict_many"]

ROWS_AT_ONCE = 128
"""Rows turned into classes and bytes at once."""

NO_DATA = "the scene has no valid pixel, so the map is all nodata; check its nodata value and mask"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """A finished map.

    Args:
        engine: Engine that ran.
        seconds: Time of this call.
        pixels: Pixels mapped by this call (fewer than the scene's after a resume).
        pixels_per_second: Their rate.
        peak_rss_bytes: Highest resident memory of the process so far.
        peak_device_bytes: Highest memory of the CUDA device; 0 on a CPU.
        blocks: Units of work of the whole scene.
        output: The map.
        notes: What the user should know.
    """

    engine: str
    seconds: float
    pixels: int
    pixels_per_second: float
    peak_rss_bytes: int
    peak_device_bytes: int
    blocks: int
    output: Path
    notes: tuple[str, ...] = ()


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
    started = time.monotonic()
    options = Options(**settings)
    device = find_device(options.device)
    network = load_model(model) if isinstance(model, str | Path) else model
    outputs = Outputs(Path(out), network.spec.class_table, options)
    with open_scene(scene, network.spec, options) as reader, borrowed(network, device):
        pictures = () if preview is None else (Path(preview),)
        refuse_overwriting((*outputs.files, *pictures), reader.paths)
        choice = choose_engine(options, network, reader.size, device)
        engine = choice.engine
        making = _making(reader, network, options.key(engine, device.type))
        notes = (*choice.notes, *scene_notes(reader, network.spec))
        mapped = 0
        if resume and _is_done(outputs, making):
            pass
        elif isinstance(engine, ShardedEngine):
            _check_disk(outputs, reader.size, more=outputs.raw_bytes(reader.size))
            task = ShardedMap(
                open_scene=partial(open_scene, scene, network.spec, options),
                model=network,
                outputs=outputs,
                making=making,
                tags=_tags(making),
                device=device,
                precision=options.precision,
                resume=resume,
            )
            mapped, has_data = reader.size.area, map_sharded(task, engine.ranks, progress)
            notes = notes if has_data else (*notes, NO_DATA)
        else:
            forward = Forward(network, device, options.precision, Views.parse(options.tta))
            mapped, has_data = _map(reader, engine, forward, outputs, making, resume, progress)
            notes = notes if has_data else (*notes, NO_DATA)
        for picture in pictures if launched()[0] == 0 else ():
            write_preview(picture, reader, outputs.path, outputs.classes)
    seconds = time.monotonic() - started
    return PredictResult(
        engine=engine.name,
        seconds=seconds,
        pixels=mapped,
        pixels_per_second=mapped / max(seconds, 1e-9),
        peak_rss_bytes=_peak_rss_bytes(),
        peak_device_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
        blocks=engine.num_blocks,
        output=outputs.path,
        notes=notes,
    )


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
    options = Options(**settings)
    targets = _targets(scenes, Path(out_dir))
    network = load_model(model) if isinstance(model, str | Path) else model
    _check_apart(targets, network, options)
    results: list[PredictResult] = []
    failures: list[str] = []
    for number, (target, scene) in enumerate(targets.items()):
        part = progress and _share(progress, number, len(targets))
        try:
            results.append(
                predict(scene, network, target, resume=resume, progress=part, **settings)
            )
        except WholesceneError as error:
            failures.append(f"{target.name}: {error}")
    if failures:
        raise WholesceneError(
            f"{len(failures)} of {len(targets)} scenes failed, the others are mapped:\n"
            + "\n".join(failures)
        )
    return results


def _map(
    reader: SceneReader,
    engine: Engine,
    forward: Forward,
    outputs: Outputs,
    making: Mapping[str, Any],
    resume: bool,
    progress: Progress | None,
) -> tuple[int, bool]:
    """Run the engine, store rows as they are finished, publish.

    Returns:
        Pixels mapped, and whether the scene has any data.
    """
    size = reader.size
    _check_disk(outputs, size, more=engine.disk_bytes, file_bytes=engine.file_bytes)
    has_data = False
    with (
        steady_heap(),
        RowStore(outputs.folder, outputs.products, size, making, resume) as store,
    ):
        first = store.rows_done
        if first < size.height:
            # Closed at once on Ctrl-C, so that the reading thread ends before the files do.
            with closing(engine.bands(reader, forward, first, store.scratch)) as bands:
                for band in bands:
                    for part in band.parts(ROWS_AT_ONCE):
                        valid = _valid_rows(reader, part)
                        has_data = has_data or bool(valid.any())
                        outputs.put(store, part.row_off, part.probabilities, valid)
                    if band.has_rows:
                        store.commit(band.row_stop)
                    if progress is not None:
                        progress(round(band.share_of(size.height) * size.area), size.area)
        outputs.publish(store, reader, _tags(making))
        store.remove()
    # Rows of an earlier call are looked at only if this one saw nothing.
    above = (w for w in reader.windows() if w.row_off < first)
    has_data = has_data or any(reader.valid(window).any() for window in above)
    return (size.height - first) * size.width, has_data


def _check_disk(outputs: Outputs, size: Size, *, more: int = 0, file_bytes: int = 0) -> None:
    needed = max(0, outputs.disk_bytes(size) + more - outputs.held_bytes)
    largest = max(outputs.file_bytes(size), file_bytes)
    free_disk_check(outputs.path.parent, needed, file_bytes=largest)


def _valid_rows(reader: SceneReader, band: Band) -> NDArray[np.bool_]:
    rows = slice(band.row_off, band.row_stop)
    return reader.valid(Window.from_slices(rows, slice(0, reader.size.width)))


def _making(reader: SceneReader, model: Segmenter, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the bytes of a map depend on."""
    return {
        "scene": reader.fingerprint(),
        "model": model_id(model),
        "version": __version__,
        "threads": torch.get_num_threads(),
        **settings,
    }


def _tags(making: Mapping[str, Any]) -> dict[str, str]:
    named = {f"WHOLESCENE_{key.upper()}": str(value) for key, value in making.items()}
    return {"TIFFTAG_SOFTWARE": f"wholescene {__version__}", **named}


def _is_done(outputs: Outputs, making: Mapping[str, Any]) -> bool:
    """Whether every output is there and says it was made just so."""
    wanted = _tags(making)
    if outputs.folder.exists() or not all(file.is_file() for file in outputs.files):
        return False
    return all(wanted.items() <= read_tags(file).items() for file in outputs.files)


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


def _peak_rss_bytes() -> int:
    """Highest resident memory; Linux's ru_maxrss may be that of the parent process instead."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows keeps no such count
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
