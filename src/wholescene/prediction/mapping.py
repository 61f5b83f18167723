"""Mapping scenes with one model: checks, journal, outputs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wholescene import __version__
from wholescene.geometry import Size, Window
from wholescene.heap import steady_heap
from wholescene.launch import launched
from wholescene.models import Segmenter, load_model, model_id
from wholescene.prediction.choice import Choice, choose_engine
from wholescene.prediction.engine import Band, Engine, Forward, borrowed, find_device
from wholescene.prediction.options import Options
from wholescene.prediction.outputs import Outputs, refuse_overwriting
from wholescene.prediction.plan import SceneFiles, open_scene, scene_notes
from wholescene.prediction.preview import write_preview
from wholescene.prediction.sharded import ShardedEngine, ShardedMap, map_sharded
from wholescene.prediction.views import Views
from wholescene.progress import Progress
from wholescene.raster import RowStore, SceneReader, free_disk_check, read_tags

__all__ = ["Mapper", "PredictResult", "mapper"]

ROWS_AT_ONCE = 128
"""Rows turned into classes and bytes at once."""

NO_DATA = "the scene has no valid pixel, so the map is all nodata; check its nodata value and mask"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """A finished map.

    Args:
        engine: Engine that ran.
        seconds: Time of this call, without loading the model.
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


@contextmanager
def mapper(model: Segmenter | str | Path, **settings: Any) -> Iterator[Mapper]:
    """A model on its device, ready to map scenes one after the other; given back at the end.

    Args:
        model: A model, or its directory, ``.zip`` or run directory.
        settings: As for :func:`wholescene.predict`.

    Raises:
        InputError: If a setting is out of range.
        ModelFileError: If the model is damaged.
    """
    options = Options(**settings)
    device = find_device(options.device)
    network = load_model(model) if isinstance(model, str | Path) else model
    with borrowed(network, device):
        yield Mapper(network, options, device)


class Mapper:
    """Maps scenes with a model that does not change meanwhile; see :func:`mapper`.

    Tracing a network takes seconds, so what is made ready for a scene serves the next one too if
    that has the same size.

    Args:
        model: The network, evaluated and on ``device``.
        options: What the user asked for.
        device: Where it runs.
    """

    def __init__(self, model: Segmenter, options: Options, device: torch.device) -> None:
        self.model, self.options, self.device = model, options, device
        self._last: tuple[Size, Choice] | None = None

    def map(
        self,
        scene: SceneFiles,
        out: str | Path,
        *,
        preview: str | Path | None = None,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> PredictResult:
        """Map one scene; arguments, result and errors as for :func:`wholescene.predict`."""
        started = time.monotonic()
        outputs = Outputs(Path(out), self.model.spec.class_table, self.options)
        with open_scene(scene, self.model.spec, self.options) as reader:
            pictures = () if preview is None else (Path(preview),)
            refuse_overwriting((*outputs.files, *pictures), reader.paths)
            choice = self._choose(reader.size)
            engine = choice.engine
            making = self._making(reader, engine)
            notes = (*choice.notes, *scene_notes(reader, self.model.spec))
            if resume and _is_done(outputs, making):
                mapped, has_data = 0, True
            elif isinstance(engine, ShardedEngine):
                _check_disk(outputs, reader.size, more=outputs.raw_bytes(reader.size))
                task = self._shared_task(scene, outputs, making, resume)
                mapped, has_data = reader.size.area, map_sharded(task, engine.ranks, progress)
            else:
                mapped, has_data = _map(
                    reader, engine, self._forward, outputs, making, resume, progress
                )
            for picture in pictures if launched()[0] == 0 else ():
                write_preview(picture, reader, outputs.path, outputs.classes)
        seconds = time.monotonic() - started
        on_cuda = self.device.type == "cuda"
        return PredictResult(
            engine=engine.name,
            seconds=seconds,
            pixels=mapped,
            pixels_per_second=mapped / max(seconds, 1e-9),
            peak_rss_bytes=_peak_rss_bytes(),
            peak_device_bytes=torch.cuda.max_memory_allocated(self.device) if on_cuda else 0,
            blocks=engine.num_blocks,
            output=outputs.path,
            notes=notes if has_data else (*notes, NO_DATA),
        )

    def _choose(self, size: Size) -> Choice:
        """The engine for scenes of a size, made ready once for scenes in a row."""
        if self._last is None or self._last[0] != size:
            self._last = None  # lets its memory go before more is taken
            self._last = size, choose_engine(self.options, self.model, size, self.device)
        return self._last[1]

    @cached_property
    def _model_id(self) -> str:
        return model_id(self.model)

    @property
    def _forward(self) -> Forward:
        options = self.options
        return Forward(self.model, self.device, options.precision, Views.parse(options.tta))

    def _shared_task(
        self, scene: SceneFiles, outputs: Outputs, making: Mapping[str, Any], resume: bool
    ) -> ShardedMap:
        return ShardedMap(
            open_scene=partial(open_scene, scene, self.model.spec, self.options),
            model=self.model,
            outputs=outputs,
            making=making,
            tags=_tags(making),
            device=self.device,
            precision=self.options.precision,
            resume=resume,
        )

    def _making(self, reader: SceneReader, engine: Engine | ShardedEngine) -> dict[str, Any]:
        """Everything the bytes of a map depend on."""
        return {
            "scene": reader.fingerprint(),
            "model": self._model_id,
            "version": __version__,
            "threads": torch.get_num_threads(),
            **self.options.key(engine, self.device.type),
        }


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


def _tags(making: Mapping[str, Any]) -> dict[str, str]:
    named = {f"WHOLESCENE_{key.upper()}": str(value) for key, value in making.items()}
    return {"TIFFTAG_SOFTWARE": f"wholescene {__version__}", **named}


def _is_done(outputs: Outputs, making: Mapping[str, Any]) -> bool:
    """Whether every output is there and says it was made just so."""
    wanted = _tags(making)
    if outputs.folder.exists() or not all(file.is_file() for file in outputs.files):
        return False
    return all(wanted.items() <= read_tags(file).items() for file in outputs.files)


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
