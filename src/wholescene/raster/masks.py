"""Label masks as published, by colour or by id, turned into rasters of class ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import LabelError
from wholescene.geometry import Size, Window
from wholescene.labels import ClassTable
from wholescene.raster.gdal import HandlePool, gdal_env
from wholescene.raster.georeference import Grid
from wholescene.raster.info import SceneInfo, describe
from wholescene.raster.source_reader import read_pixels
from wholescene.raster.tiles import storage_windows
from wholescene.raster.write import StripWriter

__all__ = ["MaskCoding", "MaskReader", "convert_mask", "mask_values"]

Color = tuple[int, int, int]

STRIP_PIXELS = 1 << 21
PIECE_PIXELS = 1 << 16
_SHOWN = 5
_UNKNOWN = 65_535


@dataclass(frozen=True)
class MaskCoding:
    """What the values of a mask stand for.

    Args:
        classes: Classes, and the id of ignored pixels.
        colors: Class id of every colour a mask of three bands may hold.
        ids: Class id of every value a mask of one band may hold; ``None`` takes values as ids.
        tolerance: How far each of red, green and blue may be off, for masks saved with loss.
    """

    classes: ClassTable
    colors: Mapping[Color, int]
    ids: Mapping[int, int] | None = None
    tolerance: int = 0

    def from_colors(self, pixels: NDArray[np.uint8], where: str) -> NDArray[np.unsignedinteger]:
        """Class ids of colours.

        Args:
            pixels: Red, green, blue, (3, h, w).
            where: File named in the error.

        Raises:
            LabelError: If a colour is in no class; with its number of pixels.
        """
        codes = pixels[0].astype(np.intp)  # what an index must be: nothing is copied later
        for band in pixels[1:]:
            codes <<= 8
            codes |= band
        ids: NDArray[np.uint16] = np.take(self._id_of_code, codes, mode="clip")
        if (ids == _UNKNOWN).any():
            raise self._unknown_colors(codes[ids == _UNKNOWN], where)
        return ids.astype(self.classes.map_dtype)

    def from_ids(self, stored: NDArray[np.generic], where: str) -> NDArray[np.unsignedinteger]:
        """Class ids of the values of a one-band mask, (h, w).

        Raises:
            LabelError: If a value is in no class; with its number of pixels.
        """
        values = np.asarray(stored)
        if not np.issubdtype(values.dtype, np.integer):
            if (values != np.round(values)).any():
                raise LabelError(f"{where}: the labels hold fractions; class ids are whole numbers")
            values = values.astype(np.int64)
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        if low < 0 or high >= _UNKNOWN:
            raise self._unknown_ids(values, where)
        ids: NDArray[np.uint16] = self._id_of_value[values]
        if (ids == _UNKNOWN).any():
            raise self._unknown_ids(values[ids == _UNKNOWN], where)
        return ids.astype(self.classes.map_dtype)

    def knows(self, values: set[int]) -> bool:
        """Whether every value of a one-band mask is known."""
        return values <= set(self._known_values)

    @cached_property
    def _known_values(self) -> tuple[int, ...]:
        if self.ids is not None:
            return tuple(self.ids)
        ignored = () if self.classes.ignore_id is None else (self.classes.ignore_id,)
        return (*self.classes.ids, *ignored)

    @cached_property
    def _id_of_value(self) -> NDArray[np.uint16]:
        lookup = np.full(_UNKNOWN + 1, _UNKNOWN, np.uint16)
        for value in self._known_values:
            lookup[value] = value if self.ids is None else self.ids[value]
        return lookup

    @cached_property
    def _id_of_code(self) -> NDArray[np.uint16]:
        lookup = np.full((256, 256, 256), _UNKNOWN, np.uint16)
        for color, value in self.colors.items():
            off = self.tolerance
            lookup[tuple(slice(max(0, part - off), part + off + 1) for part in color)] = value
        return lookup.ravel()

    def _unknown_colors(self, codes: NDArray[np.intp], where: str) -> LabelError:
        found = Counter(dict(zip(*np.unique(codes, return_counts=True), strict=True)))
        listed = ", ".join(
            f"({code >> 16}, {code >> 8 & 255}, {code & 255}) ({count} px)"
            for code, count in found.most_common(_SHOWN)
        )
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        known = ", ".join(f"{color} {value}" for color, value in self.colors.items())
        return LabelError(
            f"{where}: colour {listed}{more} is in no class; known are (colour id) {known}. The "
            "file may be another kind of mask (instances, another dataset), or was saved with loss "
            "(JPEG) or resized"
        )

    def _unknown_ids(self, values: NDArray[Any], where: str) -> LabelError:
        found = Counter(dict(zip(*np.unique(values, return_counts=True), strict=True)))
        listed = ", ".join(f"{value} ({count} px)" for value, count in found.most_common(_SHOWN))
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return LabelError(
            f"{where}: value {listed}{more} stands for no class; known are "
            f"{sorted(self._known_values)}. The file may be another kind of mask, or follow the "
            "ids of another tool: see --layout"
        )


class MaskReader:
    """A mask as it came: one band of values, a palette image, or three bands of colour.

    Args:
        path: The file.
        coding: What its values stand for.

    Raises:
        RasterError: If the file cannot be read.
        LabelError: If it has neither one band nor three.
    """

    def __init__(self, path: str | Path, coding: MaskCoding) -> None:
        self.path, self.coding = Path(path), coding
        self._handles = HandlePool()
        with gdal_env():
            self.info: SceneInfo = describe(self._handles.get(str(path)), str(path))
        bands = tuple(band.index for band in self.info.data_bands)
        if len(bands) not in (1, 3):
            raise LabelError(
                f"{path}: a mask has one band of ids or three of colour, this one has {len(bands)}"
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

    def stored(self, window: Window) -> NDArray[Any]:
        """Values as stored, (bands, h, w)."""
        return read_pixels(str(self.path), self._handles, window, self._bands)

    def ids(self, window: Window) -> NDArray[np.unsignedinteger]:
        """Class ids, (h, w).

        Raises:
            LabelError: If a value or colour is in no class.
        """
        return self.decoded(self.stored(window))

    def decoded(self, stored: NDArray[Any]) -> NDArray[np.unsignedinteger]:
        """Class ids of stored values, (bands, h, w) to (h, w).

        Raises:
            LabelError: If a value or colour is in no class.
        """
        where = str(self.path)
        if self.shows_colors:
            return self.coding.from_colors(stored.astype(np.uint8, copy=False), where)
        return self.coding.from_ids(stored[0], where)

    def close(self) -> None:
        """Close the file."""
        self._handles.close()


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
    reader = MaskReader(mask, coding)
    try:
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
            return _copy(reader, writer, coding.classes)
    finally:
        reader.close()


def mask_values(path: str | Path) -> set[int]:
    """Values that stand in a mask of one band; none for a mask of colours."""
    reader = MaskReader(path, MaskCoding(ClassTable.from_names("?"), {}))
    try:
        if reader.shows_colors:
            return set()
        found: set[int] = set()
        for window in storage_windows(reader.size, reader.info.block, STRIP_PIXELS):
            found.update(np.unique(reader.stored(window)).tolist())
        return found
    finally:
        reader.close()


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


def _copy(reader: MaskReader, writer: StripWriter, classes: ClassTable) -> NDArray[np.int64]:
    size = reader.size
    rows = max(1, min(size.height, STRIP_PIXELS // size.width // 512 * 512 or 512))
    step = max(1, PIECE_PIXELS // size.width)
    counts = np.zeros(classes.num_classes + 1, np.int64)
    for top in range(0, size.height, rows):
        height = min(rows, size.height - top)
        stored = reader.stored(Window(row_off=top, col_off=0, height=height, width=size.width))
        ids = np.empty((1, height, size.width), classes.map_dtype)
        # Pieces that stay in the cache of a core; longer ones would wait for memory.
        for first in range(0, height, step):
            piece = slice(first, first + step)
            ids[0, piece] = found = reader.decoded(stored[:, piece])
            counts[:-1] += [np.count_nonzero(found == i) for i in classes.ids]
        writer.write(top, ids)
    counts[-1] = size.area - counts.sum()
    return counts
