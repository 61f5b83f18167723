"""``wholescene plan``."""

from __future__ import annotations

from typing import Annotated

import typer

from wholescene.cli.console import finish
from wholescene.cli.options import AsJson, Debug, ModelPath
from wholescene.cli.predict import (
    Bands,
    Batch,
    Block,
    Device,
    EngineName,
    Memory,
    Overlap,
    Precision,
    Ranks,
    Strict,
    Tta,
    parse_bands,
)

__all__ = ["plan"]


def plan(
    scene: Annotated[str, typer.Argument(help="Raster to be mapped.")],
    model: ModelPath,
    engine: EngineName = "auto",
    block: Block = None,
    overlap: Overlap = None,
    batch: Batch = None,
    memory: Memory = None,
    strict: Strict = False,
    ranks: Ranks = None,
    device: Device = "auto",
    precision: Precision = "float32",
    bands: Bands = None,
    tta: Tta = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what predict would do: engine, blocks, layers, memory, time. Reads no pixels.

    Example: wholescene plan scene.tif --model runs/first
    """
    from wholescene.prediction import plan_prediction

    found = plan_prediction(
        scene,
        model,
        engine=engine,
        block=block,
        overlap=overlap,
        batch=batch,
        memory=memory,
        strict=strict,
        ranks=ranks,
        device=device,
        precision=precision,
        bands=parse_bands(bands),
        tta=tta,
    )
    finish(found.facts(), found.describe(), as_json=as_json)
