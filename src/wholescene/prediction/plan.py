"""What a prediction would do, worked out before a pixel is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from wholescene.errors import ModelFileError, UnsupportedError
from wholescene.geometry import Size
from wholescene.models import ModelSpec, Segmenter, load_model
from wholescene.prediction.budget import size_text
from wholescene.prediction.choice import choose_engine, forward_plan, weight_bytes
from wholescene.prediction.engine import PRECISIONS, Engine, borrowed, find_device
from wholescene.prediction.options import Options
from wholescene.prediction.outputs import Outputs
from wholescene.prediction.refined import RefinedEngine
from wholescene.prediction.sharded import ShardedEngine
from wholescene.prediction.speed import multiply_adds_per_second
from wholescene.prediction.streamed import StreamedEngine
from wholescene.prediction.views import Views
from wholescene.prediction.whole import WholeEngine
from wholescene.prediction.windowed import WindowedEngine
from wholescene.raster import SceneReader
from wholescene.spatial.plan import Note, Plan

__all__ = ["PredictionPlan", "SceneFiles", "open_scene", "plan_prediction"]

SceneFiles = str | Path | Sequence[str | Path] | Mapping[str, Sequence[str | Path]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionPlan:
    """What would be done.

    Args:
        size: Scene.
        bands: Bands read, in the model's order.
        engine: whole | streamed | windowed.
        reason: Why this engine.
        work: What it does, in words.
        blocks: Units of work.
        sweeps: Passes over the scene.
        views: Forward passes per window.
        device: Where the network runs.
        precision: In which type.
        breakers: Layers that must see the whole scene before others go on.
        fallbacks: Layers without a rule: exact, but their inputs are held whole.
        model_bytes: Memory of the weights.
        activation_bytes: Estimated peak of the network's layers; ``None`` if it cannot be traced.
        idle_bytes: Free memory that may stay with the process besides, because that is faster.
        working_bytes: Memory of everything else: rows, regions, windows.
        spill_bytes: Values kept in files between sweeps.
        disk_bytes: Most disk that unfinished and finished files take together.
        multiply_adds: Over the whole scene; ``None`` if the network cannot be traced.
        seconds: Rough time, from the speed of one convolution; ``None`` likewise.
        notes: What the user should know.
    """

    size: Size
    bands: tuple[str, ...]
    engine: str
    reason: str
    work: str
    blocks: int
    sweeps: int
    views: int
    device: str
    precision: str
    breakers: tuple[Note, ...]
    fallbacks: tuple[Note, ...]
    model_bytes: int
    activation_bytes: int | None
    idle_bytes: int
    working_bytes: int
    spill_bytes: int
    disk_bytes: int
    multiply_adds: int | None
    seconds: float | None
    notes: tuple[str, ...]

    @property
    def memory_bytes(self) -> int | None:
        """Estimated peak in all."""
        if self.activation_bytes is None:
            return None
        return self.model_bytes + self.activation_bytes + self.working_bytes

    def facts(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return {**asdict(self), "memory_bytes": self.memory_bytes}

    def describe(self) -> str:
        """A text to print."""
        lines = [
            f"scene    {self.size}, bands {', '.join(self.bands)}",
            f"engine   {self.work}",
            f"because  {self.reason}",
            f"device   {self.device}, {self.precision}, {self.views} forward pass(es) per "
            f"{'window' if self.engine == 'windowed' else 'scene'}",
            f"memory   {self._memory()}",
            f"disk     up to {size_text(self.disk_bytes)} until the map is finished, "
            f"{size_text(self.spill_bytes)} of it for values kept between sweeps",
            f"time     {self._time()}",
        ]
        if self.engine == "streamed":
            lines += _listed("layers that wait for the whole scene", self.breakers)
            lines += _listed("layers without a rule, whose inputs are held whole", self.fallbacks)
        return "\n".join([*lines, *(f"note     {note}" for note in self.notes)])

    def _memory(self) -> str:
        layers = "unknown" if self.activation_bytes is None else size_text(self.activation_bytes)
        total = "" if self.memory_bytes is None else f"about {size_text(self.memory_bytes)}: "
        idle = (
            f"; up to {size_text(self.idle_bytes)} freed is kept, for speed"
            if self.idle_bytes
            else ""
        )
        return (
            f"{total}{size_text(self.model_bytes)} weights + {layers} layers + "
            f"{size_text(self.working_bytes)} buffers{idle}"
        )

    def _time(self) -> str:
        if self.multiply_adds is None or self.seconds is None:
            return "unknown: the network cannot be traced"
        return (
            f"roughly {_duration(self.seconds)} for {self.multiply_adds / 1e12:.3g} tera "
            "multiply-adds, from the speed of one convolution here; expect 0.5 to 3 times that"
        )


def plan_prediction(
    scene: SceneFiles, model: Segmenter | str | Path, **settings: Any
) -> PredictionPlan:
    """Check what :func:`predict` would check, and say what it would do; reads no pixels.

    Args:
        scene: As for ``predict``.
        model: As for ``predict``.
        settings: Fields of :class:`~wholescene.prediction.options.Options`.

    Raises:
        InputError: If a setting is out of range.
        ModelFileError: If the model does not fit the scene.
        RasterError: If the scene cannot be opened.
        UnsupportedError: If the network cannot be traced, or ``strict`` refuses a layer.
    """
    options = Options(**settings)
    network = load_model(model) if isinstance(model, str | Path) else model
    device = find_device(options.device)
    with open_scene(scene, network.spec, options) as reader, borrowed(network, device):
        return _describe(reader, network, options, device)


def _describe(
    reader: SceneReader, model: Segmenter, options: Options, device: torch.device
) -> PredictionPlan:
    choice = choose_engine(options, model, reader.size, device)
    engine, spec = choice.engine, model.spec
    views, plan, passes = Views.parse(options.tta).count, *_network_plan(engine, model)
    multiply_adds = None if plan is None else round(plan.multiply_adds * passes * views)
    disk_bytes = Outputs(Path("map.tif"), spec.class_table, options).disk_bytes(reader.size)
    ranks = engine.ranks if isinstance(engine, ShardedEngine) else 1
    rate = ranks * multiply_adds_per_second(device, PRECISIONS[options.precision])
    return PredictionPlan(
        size=reader.size,
        bands=reader.band_names,
        engine=engine.name,
        reason=choice.reason,
        work=engine.describe(),
        blocks=engine.num_blocks,
        sweeps=plan.sweeps if plan is not None else 1,
        views=views,
        device=str(device),
        precision=options.precision,
        breakers=() if plan is None else plan.breakers,
        fallbacks=() if plan is None else plan.fallbacks,
        model_bytes=weight_bytes(model),
        activation_bytes=None if plan is None else plan.peak_bytes // ranks,
        idle_bytes=0 if plan is None else plan.idle_bytes,
        working_bytes=engine.working_bytes(spec.num_bands, len(spec.classes)),
        spill_bytes=engine.disk_bytes,
        disk_bytes=disk_bytes + engine.disk_bytes,
        multiply_adds=multiply_adds,
        seconds=None if multiply_adds is None else multiply_adds / rate,
        notes=(*choice.notes, *scene_notes(reader, spec)),
    )


def _network_plan(engine: Engine | ShardedEngine, model: Segmenter) -> tuple[Plan | None, float]:
    """Plan of the network, and how often that is done; none if it cannot be traced."""
    bands = model.spec.num_bands
    if isinstance(engine, RefinedEngine):  # which windows are refined shows in the pixels only
        return _network_plan(engine.inner, engine.coarse)
    if isinstance(engine, StreamedEngine | ShardedEngine):
        return engine.plan, 1
    try:
        if isinstance(engine, WindowedEngine):
            batch = min(engine.batch, len(engine.col_starts))
            plan = forward_plan(model, (batch, bands, *engine.block))
            return plan, engine.num_blocks / batch
        assert isinstance(engine, WholeEngine)
        return forward_plan(model, (1, bands, *engine.size)), 1
    except UnsupportedError:  # these engines do without
        return None, 1


def open_scene(scene: SceneFiles, spec: ModelSpec, options: Options) -> SceneReader:
    """Open a scene with the bands a model wants.

    Raises:
        ModelFileError: If ``bands`` names another number of bands than the model takes.
        RasterError: If the scene cannot be opened or lacks bands.
    """
    first = spec.sources[0].bands or ()
    if options.bands is not None and len(options.bands) != len(first):
        raise ModelFileError(
            f"--bands names {len(options.bands)} bands, but the model takes {len(first)} from "
            f"source {spec.sources[0].name!r}: {', '.join(band.name for band in first)}"
        )
    return SceneReader(scene, spec.sources, bands=options.bands)


def scene_notes(reader: SceneReader, spec: ModelSpec) -> tuple[str, ...]:
    """What makes a scene unlike those the model was trained on."""
    if reader.gsd_m is None or spec.gsd_m is None:
        return ()
    ratio = reader.gsd_m / spec.gsd_m
    if 0.5 <= ratio <= 2:
        return ()
    return (
        f"the scene has {reader.gsd_m:.3g} m per pixel, the model was trained at "
        f"{spec.gsd_m:.3g} m; expect worse maps, or resample the scene first",
    )


def _listed(title: str, notes: tuple[Note, ...]) -> list[str]:
    return [f"{title}: {len(notes) or 'none'}", *(f"  {note}" for note in notes)]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
