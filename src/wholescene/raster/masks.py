"""Label masks as published, by colour or by id, turned into rasters of class ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import LabelError
from wholescene.geometry import Size, Window, block_windows
from wholescene.raster.gdal import HandlePool, gdal_env
from wholescene.raster.georeference import Grid
from wholescene.raster.info import SceneInfo, describe
from wholescene.raster.mask_coding import MaskCoding, color_codes, count_runs, find_runs
from wholescene.raster.source_reader import read_pixels
from wholescene.raster.tiles import MAX_TILE_PX, storage_windows
from wholescene.raster.write import StripWriter

__all__ = ["MaskReader", "convert_mask", "mask_values"]

STRIP_PIXELS = 1 << 22
_TOO_MANY = 1 << 12
"""Unknown values after which the rest of a mask is not read."""


class MaskReader:
    """A mask as it came: one band of values, a palette image, or three bands of colour.

    Args:
        path: The file.

    Raises:
        RasterError: If the file cannot be read.
        LabelError: If it has neither one band nor three, or colours of more than 8 bits.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handles = HandlePool()
        # Each pixel is read once: past the cache of blocks, where the file is not packed.
        with gdal_env(GTIFF_DIRECT_IO=True):
            self.info: SceneInfo = describe(self._handles.get(str(path)), str(path))
        bands = tuple(band.index for band in self.info.data_bands)
        if len(bands) not in (1, 3):
            raise LabelError(
                f"{path}: a mask has one band of ids or three of colour, this one has {len(bands)}"
            )
        dtype = self.info.data_bands[0].dtype
        if len(bands) == 3 and dtype != "uint8":
            raise LabelError(
                f"{path}: colours of type {dtype}; a mask of three bands holds red, green and blue "
                "of 8 bits, so save it as uint8"
            )
        self._bands = bands

    @property
    def size(self) -> Size:
        """Rows and columns."""
        return self.info.grid.size

    @property
    def grid(self) -> Grid:
        """Size and place."""
        return self.info.grid

    @property
    def shows_colors(self) -> bool:
        """Whether classes are colours."""
        return len(self._bands) == 3

    def runs(self, window: Window) -> tuple[NDArray[np.integer], NDArray[np.intp]]:
        """Value, or number of ``color_codes``, of each run of equal pixels, and its length.

        Raises:
            LabelError: If values are fractions.
            RasterError: If the file is damaged.
        """
        stored = read_pixels(str(self.path), self._handles, window, self._bands)
        values, lengths = find_runs(stored)
        return color_codes(values) if self.shows_colors else self._ids(values[0]), lengths

    def counts(self) -> Iterator[Counter[int]]:
        """Pixels of each value, or of each number of ``color_codes``, part by part.

        Raises:
            LabelError: If values are fractions.
            RasterError: If the file is damaged.
        """
        for window in storage_windows(self.size, self.info.block, STRIP_PIXELS):
            yield count_runs(*self.runs(window))

    def close(self) -> None:
        """Close the file."""
        self._handles.close()

    def _ids(self, values: NDArray[Any]) -> NDArray[np.integer]:
        if np.issubdtype(values.dtype, np.integer):
            return values
        if (values != np.round(values)).any():
            raise LabelError(f"{self.path}: the labels hold fractions; class ids are whole numbers")
        return values.astype(np.int64)


def convert_mask(
    mask: str | Path, out: Path, coding: MaskCoding, *, place: Grid | None = None
) -> NDArray[np.int64]:
    """Write a mask as a tiled GeoTIFF of class ids, in bounded memory.

    Args:
        mask: The file as it came.
        out: The raster to write.
        coding: What values stand for.
        place: Grid of the image, for a mask that has no place of its own.

    Returns:
        Pixels of each class in index order, and of ignored ones, (num_classes + 1,).

    Raises:
        LabelError: If a value or colour is in no class, or the mask has another size than the
            image.
        OutputError: If the raster cannot be written.
    """
    with closing(MaskReader(mask)) as reader:
        grid = _placed(reader, place)
        with StripWriter(
            out,
            size=grid.size,
            bands=1,
            dtype=coding.classes.map_dtype,
            transform=grid.transform,
            crs=grid.crs,
            compress="packbits",  # five times as fast as deflate, and class ids come in runs
        ) as writer:
            return _copy(reader, writer, coding)


def mask_values(path: str | Path) -> set[int]:
    """Values that stand in a mask of one band; none for a mask of colours."""
    with closing(MaskReader(path)) as reader:
        return set() if reader.shows_colors else set().union(*reader.counts())


def _placed(reader: MaskReader, place: Grid | None) -> Grid:
    if place is None:
        return reader.grid
    if reader.size != place.size:
        raise LabelError(
            f"{reader.path}: the mask has {reader.size}, its image has {place.size} "
            f"({_difference(reader.size, place.size)}); get the mask that belongs to the image"
        )
    return reader.grid if not reader.grid.transform.is_identity else place


def _difference(mask: Size, image: Size) -> str:
    rows, cols = mask.height - image.height, mask.width - image.width
    return f"{rows:+d} rows, {cols:+d} columns"


def _copy(reader: MaskReader, writer: StripWriter, coding: MaskCoding) -> NDArray[np.int64]:
    width, are_colors = reader.size.width, reader.shows_colors
    rows = max(1, STRIP_PIXELS // width)
    rows -= rows % MAX_TILE_PX if rows > MAX_TILE_PX else 0  # whole tiles are written at once
    counts = np.zeros(coding.unknown + 1, np.int64)
    wrong: Counter[int] = Counter()
    for window in block_windows(reader.size, Size(rows, width)):
        numbers, lengths = reader.runs(window)
        places = coding.places(numbers, are_colors=are_colors)
        counts += np.bincount(places, lengths, len(counts)).astype(np.int64)
        if (bad := places == coding.unknown).any():
            wrong += count_runs(numbers[bad], lengths[bad])
        if len(wrong) > _TOO_MANY:
            break
        ids = coding.id_of_place[places].repeat(lengths)
        writer.write(window.row_off, ids.reshape(1, *window.size))
    if wrong:
        raise coding.refusal(wrong, str(reader.path), are_colors=are_colors)
    return counts[:-1]
