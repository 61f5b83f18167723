"""``wholescene demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wholescene.cli.console import finish, note, progress
from wholescene.cli.options import AsJson, Debug

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path(
        "demo"
    ),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make scenes, train a small model, map and score a held-out scene, write a report.

    Example: wholescene demo --out demo
    """
    from wholescene.study.demo import run_demo

    result = run_demo(out, say=note, bar=progress)
    finish(result.facts(), result.describe(), as_json=as_json)
