"""``wholescene predict``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from wholescene.cli.console import finish, note, progress
from wholescene.cli.options import AsJson, Debug, ModelPath, Resume

__all__ = [
    "Bands",
    "Batch",
    "Block",
    "Device",
    "EngineName",
    "Memory",
    "Overlap",
    "Precision",
    "Ranks",
    "Strict",
    "Tta",
    "parse_bands",
    "predict",
]

EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        help="whole: one plain forward. streamed: the same numbers, block by block, for scenes of "
        "any size. sharded: the same numbers, rows over --ranks processes. windowed: overlapping "
        "windows, blended; depends on their size. auto: whole if "
        "it fits into --memory, else streamed.",
    ),
]
Block = Annotated[
    int | None,
    typer.Option(
        "--block", min=1, help="Side of a block (streamed) or window (windowed) in pixels."
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option("--overlap", min=0, help="Windowed: pixels neighbouring windows share."),
]
Batch = Annotated[
    int | None, typer.Option("--batch", min=1, help="Windowed: windows per forward pass.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help="Auto, streamed: memory to stay under, such as 4GiB; half of the machine's or 0.8 of "
        "the GPU's if not given.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Auto, streamed, sharded: refuse layers without a rule before any pixel is read.",
    ),
]
Ranks = Annotated[
    int | None,
    typer.Option(
        "--ranks",
        min=1,
        help="Sharded: processes, each on a device of its own; those of torchrun if not given.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Precision = Annotated[str, typer.Option("--precision", help="float32, bfloat16 or float16.")]
Bands = Annotated[
    str | None,
    typer.Option(
        "--bands", help="Bands of the scene in the model's order: numbers, names or '665nm'."
    ),
]
Tta = Annotated[
    str | None,
    typer.Option("--tta", help="Average over views: flips,turns,scales=0.75,1.25."),
]


def parse_bands(text: str | None) -> tuple[int | str, ...] | None:
    """Split ``"4,red,665nm"`` into numbers and names."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return tuple(int(part) if part.isdigit() else part for part in parts)


def predict(
    scenes: Annotated[
        list[str], typer.Argument(metavar="SCENE...", help="Rasters; 'a.tif;b.tif' joins bands.")
    ],
    model: ModelPath,
    out: Annotated[Path, typer.Option(help="Map file; a directory for several scenes.")],
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
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write one band per class.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also write the normalised entropy.")
    ] = False,
    preview: Annotated[
        Path | None, typer.Option(help="Also write a PNG: image, classes, overlay.")
    ] = None,
    resume: Resume = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Map whole scenes: georeferenced class ids with palette and names.

    Example: wholescene predict scene.tif --model runs/first --out map.tif
    """
    from wholescene.launch import launched
    from wholescene.prediction import predict as map_scene
    from wholescene.prediction import predict_many

    options: dict[str, Any] = {
        "engine": engine,
        "block": block,
        "overlap": overlap,
        "batch": batch,
        "memory": memory,
        "strict": strict,
        "ranks": ranks,
        "device": device,
        "precision": precision,
        "bands": parse_bands(bands),
        "tta": tta,
        "probabilities": probabilities,
        "uncertainty": uncertainty,
        "resume": resume,
    }
    with progress("predict", "px") as update:
        if len(scenes) == 1 and not out.is_dir():
            results = [
                map_scene(scenes[0], model, out, preview=preview, progress=update, **options)
            ]
        else:
            results = predict_many(scenes, model, out, progress=update, **options)
    if launched()[0] > 0:  # the first process of a job speaks for all
        return
    for result in results:
        for line in result.notes:
            note(f"note: {line}")
    facts = [asdict(result) for result in results]
    text = "\n".join(
        f"{r.output}: {r.pixels} px in {r.seconds:.1f} s ({r.pixels_per_second / 1e6:.2f} Mpx/s, "
        f"{r.engine})"
        for r in results
    )
    finish(facts[0] if len(facts) == 1 else {"scenes": facts}, text, as_json=as_json)
