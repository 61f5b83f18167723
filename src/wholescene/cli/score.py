"""``wholescene score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wholescene.cli.console import finish, progress
from wholescene.cli.options import AsJson, Debug

__all__ = ["score"]


def score(
    label: Annotated[Path, typer.Argument(help="Label raster of class ids: the truth.")],
    label_map: Annotated[Path, typer.Argument(metavar="MAP", help="Label map to score.")],
    classes: Annotated[
        Path | None,
        typer.Option(help="dataset.yaml with the classes; by default those named in the map."),
    ] = None,
    ignore: Annotated[int | None, typer.Option(help="Label id that does not score.")] = None,
    erode: Annotated[
        int, typer.Option(min=0, help="Ignore pixels this near to a class boundary (px).")
    ] = 0,
    boundary: Annotated[
        int | None, typer.Option(min=1, help="Also boundary IoU, with bands this wide (px).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json and scores.csv.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Score one label map against one label raster, each pixel once.

    Example: wholescene score label.tif map.tif --ignore 255
    """
    from wholescene.study.scoring import score_files

    with progress("score", "px") as update:
        scores, text = score_files(
            label,
            label_map,
            classes=classes,
            ignore=ignore,
            erode_px=erode,
            boundary_px=boundary,
            out=out,
            progress=update,
        )
    finish(scores, text, as_json=as_json)
