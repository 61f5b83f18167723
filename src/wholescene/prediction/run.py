"""Mapping scenes: checks, journal, outputs."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wholescene import __version__
from wholescene.errors import InputError, OutputError, WholesceneError
from wholescene.geometry import Window
from wholescene.models import Segmenter, load_model, model_id
from wholescene.prediction.engine import Engine, Forward, find_device
from wholescene.prediction.options import Options
from wholescene.prediction.outputs import Outputs
from wholescene.prediction.plan import SceneFiles, open_scene, scene_notes
from wholescene.prediction.preview import write_preview
from wholescene.prediction.views import Views
from wholescene.progress import Progress
from wholescene.raster import RowStore, SceneReader, free_disk_check, read_tags

__all__ = ["PredictResult", "predict", "predict_many"]


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
            overlap, batch, device, precision, bands, tta, probabilities, uncertainty.

    Raises:
        InputError: If a setting is out of range.
        ModelFileError: If the model is damaged or does not fit the scene.
        RasterError: If the scene cannot be read.
        OutputError: If the map cannot be written.
        ResumeError: If the unfinished map is of another making.
        UnsupportedError: If the engine is not there, or the network gives NaN.
    """
    started = time.monotonic()
    options = Options(**settings)
    device = find_device(options.device)
    network = load_model(model) if isinstance(model, str | Path) else model
    outputs = Outputs(Path(out), network.spec.class_table, options)
    with open_scene(scene, network.spec, options) as reader:
        engine = options.build_engine(reader.size)
        making = _making(reader, network, options, device)
        mapped = 0
        if not (resume and _is_done(outputs, making)):
            forward = Forward(network, device, options.precision, Views.parse(options.tta))
            mapped = _map(reader, engine, forward, outputs, making, resume, progress)
        if preview is not None:
            write_preview(Path(preview), reader, outputs.path, outputs.classes)
        notes = scene_notes(reader, network.spec)
    seconds = time.monotonic() - started
    return PredictResult(
        engine=options.engine_name,
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
    Options(**settings)
    targets = _targets(scenes, Path(out_dir))
    network = load_model(model) if isinstance(model, str | Path) else model
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
) -> int:
    """Run the engine, store rows as they are finished, publish; give the pixels mapped."""
    size = reader.size
    free_disk_check(outputs.path.parent, outputs.disk_bytes(size))
    with RowStore(outputs.folder, outputs.products, size, making, resume) as store:
        first = store.rows_done
        if first < size.height:
            # Closed at once on Ctrl-C, so that the reading thread ends before the files do.
            with closing(engine.bands(reader, forward, first)) as bands:
                for band in bands:
                    rows = band.probabilities.shape[1]
                    window = Window(row_off=band.row_off, col_off=0, height=rows, width=size.width)
                    outputs.put(store, band.row_off, band.probabilities, reader.valid(window))
                    store.commit(window.row_stop)
                    if progress is not None:
                        progress(window.row_stop * size.width, size.area)
        outputs.publish(store, reader, _tags(making))
        store.remove()
    return (size.height - first) * size.width


def _making(
    reader: SceneReader, model: Segmenter, options: Options, device: torch.device
) -> dict[str, Any]:
    """Everything the bytes of a map depend on."""
    return {
        "scene": reader.fingerprint(),
        "model": model_id(model),
        "version": __version__,
        "threads": torch.get_num_threads(),
        **options.key(device.type),
    }


def _tags(making: Mapping[str, Any]) -> dict[str, str]:
    named = {f"WHOLESCENE_{key.upper()}": str(value) for key, value in making.items()}
    return {"TIFFTAG_SOFTWARE": f"wholescene {__version__}", **named}


def _is_done(outputs: Outputs, making: Mapping[str, Any]) -> bool:
    """Whether every output is there and says it was made just so."""
    wanted = _tags(making)
    files = [outputs.file(product) for product in outputs.products]
    if outputs.folder.exists() or not all(file.is_file() for file in files):
        return False
    return all(wanted.items() <= read_tags(file).items() for file in files)


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


def _stem(scene: SceneFiles) -> str:
    if isinstance(scene, Mapping):
        return _stem(next(iter(scene.values())))
    if isinstance(scene, Sequence) and not isinstance(scene, str):
        return _stem(scene[0])
    return Path(str(scene).split(";")[0]).stem


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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
