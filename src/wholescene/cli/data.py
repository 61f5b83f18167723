"""``wholescene data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from wholescene.cli.console import EXIT_USER, finish, guard, progress
from wholescene.cli.options import AsJson, Debug

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

DatasetPath = Annotated[Path, typer.Argument(help="dataset.yaml or its folder.")]


@app.command("synthesize")
@guard
def synthesize(
    out: Annotated[Path, typer.Option(help="Folder for scenes, labels and dataset.yaml.")],
    scenes: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 6,
    height: Annotated[int, typer.Option(min=1, help="Rows of each scene.")] = 2048,
    width: Annotated[int, typer.Option(min=1, help="Columns of each scene.")] = 2048,
    bands: Annotated[int, typer.Option(min=1, help="Bands of each scene.")] = 4,
    dtype: Annotated[str, typer.Option(help="uint8, uint16, int16 or float32.")] = "uint16",
    seed: Annotated[
        int, typer.Option(min=0, help="Seed; the same seed gives the same scenes.")
    ] = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make labelled synthetic scenes of any size.

    Example: wholescene data synthesize --out scenes --scenes 6 --height 2048 --width 2048
    """
    from wholescene.datasets import synthesize as run

    with progress("synthesize", "px") as update:
        path = run(
            out,
            scenes=scenes,
            height=height,
            width=width,
            bands=bands,
            dtype=dtype,
            seed=seed,
            progress=update,
        )
    finish({"dataset": str(path)}, str(path), as_json=as_json)


@app.command("verify")
@guard
def verify(dataset: DatasetPath, as_json: AsJson = False, debug: Debug = False) -> None:
    """Find missing files, unknown labels, mismatched grids and leaks between splits.

    Exits with 2 if an error is found.

    Example: wholescene data verify scenes/dataset.yaml
    """
    from dataclasses import asdict

    from wholescene.datasets import load_dataset
    from wholescene.datasets import verify as run

    with progress("verify", "scenes") as update:
        findings = run(load_dataset(dataset), progress=update)
    errors = sum(f.severity == "error" for f in findings)
    lines = [f"{f.severity}: {f.scene + ': ' if f.scene else ''}{f.what}" for f in findings]
    lines.append(f"{errors} errors, {len(findings) - errors} warnings")
    finish({"findings": [asdict(f) for f in findings]}, "\n".join(lines), as_json=as_json)
    if errors:
        raise SystemExit(EXIT_USER)


@app.command("stats")
@guard
def stats(
    dataset: DatasetPath,
    split: Annotated[str, typer.Option(help="Split the statistics come from.")] = "train",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compute band statistics and class frequencies, and store them in dataset.yaml.

    Example: wholescene data stats scenes/dataset.yaml
    """
    from wholescene.datasets import dataset_overview, load_dataset, store_statistics

    with progress("stats", "rasters") as update:
        found = store_statistics(load_dataset(dataset), split=split, progress=update)
    facts = dataset_overview(found)
    finish(facts, "\n".join(f"{k}: {v}" for k, v in facts.items()), as_json=as_json)


@app.command("fraction")
@guard
def fraction(
    dataset: DatasetPath,
    fraction: Annotated[float, typer.Option(min=0, max=1, help="Share of the labels, 0 to 1.")],
    out: Annotated[Path, typer.Option(help="Table to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    by: Annotated[
        Literal["patch", "scene"], typer.Option(help="Draw windows or whole scenes.")
    ] = "patch",
    patch: Annotated[int, typer.Option(min=1, help="Side of a patch in pixels.")] = 256,
    split: Annotated[str, typer.Option(help="Split to draw from.")] = "train",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Draw a reproducible subset of the labels.

    Example: wholescene data fraction scenes/dataset.yaml --fraction 0.01 --seed 0 --out one.csv
    """
    from wholescene.datasets import draw_fraction, load_dataset, write_fraction

    table = draw_fraction(
        load_dataset(dataset), fraction, seed=seed, by=by, patch_px=patch, split=split
    )
    write_fraction(table, out)
    facts = {"output": str(out), "windows": len(table.rows)}
    finish(facts, f"{len(table.rows)} windows -> {out}", as_json=as_json)
