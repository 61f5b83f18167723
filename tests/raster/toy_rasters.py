"""Rasters made for a test by rasterio itself, independently of the writers under test."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

UTM = "EPSG:32630"
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_600_000)

MakeRaster = Callable[..., Path]


def write_raster(
    path: Path,
    pixels: NDArray[Any],
    *,
    names: tuple[str, ...] = (),
    colors: tuple[str, ...] = (),
    scales: tuple[float, ...] = (),
    offsets: tuple[float, ...] = (),
    mask: NDArray[np.bool_] | None = None,
    external_mask: bool = False,
    band_tags: dict[int, dict[str, str]] | None = None,
    imagery_tags: dict[int, dict[str, str]] | None = None,
    palette: dict[int, tuple[int, int, int, int]] | None = None,
    **profile: Any,
) -> Path:
    if pixels.ndim == 2:
        pixels = pixels[None]
    settings = {"driver": "GTiff", "crs": UTM, "transform": NORTH_UP, "photometric": "MINISBLACK"}
    settings.update(profile)
    if settings["driver"] != "GTiff":
        del settings["photometric"]
    if len(pixels) > 1 and settings["driver"] == "GTiff":
        settings.setdefault("alpha", "NO")
    settings = {key: value for key, value in settings.items() if value is not None}
    count, height, width = pixels.shape
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not external_mask):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=count, height=height, width=width, dtype=pixels.dtype.name, **settings
        ) as file:
            file.write(pixels)
            for index, name in enumerate(names, 1):
                file.set_band_description(index, name)
            if colors:
                file.colorinterp = [rasterio.enums.ColorInterp[color] for color in colors]
            if scales:
                file.scales = scales
            if offsets:
                file.offsets = offsets
            if mask is not None:
                file.write_mask(mask)
            if palette is not None:
                file.write_colormap(1, palette)
            for index, tags in (band_tags or {}).items():
                file.update_tags(index, **tags)
            for index, tags in (imagery_tags or {}).items():
                file.update_tags(index, ns="IMAGERY", **tags)
    return path


def ramp(*shape: int, dtype: str = "uint8", start: int = 1) -> NDArray[Any]:
    """Increasing numbers from ``start``, so that no pixel is 0 and every one is known."""
    return np.arange(start, start + np.prod(shape)).reshape(shape).astype(dtype)
