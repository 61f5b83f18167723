"""Read scenes and labels by windows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from wholescene.errors import InputError, RasterError
from wholescene.geometry import Size, Window
from wholescene.raster.bands import parse_bands
from wholescene.raster.gdal import HandlePool, cap_gdal_cache, gdal_env, is_local
from wholescene.raster.georeference import Grid, compose, ground_sampling_distance
from wholescene.raster.info import describe, open_info
from wholescene.raster.labels import LabelReader
from wholescene.raster.resize import Axis, resize_valid
from wholescene.raster.source import BandSpec, SourceSpec
from wholescene.raster.source_reader import SourceReader
from wholescene.raster.tiles import storage_windows

__all__ = ["LabelReader", "Pixels", "SceneReader", "cap_gdal_cache", "open_info"]

Files = str | Path | Sequence[str | Path] | Mapping[str, str | Path | Sequence[str | Path]]

RESIZED_PIXELS = 1 << 22
"""Input pixels held at once while a window is resized."""


@dataclass(frozen=True)
class Pixels:
    """Pixels of a window.

    Args:
        values: Physical units (scale and offset applied), (C, h, w); 0 where invalid.
        valid: Whether the scene has data there, (h, w).
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


class SceneReader:
    """A scene of one or more rasters on the grid of the first.

    A pixel is invalid where a source is: outside the file, where alpha or the mask band is 0,
    where a band is NaN or infinite, where a band holds its nodata value, or, if that value is 0
    in an integer raster, where all bands of the source hold it.

    Readers may be shared by threads, pickled and inherited through ``fork``. ``block_size`` is
    the unit in which the first file is stored: windows of whole blocks read fastest.

    Args:
        files: A path; ``"red.tif;nir.tif"`` or a list, one file per band; or these by source.
        sources: What is expected of the files; ``None`` takes all data bands of each.
        bands: Bands of the first source instead of its own: 1-based numbers, names, "665nm".

    Raises:
        RasterError: If a file cannot be read, bands cannot be found, or grids do not fit.
    """

    def __init__(
        self,
        files: Files,
        sources: Sequence[SourceSpec] | None = None,
        *,
        bands: Sequence[int | str] | None = None,
    ) -> None:
        by_source, specs = _match_sources(files, sources)
        own_bands = specs[0].bands
        if bands is not None:
            specs = (_override(specs[0], bands), *specs[1:])
        self._handles = HandlePool()
        with gdal_env():
            infos = [
                [describe(self._handles.get(path), path) for path in paths] for paths in by_source
            ]
        first = infos[0][0]
        self._grid = first.grid
        planned = [
            # Bands the user names are those, or none.
            SourceReader.plan(spec, found, self._grid, by_position=bands is None or i > 0)
            for i, (spec, found) in enumerate(zip(specs, infos, strict=True))
        ]
        if bands is not None and own_bands is not None:
            planned[0] = planned[0].called(own_bands)
        self._sources = tuple(planned)
        self.dtype: str = self._sources[0].dtype
        self.block_size: Size = first.block
        self._overviews = first.overviews
        self.band_specs: tuple[BandSpec, ...] = _unique_names(self._sources)
        self.paths: tuple[Path, ...] = tuple(Path(path) for paths in by_source for path in paths)
        self._names = tuple(path for paths in by_source for path in paths)

    @property
    def grid(self) -> Grid:
        """Size and place of the scene."""
        return self._grid

    @property
    def size(self) -> Size:
        """Rows and columns of the scene."""
        return self._grid.size

    @property
    def num_bands(self) -> int:
        """Bands of all sources together."""
        return len(self.band_specs)

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in order."""
        return tuple(band.name for band in self.band_specs)

    @property
    def transform(self) -> Affine:
        """From (column, row) to map coordinates; the identity if there is none."""
        return self._grid.transform

    @property
    def crs(self) -> CRS | None:
        """Coordinate reference system."""
        return self._grid.crs

    @property
    def gsd_m(self) -> float | None:
        """Ground sampling distance at the scene centre in metres, where it is known."""
        return ground_sampling_distance(self._grid)

    def fingerprint(self) -> str:
        """Hash of the files' names, sizes and times of change and of the selected bands."""
        files = []
        for path in self._names:
            entry: list[object] = [Path(path).name]
            if is_local(path):
                status = Path(path).stat()
                entry += [status.st_size, status.st_mtime_ns]
            files.append(entry)
        text = json.dumps([files, [source.selection() for source in self._sources]])
        return hashlib.sha256(text.encode()).hexdigest()

    def read(self, window: Window, *, out_size: Size | None = None) -> Pixels:
        """Read all bands of a window.

        Args:
            window: Pixels of the scene; it may reach beyond it, pixels there are invalid.
            out_size: Resize to this: area average down, linear up, over valid pixels only; a
                pixel is valid if at least half of its share of the window is.

        Raises:
            RasterError: If a file is damaged.
        """
        if out_size is None or out_size == window.size:
            return self._read(window)
        return _resized(window, out_size, self._read, self.num_bands)

    def valid(self, window: Window, *, out_size: Size | None = None) -> NDArray[np.bool_]:
        """Find the valid pixels of a window, reading no more than that takes."""
        if out_size is None or out_size == window.size:
            return self._valid(window)

        def read(part: Window) -> Pixels:
            return Pixels(np.empty((0, *part.size), np.float32), self._valid(part))

        return _resized(window, out_size, read, 0).valid

    def windows(self, *, pixels: int = 1 << 20) -> Iterator[Window]:
        """Tile the scene with windows of about ``pixels`` each, in the file's own order.

        Files stored as rows are read by rows, so that no row is decoded twice.
        """
        yield from storage_windows(self.size, self.block_size, pixels)

    def coarser(self, shrink: float) -> SceneReader:
        """Read the files' overviews instead, for pictures of large scenes.

        Args:
            shrink: How many times coarser the pixels may be.

        Returns:
            A reader of the coarsest overviews that are fine enough; this one if there are none.
        """
        level = sum(factor <= shrink for factor in self._overviews) - 1
        parts = [part for source in self._sources for part in source.parts]
        # Overviews need not have masks.
        if level < 0 or any(part.alignment is not None or part.has_mask for part in parts):
            return self
        handles = HandlePool(OVERVIEW_LEVEL=level)
        try:
            sizes = {handles.get(part.path).shape for part in parts}
        except RasterError:  # a file with fewer overviews than the first
            return self
        if len(sizes) > 1:
            return self
        size = Size(*sizes.pop())
        stretch = Affine.scale(self.size.width / size.width, self.size.height / size.height)
        reader = copy(self)
        reader._handles = handles
        reader._grid = Grid(size, compose(self.transform, stretch), self.crs)
        return reader

    def close(self) -> None:
        """Close the files; a later read opens them again."""
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
        return f"SceneReader({self._names[0]!r}, {self.size}, bands={list(self.band_names)})"

    def _read(self, window: Window) -> Pixels:
        inside = window.intersect(Window.whole(self.size))
        if inside == window and len(self._sources) == 1 and not window.is_empty:
            values, valid = self._sources[0].read(window, self._handles)
            if not valid.all():
                values[:, ~valid] = 0
            return Pixels(values, valid)
        values = np.zeros((self.num_bands, *window.size), np.float32)
        valid = np.zeros(window.size, bool)
        if inside.is_empty:
            return Pixels(values, valid)
        place = inside.relative_to(window)
        scene_valid = np.ones(inside.size, bool)
        first = 0
        for source in self._sources:
            found, source_valid = source.read(inside, self._handles)
            values[first : first + len(found), place.rows, place.cols] = found
            scene_valid &= source_valid
            first += len(found)
        valid[place.rows, place.cols] = scene_valid
        if not valid.all():
            values[:, ~valid] = 0
        return Pixels(values, valid)

    def _valid(self, window: Window) -> NDArray[np.bool_]:
        valid = np.zeros(window.size, bool)
        inside = window.intersect(Window.whole(self.size))
        if not inside.is_empty:
            place = inside.relative_to(window)
            parts = [source.valid(inside, self._handles) for source in self._sources]
            valid[place.rows, place.cols] = np.logical_and.reduce(parts)
        return valid


