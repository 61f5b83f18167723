"""``wholescene vectorize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wholescene.cli.console import finish, progress
from wholescene.cli.options import AsJson, Debug

__all__ = ["vectorize"]


def vectorize(
    label_map: Annotated[Path, typer.Argument(metavar="MAP", help="Label map.")],
    out: Annotated[
        Path, typer.Option(help="Vector file: .gpkg, .parquet, .fgb or .geojson (EPSG:4326).")
    ],
    min_area: Annotated[
        float | None, typer.Option(min=0, help="Leave out smaller polygons (square metres).")
    ] = None,
    simplify: Annotated[
        float | None,
        typer.Option(min=0, help="Simplify outlines by this tolerance (metres); no gaps arise."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Turn a label map into polygons with class, name and area.

    Example: wholescene vectorize map.tif --out map.gpkg --min-area 50
    """
    from wholescene.raster import vectorize as run

    with progress("vectorize", "rows") as update:
        count = run(label_map, out, min_area=min_area, simplify=simplify, progress=update)
    finish({"output": str(out), "polygons": count}, f"{count} polygons -> {out}", as_json=as_json)
