"""``wholescene report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wholescene.cli.console import finish
from wholescene.cli.options import AsJson, Debug

__all__ = ["report"]


def report(
    folder: Annotated[Path, typer.Argument(help="Run or evaluation directory.")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file; by default report.html in the folder.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write one self-contained HTML page of a run or evaluation.

    Example: wholescene report runs/first
    """
    from wholescene.evaluate import build_report

    page = build_report(folder, out)
    finish({"output": str(page)}, str(page), as_json=as_json)