def _resized(
    window: Window, out_size: Size, read: Callable[[Window], Pixels], num_bands: int
) -> Pixels:
    if out_size.height < 1 or out_size.width < 1 or window.is_empty:
        raise InputError(f"cannot resize a window of {window.size} to {out_size}")
    rows, cols = Axis(window.height, out_size.height), Axis(window.width, out_size.width)
    values = np.empty((num_bands, *out_size), np.float32)
    valid = np.empty(out_size, bool)
    for start, stop in _strips(rows, window.width):
        first, last = rows.span(start, stop)
        strip = slice(window.row_off + first, window.row_off + last)
        pixels = read(Window.from_slices(strip, window.cols))
        values[:, start:stop], valid[start:stop] = resize_valid(
            pixels.values, pixels.valid, rows=rows, cols=cols, start=start, stop=stop, first=first
        )
    return Pixels(values, valid)


def _strips(rows: Axis, width: int) -> Iterator[tuple[int, int]]:
    """Cut the output rows so that each piece needs a bounded number of input pixels."""
    input_rows = max(1, RESIZED_PIXELS // width)
    step = max(1, input_rows * rows.out_length // rows.length)
    for start in range(0, rows.out_length, step):
        yield start, min(start + step, rows.out_length)


def _match_sources(
    files: Files, sources: Sequence[SourceSpec] | None
) -> tuple[list[tuple[str, ...]], tuple[SourceSpec, ...]]:
    if not isinstance(files, Mapping):
        specs = tuple(sources) if sources is not None else (SourceSpec(),)
        if len(specs) != 1:
            raise RasterError(
                f"{_split(files)[0]}: {len(specs)} sources are needed "
                f"({', '.join(spec.name for spec in specs)}), but files are given for one; give a "
                "file for each source by name"
            )
        return [_split(files)], specs
    specs = tuple(sources) if sources is not None else tuple(SourceSpec(name=n) for n in files)
    missing = [spec.name for spec in specs if spec.name not in files]
    if missing or not specs:
        raise RasterError(
            f"no file for source {', '.join(missing)}; files are given for {', '.join(files)}"
        )
    return [_split(files[spec.name]) for spec in specs], specs


def _split(files: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    if isinstance(files, str) and ";" in files and not Path(files).exists():
        files = [part.strip() for part in files.split(";") if part.strip()]
    if isinstance(files, str | Path):
        files = [files]
    if not files:
        raise RasterError("a scene needs at least one file, but its list of files is empty")
    return tuple(_repair_url(os.fspath(path)) for path in files)


def _repair_url(path: str) -> str:
    """Give back the slash that ``pathlib.Path`` takes from ``https://``."""
    scheme, separator, rest = path.partition(":/")
    known = scheme in {"http", "https", "s3", "gs", "az", "zip"}
    return f"{scheme}://{rest.lstrip('/')}" if separator and known else path


def _override(spec: SourceSpec, bands: Sequence[int | str]) -> SourceSpec:
    asked = parse_bands(bands)
    if spec.bands is None:
        return spec.model_copy(update={"bands": asked})
    if len(asked) != len(spec.bands):
        names = ", ".join(band.name for band in spec.bands)
        raise RasterError(
            f"--bands names {len(asked)} bands ({', '.join(map(str, bands))}), but source "
            f"{spec.name!r} needs {len(spec.bands)} ({names}); name one for each"
        )
    return spec.model_copy(update={"bands": asked})


def _unique_names(sources: Sequence[SourceReader]) -> tuple[BandSpec, ...]:
    names = [band.name for source in sources for band in source.band_specs]
    bands = []
    for source in sources:
        for i, band in enumerate(source.band_specs, 1):
            repeated = names.count(band.name) > 1
            own = [b.name for b in source.band_specs].count(band.name) > 1
            name = f"{source.name}:{band.name}" if repeated and len(sources) > 1 else band.name
            bands.append(band.model_copy(update={"name": f"{name}_{i}" if own else name}))
    return tuple(bands)
