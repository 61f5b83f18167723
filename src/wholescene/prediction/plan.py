"""What a prediction would do, worked out before a pixel is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wholescene.errors import ModelFileError
from wholescene.geometry import Size
from wholescene.models import ModelSpec, Segmenter, load_model
from wholescene.prediction.engine import Engine, find_device
from wholescene.prediction.options import Options
from wholescene.prediction.outputs import Outputs
from wholescene.prediction.views import Views
from wholescene.raster import SceneReader

__all__ = ["PredictionPlan", "SceneFiles", "open_scene", "plan_prediction"]

SceneFiles = str | Path | Sequence[str | Path] | Mapping[str, Sequence[str | Path]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionPlan:
    """What would be done.

    Args:
        size: Scene.
        bands: Bands read, in the model's order.
        engine: The engine, in words.
        blocks: Units of work.
        views: Forward passes per window.
        device: Where the network runs.
        working_bytes: Memory besides the model and its activations.
        model_bytes: Memory of the weights.
        disk_bytes: Most disk that unfinished and finished files take together.
        notes: What the user should know.
    """

    size: Size
    bands: tuple[str, ...]
    engine: str
    blocks: int
    views: int
    device: str
    working_bytes: int
    model_bytes: int
    disk_bytes: int
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        names = self.__dataclass_fields__
        return {name: getattr(self, name) for name in names}

    def describe(self) -> str:
        """A text to print."""
        lines = [
            f"scene    {self.size}, bands {', '.join(self.bands)}",
            f"engine   {self.engine}",
            f"device   {self.device}, {self.views} forward pass(es) per window",
            f"memory   {_mib(self.model_bytes)} weights + {_mib(self.working_bytes)} buffers + "
            "activations of one batch",
            f"disk     up to {_mib(self.disk_bytes)} until the map is finished",
            *(f"note     {note}" for note in self.notes),
        ]
        return "\n".join(lines)


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
    """
    options = Options(**settings)
    network = model if isinstance(model, torch.nn.Module) else load_model(model)
    device = find_device(options.device)
    with open_scene(scene, network.spec, options) as reader:
        engine = options.build_engine(reader.size)
        return describe_plan(reader, network, engine, options, device)


def describe_plan(
    reader: SceneReader,
    model: Segmenter,
    engine: Engine,
    options: Options,
    device: torch.device,
) -> PredictionPlan:
    """Work out a plan for an open scene."""
    spec = model.spec
    return PredictionPlan(
        size=reader.size,
        bands=reader.band_names,
        engine=engine.describe(),
        blocks=engine.num_blocks,
        views=Views.parse(options.tta).count,
        device=str(device),
        working_bytes=engine.working_bytes(spec.num_bands, len(spec.classes)),
        model_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        disk_bytes=Outputs(Path("map.tif"), spec.class_table, options).disk_bytes(reader.size),
        notes=scene_notes(reader, spec),
    )


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


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
