"""``wholescene benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from wholescene.cli.console import finish, note, progress
from wholescene.cli.options import AsJson, Debug
from wholescene.cli.predict import Block, Device, EngineName, Memory, Precision

__all__ = ["ListsCommand", "benchmark"]

LISTS = ("--models", "--seeds")


class ListsCommand(TyperCommand):
    """A command that takes ``--seeds 0 1 2`` for ``--seeds 0 --seeds 1 --seeds 2``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its values."""
        repeated: list[str] = []
        option = None
        for arg in args:
            if arg.startswith("-"):
                option = arg if arg in LISTS else None
            elif option is not None and repeated[-1] != option:
                repeated.append(option)
            repeated.append(arg)
        return super().parse_args(ctx, repeated)


def benchmark(
    protocol: Annotated[str, typer.Argument(help="Name or file of a protocol.")],
    dataset: Annotated[Path, typer.Option(help="dataset.yaml or its folder.")],
    models: Annotated[list[Path], typer.Option(help="Configurations, one per model.")],
    out: Annotated[Path, typer.Option(help="Folder for runs and tables.")],
    seeds: Annotated[list[int] | None, typer.Option(help="Seeds; 0 by default.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of every model."),
    ] = None,
    engine: EngineName = "auto",
    block: Block = None,
    memory: Memory = None,
    device: Device = "auto",
    precision: Precision = "float32",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train, map and score a table of models; started again, it goes on where it stopped.

    Example: wholescene benchmark strict-potsdam --dataset data/potsdam --models configs/*.yaml
    --seeds 0 1 2 --out runs/benchmark
    """
    from dataclasses import asdict

    from wholescene.study.benchmark import run_benchmark

    with progress("benchmark", "steps") as update:
        rows, text = run_benchmark(
            protocol,
            dataset,
            models,
            out,
            seeds=seeds or [0],
            overrides=overrides or [],
            say=note,
            progress=update,
            engine=engine,
            block=block,
            memory=memory,
            device=device,
            precision=precision,
        )
    finish({"rows": [asdict(row) for row in rows]}, text, as_json=as_json)
