"""Small labelled datasets written with rasterio, not with the code under test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from wholescene.datasets import Dataset

Scene = tuple[NDArray[np.generic], NDArray[np.generic] | None]
MakeDataset = Callable[..., Dataset]

CLASS_IDS = (1, 10, 11)
IGNORE_ID = 0


def write_raster(path: Path, bands: NDArray[np.generic], *, nodata: float | None = None) -> Path:
    count, height, width = bands.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=bands.dtype,
        nodata=nodata,
        crs="EPSG:32636",
        transform=Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000),
        tiled=True,
        blockxsize=64,
        blockysize=64,
    ) as out:
        out.write(bands)
    return path


def coordinate_image(height: int, width: int) -> NDArray[np.float32]:
    """Band 0 is the row, band 1 the column, counted at pixel centres."""
    rows, cols = np.mgrid[:height, :width]
    return np.stack([rows + 0.5, cols + 0.5]).astype(np.float32)


def coordinate_label(height: int, width: int) -> NDArray[np.uint8]:
    """Class ids in 16 px stripes of the row, one class after the other."""
    stripes = np.arange(height) // 16 % len(CLASS_IDS)
    return np.repeat(np.array(CLASS_IDS, np.uint8)[stripes][:, None], width, axis=1)
