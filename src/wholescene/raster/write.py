"""Write rasters in strips of rows, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window as RasterioWindow

from wholescene.errors import InputError, OutputError
from wholescene.geometry import Size
from wholescene.raster.aside import output_error, prepare_aside, publish, room_for
from wholescene.raster.gdal import (
    DEFAULT_CACHE_MB,
    GDAL_ERRORS,
    gdal_env,
    why,
    without_georeferencing_warning,
)
from wholescene.raster.source import BandSpec
from wholescene.raster.tiles import tile_px, verify_tiles

__all__ = ["Compression", "StripWriter"]

Compression = Literal["deflate", "zstd", "lzw", "packbits", "none"]


class StripWriter:
    """Write a tiled GeoTIFF of any size from top to bottom.

    The file is written as ``<path>.part`` and takes its name when it is complete.

    Args:
        path: The file; its folder is made if need be.
        size: Rows and columns.
        bands: Number of bands.
        dtype: Stored type.
        transform: From (column, row) to map coordinates; the identity for none.
        crs: Anything rasterio takes for a CRS; ``None`` for none.
        nodata: Stored value of missing pixels.
        band_specs: Names and wavelengths of the bands, for all or none of them.
        scale: Factor from stored to physical values, kept as a tag.
        offset: Added after ``scale``, kept as a tag.
        compress: How tiles are packed.

    Raises:
        InputError: If the arguments contradict each other.
        OutputError: If the file cannot be written.

    Examples:
        >>> with StripWriter(
        ...     "scene.tif",
        ...     size=Size(600, 400),
        ...     bands=1,
        ...     dtype="uint8",
        ...     transform=Affine.identity(),
        ...     crs=None,
        ... ) as writer:  # doctest: +SKIP
        ...     for row in range(0, 600, 100):
        ...         writer.write(row, np.zeros((1, 100, 400), np.uint8))
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: Size,
        bands: int,
        dtype: str,
        transform: Affine,
        crs: Any,
        nodata: float | None = None,
        band_specs: Sequence[BandSpec] = (),
        scale: float | None = None,
        offset: float | None = None,
        compress: Compression = "deflate",
    ) -> None:
        if size.height < 1 or size.width < 1 or bands < 1:
            raise InputError(f"{path}: a raster of {size} with {bands} bands holds no pixel")
        if band_specs and len(band_specs) != bands:
            raise InputError(f"{path}: {len(band_specs)} band names for {bands} bands")
        self.path = Path(path)
        self.size = size
        self._dtype = np.dtype(dtype)
        self._bands = bands
        self._part = self.path.with_name(self.path.name + ".part")
        self._tile = tile_px(size, bands * self._dtype.itemsize)
        self._profile = self._layout(transform, crs, nodata, band_specs, compress)
        self._pending = np.empty((bands, 0, size.width), self._dtype)
        self._next_row = 0
        self._dataset = self._create(band_specs, scale, offset)

    def write(self, row_off: int, pixels: NDArray[np.generic]) -> None:
        """Append rows.

        Args:
            row_off: First row; the strips follow each other from row 0.
            pixels: (bands, h, width) in the dtype of the file.

        Raises:
            InputError: If shape, dtype or order are wrong.
            OutputError: If the disk is full.
        """
        self._check(row_off, pixels)
        self._next_row += pixels.shape[1]
        held = self._pending
        rows = np.concatenate([held, pixels], axis=1) if held.size else pixels
        # A compressed tile is written once: rewriting would leave its old bytes in the file.
        whole = rows.shape[1] // self._tile * self._tile
        if self._next_row == self.size.height:
            whole = rows.shape[1]
        first = self._next_row - rows.shape[1]
        self._pending = rows[:, whole:].copy()
        for start in range(0, whole, self._tile):
            self._write(first + start, rows[:, start : min(start + self._tile, whole)])

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OutputError: If rows are missing or the disk is full.
        """
        if self._next_row != self.size.height:
            self.discard()
            raise OutputError(
                f"{self.path}: {self._next_row} of {self.size.height} rows were written; the "
                "file was removed"
            )
        try:
            with gdal_env():
                self._dataset.close()
            verify_tiles(self._part)
            publish(self._part, self.path)
        except GDAL_ERRORS as error:
            self.discard()
            raise self._error(error) from error

    def discard(self) -> None:
        """Remove what was written."""
        with suppress(*GDAL_ERRORS), gdal_env():
            self._dataset.close()
        self._unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _layout(
        self,
        transform: Affine,
        crs: Any,
        nodata: float | None,
        band_specs: Sequence[BandSpec],
        compress: Compression,
    ) -> dict[str, Any]:
        names = [band.name.lower() for band in band_specs[:3]]
        layout: dict[str, Any] = {
            "driver": "GTiff",
            "height": self.size.height,
            "width": self.size.width,
            "count": self._bands,
            "dtype": self._dtype.name,
            "crs": CRS.from_user_input(crs) if crs else None,
            "nodata": nodata,
            "tiled": True,
            "blockxsize": self._tile,
            "blockysize": self._tile,
            "interleave": "pixel",
            "bigtiff": "IF_SAFER",
            "photometric": "RGB" if names == ["red", "green", "blue"] else "MINISBLACK",
        }
        if self._bands > 1:
            layout["alpha"] = "NO"
        if not transform.is_identity:
            layout["transform"] = transform
        if compress != "none":
            layout["compress"] = compress.upper()
            if compress != "packbits":
                layout["predictor"] = 3 if self._dtype.kind == "f" else 2
        return layout

    def _create(
        self, band_specs: Sequence[BandSpec], scale: float | None, offset: float | None
    ) -> Any:
        try:
            prepare_aside(self.path, self._part)
            tiles = -(-self.size.height // self._tile) * -(-self.size.width // self._tile)
            room_for(self._part, 65_536 + 32 * tiles)
            with gdal_env(), without_georeferencing_warning():
                dataset = rasterio.open(self._part, "w", **self._profile)
                if scale is not None:
                    dataset.scales = [scale] * self._bands
                if offset is not None:
                    dataset.offsets = [offset] * self._bands
                for index, band in enumerate(band_specs, 1):
                    _describe_band(dataset, index, band)
        except GDAL_ERRORS as error:
            self._unlink()
            raise self._error(error) from error
        except ValueError as error:
            self._unlink()
            raise InputError(f"{self.path}: {error}") from error
        return dataset

    def _check(self, row_off: int, pixels: NDArray[np.generic]) -> None:
        expected = f"({self._bands}, rows, {self.size.width})"
        if pixels.ndim != 3 or pixels.shape[::2] != (self._bands, self.size.width):
            raise InputError(f"{self.path}: strip of shape {pixels.shape}; expected {expected}")
        if pixels.dtype != self._dtype:
            raise InputError(f"{self.path}: strip of {pixels.dtype} for a file of {self._dtype}")
        if row_off != self._next_row or row_off + pixels.shape[1] > self.size.height:
            raise InputError(
                f"{self.path}: strip of {pixels.shape[1]} rows at row {row_off}; the next row of "
                f"{self.size.height} is {self._next_row}"
            )

    def _write(self, row_off: int, pixels: NDArray[np.generic]) -> None:
        where = RasterioWindow(0, row_off, self.size.width, pixels.shape[1])
        # GDAL may still hold as much in its cache as was not written before.
        held = min(row_off * pixels[:, :1].nbytes, DEFAULT_CACHE_MB << 20) + pixels.nbytes
        try:
            room_for(self._part, held + held // 64 + 65_536)
            with gdal_env():
                self._dataset.write(pixels, window=where)
        except GDAL_ERRORS as error:
            raise self._error(error) from error

    def _unlink(self) -> None:
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _error(self, error: Exception) -> OutputError:
        if isinstance(error, OSError) and error.errno is not None:
            return output_error(self.path, error)
        return OutputError(
            f"{self.path}: cannot be written ({why(error)}); is the disk full? Free space or "
            "choose another folder with --out"
        )


def _describe_band(dataset: Any, index: int, band: BandSpec) -> None:
    dataset.set_band_description(index, band.name)
    if band.wavelength_nm is not None:
        dataset.update_tags(index, wavelength=f"{band.wavelength_nm:g}", wavelength_units="nm")
