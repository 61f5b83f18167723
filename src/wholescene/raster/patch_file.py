"""Patches as files: pixels as stored, with everything that tells what the numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from wholescene.errors import OutputError
from wholescene.geometry import Window
from wholescene.raster.aside import output_error, written_aside
from wholescene.raster.gdal import (
    GDAL_ERRORS,
    gdal_env,
    open_dataset,
    why,
    without_georeferencing_warning,
)
from wholescene.raster.georeference import Grid, compose
from wholescene.raster.read import SceneReader
from wholescene.raster.source import BandSpec, SourceSpec
from wholescene.raster.source_reader import SourceReader, read_pixels
from wholescene.raster.tiles import tile_px
from wholescene.raster.validity import StoredBand

__all__ = ["PatchFormat", "StoredPixels", "StoredReader", "write_label_patch"]

_PNG_BANDS = (1, 3)
_PNG_LEVEL = 3  # half the time of GDAL's 6 for a tenth more bytes


@dataclass(frozen=True)
class StoredPixels:
    """Pixels of one source in a window.

    Args:
        values: Numbers as stored, (C, h, w); 0 outside the scene.
        valid: Where there is data, (h, w), for sources whose numbers alone do not tell.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None

    def part(self, cols: slice) -> StoredPixels:
        """Some of the columns."""
        valid = None if self.valid is None else self.valid[:, cols]
        return StoredPixels(np.ascontiguousarray(self.values[:, :, cols]), valid)


@dataclass(frozen=True)
class PatchFormat:
    """How patches of one source are stored.

    Args:
        bands: Names and wavelengths, in the order of the file.
        dtype: Stored type.
        stored: What the files say about each band.
        is_masked: Whether a mask tells where there is data.
        is_png: Whether a PNG can hold all that.
    """

    bands: tuple[BandSpec, ...]
    dtype: str
    stored: tuple[StoredBand, ...]
    is_masked: bool
    is_png: bool

    @classmethod
    def of(cls, source: SourceReader, spec: SourceSpec) -> PatchFormat:
        """The format that loses nothing that ``spec`` does not say."""
        found = {
            channel: band
            for part in source.parts
            for channel, band in zip(part.channels, part.bands, strict=True)
        }
        stored = tuple(found[channel] for channel in range(len(found)))
        hides = any(part.alpha or part.has_mask or part.alignment for part in source.parts)
        is_masked = hides or len({repr(band.nodata) for band in stored}) > 1
        dtype = np.result_type(*(band.dtype for band in stored)).name
        is_told = (
            (spec.scale is not None or all(band.scale == 1 for band in stored))
            and (spec.offset is not None or all(band.offset == 0 for band in stored))
            and (spec.nodata is not None or all(band.nodata is None for band in stored))
        )
        fits = dtype == "uint8" and len(stored) in _PNG_BANDS
        return cls(source.band_specs, dtype, stored, is_masked, fits and is_told and not is_masked)

    @property
    def suffix(self) -> str:
        """End of the file name."""
        return ".png" if self.is_png else ".tif"

    def max_bytes(self, size: int) -> int:
        """Upper bound of a file of ``size`` x ``size`` px."""
        per_pixel = len(self.stored) * np.dtype(self.dtype).itemsize + self.is_masked
        return size * size * per_pixel * 17 // 16 + 65_536

    def write(self, path: Path, pixels: StoredPixels, place: Grid) -> None:
        """Write one patch.

        Args:
            path: The file, named with ``suffix``.
            pixels: What it holds.
            place: Where it lies; PNG files do not keep it.

        Raises:
            OutputError: If it cannot be written, or does not read back as it was.
        """
        profile = _png_profile() if self.is_png else self._tif_profile(place)
        _write(path, pixels, profile, None if self.is_png else self)

    def _tif_profile(self, place: Grid) -> dict[str, Any]:
        itemsize = np.dtype(self.dtype).itemsize
        tile = tile_px(place.size, len(self.stored) * itemsize)
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "crs": place.crs,
            "nodata": None if self.is_masked else self.stored[0].nodata,
            "tiled": True,
            "blockxsize": tile,
            "blockysize": tile,
            "compress": "DEFLATE",
            "predictor": 3 if np.dtype(self.dtype).kind == "f" else 2,
            "interleave": "pixel",
            "photometric": "MINISBLACK",
        }
        if len(self.stored) > 1:
            profile["alpha"] = "NO"
        if place.is_placed:
            profile["transform"] = place.transform
        return profile

    def describe(self, dataset: Any) -> None:
        """Say what the bands of an open file are."""
        for index, band in enumerate(self.bands, start=1):
            dataset.set_band_description(index, band.name)
            if band.wavelength_nm is not None:
                tags = {"wavelength": f"{band.wavelength_nm:g}", "wavelength_units": "nm"}
                dataset.update_tags(index, **tags)
        if any((band.scale, band.offset) != (1, 0) for band in self.stored):
            dataset.scales = [band.scale for band in self.stored]
            dataset.offsets = [band.offset for band in self.stored]


