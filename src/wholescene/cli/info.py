"""``wholescene info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wholescene.cli.console import finish, progress
from wholescene.cli.options import AsJson, Debug

__all__ = ["info"]


def info(
    scene: Annotated[Path, typer.Argument(help="Any raster GDAL reads.")],
    statistics: Annotated[
        bool, typer.Option(help="Read every pixel for mean, deviation and range.")
    ] = True,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show size, bands, type, CRS, pixel size, nodata and statistics of a scene.

    Example: wholescene info scene.tif
    """
    from dataclasses import asdict

    from wholescene.raster import SceneReader, band_statistics, open_info

    facts: dict[str, Any] = asdict(open_info(scene))
    if statistics:
        with SceneReader(scene) as reader, progress("statistics", "px") as update:
            found = band_statistics([reader], progress=update)
        facts["statistics"] = [
            {"mean": m, "std": s, "min": low, "max": high}
            for m, s, low, high in zip(
                found.mean, found.std, found.minimum, found.maximum, strict=True
            )
        ]
        facts["valid_pixels"] = int(found.count)
    finish(facts, _describe(facts), as_json=as_json)


def _describe(facts: dict[str, Any]) -> str:
    lines = [
        f"{key}: {value}" for key, value in facts.items() if key not in ("bands", "statistics")
    ]
    for i, band in enumerate(facts["bands"]):
        text = ", ".join(f"{k} {v}" for k, v in band.items() if v is not None)
        if "statistics" in facts:
            text += ", " + ", ".join(f"{k} {v:.6g}" for k, v in facts["statistics"][i].items())
        lines.append(f"band {i + 1}: {text}")
    return "\n".join(lines)
