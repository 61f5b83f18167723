"""Small rasters and class tables for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from wholescene.labels import ClassTable

UTM = "EPSG:32636"
HALF_METRE = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)

WriteRaster = Callable[..., Path]


@pytest.fixture
def classes() -> ClassTable:
    return ClassTable.from_names(["land", "water", "road"], ignore_id=255)


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    def write(
        name: str,
        pixels: NDArray[Any],
        *,
        crs: str | None = UTM,
        transform: Affine = HALF_METRE,
        nodata: float | None = None,
    ) -> Path:
        bands = pixels if pixels.ndim == 3 else pixels[None]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=len(bands),
            height=bands.shape[1],
            width=bands.shape[2],
            dtype=bands.dtype,
            crs=crs,
            transform=transform,
            nodata=nodata,
        ) as target:
            target.write(bands)
        return path

    return write
