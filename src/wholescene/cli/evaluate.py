"""``wholescene evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wholescene.cli.console import finish, progress
from wholescene.cli.options import AsJson, Debug, ModelPath, Resume
from wholescene.cli.predict import (
    Batch,
    Block,
    Device,
    EngineName,
    Memory,
    Overlap,
    Precision,
    Strict,
    Tta,
)

__all__ = ["evaluate"]


def evaluate(
    dataset: Annotated[Path, typer.Option(help="dataset.yaml or its folder.")],
    model: ModelPath,
    out: Annotated[Path, typer.Option(help="Folder for maps, scores and report.")],
    split: Annotated[str, typer.Option(help="Split to map and score.")] = "test",
    engine: EngineName = "auto",
    block: Block = None,
    overlap: Overlap = None,
    batch: Batch = None,
    memory: Memory = None,
    strict: Strict = False,
    device: Device = "auto",
    precision: Precision = "float32",
    tta: Tta = None,
    erode: Annotated[
        int, typer.Option(min=0, help="Ignore pixels this near to a class boundary (px).")
    ] = 0,
    boundary: Annotated[
        int | None, typer.Option(min=1, help="Also boundary IoU, with bands this wide (px).")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Also score without this class (repeatable), e.g. clutter."),
    ] = None,
    resume: Resume = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Map every scene of a split whole and score each pixel once.

    Example: wholescene evaluate --dataset data/dataset.yaml --model runs/first --out runs/eval
    """
    from wholescene.study.evaluation import evaluate_split

    with progress("evaluate", "px") as update:
        scores, text = evaluate_split(
            dataset,
            model,
            out,
            split=split,
            erode_px=erode,
            boundary_px=boundary,
            exclude=tuple(exclude or ()),
            resume=resume,
            progress=update,
            engine=engine,
            block=block,
            overlap=overlap,
            batch=batch,
            memory=memory,
            strict=strict,
            device=device,
            precision=precision,
            tta=tta,
        )
    finish(scores, text, as_json=as_json)