class StoredReader(SceneReader):
    """A scene whose pixels are read as the numbers its files hold; arguments as of the base.

    A source on another grid than the first is brought there, and rounded if it holds integers.
    """

    def __init__(self, files: Mapping[str, Sequence[Path]], sources: Sequence[SourceSpec]) -> None:
        super().__init__(files, sources)
        self.formats: tuple[PatchFormat, ...] = tuple(
            PatchFormat.of(*pair) for pair in zip(self._sources, sources, strict=True)
        )

    def stored(self, window: Window) -> tuple[StoredPixels, ...]:
        """Read a window of every source; it may reach beyond the scene.

        Raises:
            RasterError: If a file is damaged.
        """
        pairs = zip(self._sources, self.formats, strict=True)
        return tuple(self._stored(source, form, window) for source, form in pairs)

    def place(self, window: Window) -> Grid:
        """Size and place of a window."""
        if not self.grid.is_placed:
            return Grid(window.size, self.transform, self.crs)
        shift = Affine.translation(window.col_off, window.row_off)
        return Grid(window.size, compose(self.transform, shift), self.crs)

    def _stored(self, source: SourceReader, form: PatchFormat, window: Window) -> StoredPixels:
        values = np.zeros((len(form.stored), *window.size), form.dtype)
        valid = np.zeros(window.size, bool) if form.is_masked else None
        inside = window.intersect(Window.whole(self.size))
        place = inside.relative_to(window)
        if not inside.is_empty:
            values[:, place.rows, place.cols] = self._numbers(source, form, inside)
            if valid is not None:
                valid[place.rows, place.cols] = source.valid(inside, self._handles)
        return StoredPixels(values, valid)

    def _numbers(self, source: SourceReader, form: PatchFormat, window: Window) -> NDArray[Any]:
        values = np.empty((len(form.stored), *window.size), form.dtype)
        for part in source.parts:
            channels = list(part.channels)
            if part.alignment is None:
                indices = tuple(band.index for band in part.bands)
                values[channels] = read_pixels(part.path, self._handles, window, indices)
                continue
            plain = tuple(replace(band, scale=1.0, offset=0.0) for band in part.bands)
            found = replace(part, bands=plain).read(window, self._handles).values
            is_integer = np.issubdtype(form.dtype, np.integer)
            values[channels] = np.rint(found) if is_integer else found
        return values


def write_label_patch(path: Path, ids: NDArray[np.unsignedinteger]) -> None:
    """Write class ids, (h, w), as a grey PNG without a palette.

    Raises:
        OutputError: If it cannot be written, or does not read back as it was.
    """
    _write(path, StoredPixels(ids[None], None), _png_profile(), None)


def _png_profile() -> dict[str, Any]:
    return {"driver": "PNG", "ZLEVEL": _PNG_LEVEL}


def _write(
    path: Path, pixels: StoredPixels, profile: Mapping[str, Any], form: PatchFormat | None
) -> None:
    count, height, width = pixels.values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.values.dtype.name}
    with written_aside(path) as part:
        try:
            with gdal_env(GDAL_TIFF_INTERNAL_MASK=True):
                with without_georeferencing_warning():
                    dataset = rasterio.open(part, "w", **shape, **profile)
                with dataset:
                    _fill(dataset, pixels, form)
            _compare(part, path, pixels.values)
        except OutputError:
            raise
        except GDAL_ERRORS as error:
            raise _output_error(path, error) from error


def _fill(dataset: Any, pixels: StoredPixels, form: PatchFormat | None) -> None:
    dataset.write(pixels.values)
    if pixels.valid is not None:
        dataset.write_mask(pixels.valid)
    if form is not None:
        form.describe(dataset)


def _output_error(path: Path, error: Exception) -> OutputError:
    if isinstance(error, OSError) and error.errno is not None:
        return output_error(path, error)
    return OutputError(
        f"{path}: cannot be written ({why(error)}); is the disk full? Free space or choose another "
        "folder with --out"
    )


def _compare(part: Path, path: Path, values: NDArray[Any]) -> None:
    """Find what GDAL could not write when it closed the file, which it does not always tell."""
    with gdal_env():
        dataset = open_dataset(str(part))
        try:
            is_same = dataset.read().tobytes() == values.tobytes()
        finally:
            dataset.close()
    if not is_same:
        raise OutputError(f"{path}: does not read back as it was written; is the disk damaged?")
