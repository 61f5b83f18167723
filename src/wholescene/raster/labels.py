"""Read label rasters by windows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from wholescene.errors import InputError, LabelError, RasterError
from wholescene.geometry import Size, Window
from wholescene.labels import IGNORE_INDEX, ClassTable
from wholescene.raster.gdal import HandlePool, gdal_env
from wholescene.raster.info import describe
from wholescene.raster.resize import nearest_pixels
from wholescene.raster.source_reader import read_pixels
from wholescene.raster.tiles import storage_windows

__all__ = ["LabelReader"]


class LabelReader:
    """One band of class ids, read as contiguous class indices.

    Pixels are ``IGNORE_INDEX`` outside the raster, where its mask band or alpha is 0, at its
    nodata value (unless that is the id of a class), and at the table's ignore id.

    Readers may be shared by threads, pickled and inherited through ``fork``.

    Args:
        path: The label raster.
        classes: The ids it may hold.

    Raises:
        RasterError: If the file cannot be read or has several bands.
    """

    def __init__(self, path: str | Path, classes: ClassTable) -> None:
        self.path = Path(path)
        self.classes = classes
        self._file = str(path)
        self._handles = HandlePool()
        with gdal_env():
            info = describe(self._handles.get(self._file), self._file)
        if len(info.data_bands) != 1:
            raise RasterError(
                f"{path}: a label raster has one band of class ids, this one has "
                f"{len(info.data_bands)} bands; if it shows classes as colours, convert them to "
                "ids first"
            )
        self._band = info.data_bands[0]
        self._grid = info.grid
        self._alpha = info.alpha
        self._has_mask = info.has_mask
        self.block_size = info.block
        if self._band.dtype.startswith("complex"):
            raise RasterError(f"{path}: labels of type {self._band.dtype} are no class ids")

    @property
    def size(self) -> Size:
        """Rows and columns."""
        return self._grid.size

    @property
    def transform(self) -> Affine:
        """From (column, row) to map coordinates; the identity if there is none."""
        return self._grid.transform

    @property
    def crs(self) -> CRS | None:
        """Coordinate reference system."""
        return self._grid.crs

    def read(self, window: Window, *, out_size: Size | None = None) -> NDArray[np.int16]:
        """Read a window as class indices.

        Args:
            window: Pixels of the raster; it may reach beyond it.
            out_size: Resize to this by nearest neighbour.

        Returns:
            ``0 .. num_classes - 1`` or ``IGNORE_INDEX``, (h, w).

        Raises:
            LabelError: If an id is in no class.
            RasterError: If the file is damaged.
        """
        labels = np.full(window.size, IGNORE_INDEX, np.int16)
        inside = window.intersect(Window.whole(self.size))
        if not inside.is_empty:
            place = inside.relative_to(window)
            labels[place.rows, place.cols] = self._read(inside)
        if out_size is None or out_size == window.size:
            return labels
        if out_size.height < 1 or out_size.width < 1 or window.is_empty:
            raise InputError(f"cannot resize a window of {window.size} to {out_size}")
        rows = nearest_pixels(window.height, out_size.height)
        cols = nearest_pixels(window.width, out_size.width)
        return labels[np.ix_(rows, cols)]

    def windows(self, *, pixels: int = 1 << 20) -> Iterator[Window]:
        """Tile the raster with windows of about ``pixels`` each, in the file's own order."""
        yield from storage_windows(self.size, self.block_size, pixels)

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        self._handles.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LabelReader({self._file!r}, {self.size})"

    def _read(self, window: Window) -> NDArray[np.int16]:
        stored = read_pixels(self._file, self._handles, window, (self._band.index,))[0]
        missing = self._missing(stored, window)
        ids = self._as_ids(stored, missing)
        ids[missing] = self.classes.ids[0]
        labels = self.classes.to_index(ids, where=self._file)
        labels[missing] = IGNORE_INDEX
        return labels

    def _missing(self, stored: NDArray[Any], window: Window) -> NDArray[np.bool_]:
        nodata = self._band.nodata
        missing = np.zeros(stored.shape, bool)
        if np.issubdtype(stored.dtype, np.floating):
            missing |= np.isnan(stored)
        if nodata is not None and nodata not in self.classes.ids:
            missing |= stored == nodata
        if self._alpha is not None:
            missing |= read_pixels(self._file, self._handles, window, (self._alpha,))[0] == 0
        if self._has_mask:
            index = (self._band.index,)
            missing |= read_pixels(self._file, self._handles, window, index, masks=True)[0] == 0
        return missing

    def _as_ids(self, stored: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[np.integer]:
        if np.issubdtype(stored.dtype, np.integer):
            return stored
        known = np.where(missing, 0, stored)
        ids = np.clip(known, -1, 2**31).astype(np.int64)
        if (ids != known).any():
            found = known[ids != known][0]
            raise LabelError(
                f"{self._file}: label {found} is no whole number; class ids are whole numbers in "
                "0..65535"
            )
        return ids
