"""``wholescene study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wholescene.cli.console import finish, guard, note, progress
from wholescene.cli.options import AsJson, Debug

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Studies of many runs."""


@app.command("few-labels")
@guard
def few_labels(
    study: Annotated[Path, typer.Argument(help="YAML file of the study.")],
    out: Annotated[Path, typer.Option(help="Folder for runs, tables and plot.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. draws=5."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare pre-trainings where labels are few; started again, it goes on where it stopped.

    Example: wholescene study few-labels configs/studies/synthetic-few-labels.yaml --out runs/few
    """
    from dataclasses import asdict

    from wholescene.config import load_study_config
    from wholescene.study.few_labels import run_few_labels
    from wholescene.study.few_labels_table import summarise_study

    config = load_study_config(study, overrides or [])
    result, text = run_few_labels(config, out, say=note, bar=progress)
    facts = {
        "output": str(out),
        "rows": summarise_study(result),
        "cells": [asdict(cell) for cell in result.cells],
    }
    finish(facts, text, as_json=as_json)
