"""Tiles of a GeoTIFF: how large, and whether all of them are there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rasterio.errors import RasterioError

from wholescene.geometry import Size, Window, block_windows
from wholescene.raster.gdal import gdal_env, open_dataset

__all__ = ["storage_windows", "tile_px", "verify_tiles"]

MAX_TILE_PX = 512
MAX_TILE_BYTES = 4 << 20


def tile_px(size: Size, bytes_per_pixel: int) -> int:
    """Side of a tile: a power of two, no larger than the scene needs, at most 4 MiB."""
    tile, largest = 16, min(MAX_TILE_PX, max(size))
    while tile < largest and (2 * tile) ** 2 * bytes_per_pixel <= MAX_TILE_BYTES:
        tile *= 2
    return tile


def storage_windows(size: Size, block: Size, pixels: int) -> Iterator[Window]:
    """Tile a raster with windows of about ``pixels`` each that cut few blocks.

    Args:
        size: Rows and columns of the raster.
        block: Unit in which it is stored: a tile, or some full rows.
        pixels: Aim for the size of a window.
    """
    if block.width >= size.width:
        height = max(1, pixels // size.width)
        yield from block_windows(size, Size(_whole_blocks(height, block.height), size.width))
        return
    side = math.isqrt(pixels)
    shape = Size(_whole_blocks(side, block.height), _whole_blocks(side, block.width))
    yield from block_windows(size, shape)


def _whole_blocks(length: int, block: int) -> int:
    return max(block, length // block * block) if block <= 4 * length else length


def verify_tiles(path: Path) -> None:
    """Find tiles that GDAL could not write when it closed the file, which it does not tell.

    Raises:
        RasterioError: If a tile of the raster or of an overview is missing or cut off.
    """
    end = path.stat().st_size
    levels = [{}, *({"OVERVIEW_LEVEL": i} for i in range(_num_overviews(path)))]
    for options in levels:
        with gdal_env():
            dataset = open_dataset(str(path), **options)
            try:
                _verify_level(dataset, end)
            finally:
                dataset.close()


def _num_overviews(path: Path) -> int:
    with gdal_env():
        dataset = open_dataset(str(path))
        try:
            return len(dataset.overviews(1))
        finally:
            dataset.close()


def _verify_level(dataset: Any, end: int) -> None:
    height, width = dataset.block_shapes[0]
    bands = range(1, dataset.count + 1) if dataset.interleaving.name == "band" else [1]
    for band in bands:
        for row in range(-(-dataset.height // height)):
            for col in range(-(-dataset.width // width)):
                name = f"{col}_{row}"
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{name}", "TIFF", bidx=band)
                length = dataset.get_tag_item(f"BLOCK_SIZE_{name}", "TIFF", bidx=band)
                if offset is None or length is None or int(offset) + int(length) > end:
                    raise RasterioError(f"tile {name} of band {band} is missing")
