"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wholescene.cli.console import show_debug

__all__ = [
    "AsJson",
    "Debug",
    "DryRun",
    "ModelPath",
    "Overrides",
    "Resume",
    "RunFile",
    "RunFolder",
]

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else there.")
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", help="Show the traceback of an error.", callback=show_debug, is_eager=True
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue unfinished work.")]
ModelPath = Annotated[
    Path, typer.Option("--model", help="Model directory or .zip, or a run directory.")
]
RunFile = Annotated[Path, typer.Argument(help="YAML file of the run.")]
RunFolder = Annotated[
    Path | None, typer.Option("--out", help="Run directory; by default runs/<name of the config>.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. optim.lr=1e-3."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")]
