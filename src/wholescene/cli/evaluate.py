"""``wholescene evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    Ranks,
    Strict,
    Tta,
)

__all__ = ["evaluate"]


def evaluate(
    dataset: Annotated[Path, typer.Option(help="dataset.yaml or its folder.")],
    model: ModelPath,
    out: Annotated[Path, typer.Option(help="Folder for maps, scores and report.")],
    protocol: Annotated[
        str | None,
        typer.Option(help="Published or strict rules (docs/protocols.md): a name or a .yaml."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to map and score; test if not given.")
    ] = None,
    submission: Annotated[
        bool,
        typer.Option("--submission", help="Write what the server that keeps the labels takes."),
    ] = False,
    engine: EngineName = "auto",
    block: Block = None,
    overlap: Overlap = None,
    batch: Batch = None,
    memory: Memory = None,
    strict: Strict = False,
    ranks: Ranks = None,
    device: Device = "auto",
    precision: Precision = "float32",
    tta: Tta = None,
    erode: Annotated[
        int | None, typer.Option(min=0, help="Ignore pixels this near to a class boundary (px).")
    ] = None,
    boundary: Annotated[
        int | None, typer.Option(min=1, help="Also boundary IoU, with bands this wide (px).")
    ] = None,
    object_sizes: Annotated[
        str | None,
        typer.Option(help="Also scores by size of object: largest sizes (px) of groups, as 32,96."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Also score without this class (repeatable), e.g. clutter."),
    ] = None,
    resume: Resume = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Map every scene of a split whole and score each pixel once, or as a protocol says.

    Example: wholescene evaluate --dataset data/dataset.yaml --model runs/first --out runs/eval
    """
    from wholescene.errors import InputError
    from wholescene.evaluate import parse_sizes
    from wholescene.launch import launched
    from wholescene.study.evaluation import evaluate_split, refuse_together
    from wholescene.study.submission import write_submission

    settings: dict[str, Any] = {
        "resume": resume,
        "engine": engine,
        "block": block,
        "overlap": overlap,
        "batch": batch,
        "memory": memory,
        "strict": strict,
        "ranks": ranks,
        "device": device,
        "precision": precision,
        "tta": tta,
    }
    sizes = parse_sizes(object_sizes)
    if launched()[1] > 1:
        raise InputError(
            "evaluate is started once, not by torchrun; leave that out and give --engine sharded "
            "--ranks N"
        )
    with progress("evaluate", "px") as update:
        if submission:
            refuse_together(
                "--submission, which scores nothing",
                {
                    "--protocol": protocol,
                    "--erode": erode,
                    "--boundary": boundary,
                    "--object-sizes": sizes,
                    "--exclude": tuple(exclude or ()),
                },
            )
            result, text = write_submission(
                dataset, model, out, split=split, progress=update, **settings
            )
        else:
            result, text = evaluate_split(
                dataset,
                model,
                out,
                protocol=protocol,
                split=split,
                erode_px=erode,
                boundary_px=boundary,
                object_sizes=sizes,
                exclude=tuple(exclude or ()),
                progress=update,
                **settings,
            )
    finish(result, text, as_json=as_json)
