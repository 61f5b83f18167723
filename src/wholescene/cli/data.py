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


@app.command("list")
@guard
def list_datasets(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the public datasets that `data prepare` knows.

    Example: wholescene data list
    """
    from wholescene.datasets.public.overview import describe_recipes, recipe_facts

    finish({"datasets": recipe_facts()}, describe_recipes(), as_json=as_json)


@app.command("prepare")
@guard
def prepare(
    name: Annotated[
        str,
        typer.Argument(
            help="A name of 'data list', 'folder' for your own files, or a recipe.yaml."
        ),
    ],
    source: Annotated[Path, typer.Option(help="Folder with archives, or what they unpack to.")],
    out: Annotated[Path, typer.Option(help="Folder for dataset.yaml, scene table and labels.")],
    layout: Annotated[
        str | None, typer.Option(help="How files are laid out: publisher, mmseg, ..., or auto.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Which rasters make a scene, such as rgb or rgbir-dsm.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Way to split: official, or another; folder: a table.")
    ] = None,
    partial: Annotated[
        bool | None, typer.Option("--partial", help="Index scenes without their mask, too.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="folder: names, ids and colours (.yaml, .json, .csv).")
    ] = None,
    ignore_id: Annotated[
        int | None, typer.Option(min=0, help="folder: id of unlabelled pixels.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="folder: where images are, * for a scene's name.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="folder: where masks or polygons are, likewise.")
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="folder: attribute with the class of a polygon.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Scenes worked on at once; one per processor.")
    ] = None,
    tiles: Annotated[
        int | None, typer.Option(min=1, help="Also write patches with this side (px).")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Distance of patches (px); the side by default.")
    ] = None,
    tile_rule: Annotated[
        Literal["exact", "seed"],
        typer.Option(help="seed: as the published tool cuts, faults included."),
    ] = "exact",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check and index a public dataset as it was downloaded; scenes stay whole.

    Example: wholescene data prepare potsdam --source downloads/potsdam --out data/potsdam
    """
    from wholescene.datasets.prepare.command import prepare as run

    with progress("prepare", "scenes") as update:
        facts, text = run(
            name,
            source,
            out,
            layout=layout,
            variant=variant,
            split=split,
            partial=partial,
            classes=classes,
            ignore_id=ignore_id,
            images=images,
            labels=labels,
            field=field,
            workers=workers,
            tiles=tiles,
            stride=stride,
            tile_rule=tile_rule,
            progress=update,
        )
    finish(facts, text, as_json=as_json)


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


Patch = Annotated[int, typer.Option(min=1, help="Side of a patch in pixels.")]
DrawnBy = Annotated[Literal["patch", "scene"], typer.Option(help="Draw windows or whole scenes.")]
DrawnFrom = Annotated[str, typer.Option(help="Split to draw from.")]


@app.command("fraction")
@guard
def fraction(
    dataset: DatasetPath,
    fraction: Annotated[float, typer.Option(min=0, max=1, help="Share of the labels, 0 to 1.")],
    out: Annotated[Path, typer.Option(help="Table to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    by: DrawnBy = "patch",
    patch: Patch = 256,
    split: DrawnFrom = "train",
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


@app.command("fractions")
@guard
def fractions(
    dataset: DatasetPath,
    out: Annotated[Path, typer.Option(help="Folder for one table per draw.")],
    fraction: Annotated[
        list[float] | None, typer.Option(min=0, max=1, help="Share (repeatable): 1, 5 and 10 %.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of each share: seeds 0, 1, ...")] = 5,
    by: DrawnBy = "patch",
    patch: Patch = 256,
    split: DrawnFrom = "train",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Draw all the label subsets of a few-label study.

    Example: wholescene data fractions scenes/dataset.yaml --out fractions
    """
    from wholescene.datasets import draw_fractions, load_dataset, write_fraction

    shares = fraction or [0.01, 0.05, 0.1]
    tables = draw_fractions(
        load_dataset(dataset), shares, seeds=range(seeds), by=by, patch_px=patch, split=split
    )
    files = [
        str(write_fraction(table, out / f"{split}-{by}-{table.fraction:g}-seed{table.seed}.csv"))
        for table in tables
    ]
    finish({"tables": files}, f"{len(files)} tables -> {out}", as_json=as_json)
