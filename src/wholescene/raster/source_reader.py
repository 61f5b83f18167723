"""Read one source of a scene: a raster, or several with some bands each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from wholescene.errors import RasterError
from wholescene.geometry import Window
from wholescene.raster.align import Alignment, align
from wholescene.raster.bands import Band, resolve_bands
from wholescene.raster.gdal import GDAL_ERRORS, HandlePool, gdal_env, why
from wholescene.raster.georeference import Grid
from wholescene.raster.info import SceneInfo
from wholescene.raster.source import BandSpec, SourceSpec
from wholescene.raster.validity import Decoded, StoredBand, decode, either

__all__ = ["SourceReader", "read_pixels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """The bands taken from one file.

    Args:
        path: The file.
        bands: Bands to read.
        channels: Where they go among the source's bands.
        alpha: 1-based alpha band.
        has_mask: Whether the file has a mask band.
        alignment: How it comes to the scene's grid; ``None`` if it has that grid.
    """

    path: str
    bands: tuple[StoredBand, ...]
    channels: tuple[int, ...]
    alpha: int | None
    has_mask: bool
    alignment: Alignment | None

    @property
    def always_valid(self) -> bool:
        """Whether the file has data everywhere in the scene."""
        unmasked = self.alpha is None and not self.has_mask and self.alignment is None
        return unmasked and all(band.always_valid for band in self.bands)

    def read(self, window: Window, handles: HandlePool) -> Decoded:
        """Read a window of the scene, inside it."""
        if self.alignment is None:
            return self._read_file(window, handles)
        return self.alignment.read(
            window, lambda part: self._read_file(part, handles), num_bands=len(self.bands)
        )

    def hidden(self, window: Window, handles: HandlePool) -> NDArray[np.bool_] | None:
        """Find the pixels of a window of the file that alpha or the mask band hide."""
        hidden: NDArray[np.bool_] | None = None
        if self.alpha is not None:
            hidden = read_pixels(self.path, handles, window, (self.alpha,))[0] == 0
        if self.has_mask:
            indices = tuple(band.index for band in self.bands)
            masks = read_pixels(self.path, handles, window, indices, masks=True)
            hidden = either(hidden, np.logical_not(masks.all(axis=0)))
        return hidden

    def _read_file(self, window: Window, handles: HandlePool) -> Decoded:
        indices = tuple(band.index for band in self.bands)
        decoded = decode(read_pixels(self.path, handles, window, indices), self.bands)
        hidden = self.hidden(window, handles)
        if hidden is not None:
            decoded.is_bad = either(decoded.is_bad, hidden)
        return decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReader:
    """One source with its bands found and its files laid on the scene's grid."""

    name: str
    band_specs: tuple[BandSpec, ...]
    parts: tuple[FilePart, ...]
    dtype: str

    @classmethod
    def plan(
        cls, spec: SourceSpec, infos: Sequence[SceneInfo], grid: Grid, *, by_position: bool = True
    ) -> SourceReader:
        """Find the bands of ``spec`` in its files, by position only if that is allowed.

        Raises:
            RasterError: If a band is missing or complex, or a file's grid does not fit.
        """
        band_specs, bands = resolve_bands(spec, infos, by_position=by_position)
        if not bands:
            raise RasterError(f"{infos[0].path}: source {spec.name!r} has no data band")
        parts = []
        for file, info in enumerate(infos):
            channels = tuple(i for i, band in enumerate(bands) if band.file == file)
            if channels:
                parts.append(_plan_file(info, [bands[i] for i in channels], channels, spec, grid))
        return cls(
            name=spec.name, band_specs=band_specs, parts=tuple(parts), dtype=bands[0].info.dtype
        )

    def called(self, names: Sequence[BandSpec]) -> SourceReader:
        """Give the same bands the names a model knows them by."""
        own = zip(self.band_specs, names, strict=True)
        bands = tuple(
            found.model_copy(update={"name": known.name, "wavelength_nm": known.wavelength_nm})
            for found, known in own
        )
        return replace(self, band_specs=bands)

    def selection(self) -> list[object]:
        """What is read and how, for a fingerprint."""
        return [
            [part.channels, [[b.index, b.scale, b.offset, repr(b.nodata)] for b in part.bands]]
            for part in self.parts
        ]

    def read(
        self, window: Window, handles: HandlePool
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read all bands of a window that lies inside the scene."""
        found = [part.read(window, handles) for part in self.parts]
        if len(found) == 1 and self.parts[0].channels == tuple(range(len(self.band_specs))):
            return found[0].values, _valid_of(found, window)
        values = np.empty((len(self.band_specs), *window.size), np.float32)
        for part, decoded in zip(self.parts, found, strict=True):
            values[list(part.channels)] = decoded.values
        return values, _valid_of(found, window)

    def valid(self, window: Window, handles: HandlePool) -> NDArray[np.bool_]:
        """Find the valid pixels of a window that lies inside the scene."""
        if all(part.always_valid for part in self.parts):
            return np.ones(window.size, bool)
        valid = np.ones(window.size, bool)
        sure = True
        for part in self.parts:
            only_mask = part.alignment is None and all(band.always_valid for band in part.bands)
            if not only_mask:
                sure = False
                break
            hidden = part.hidden(window, handles)
            if hidden is not None:
                valid &= ~hidden
        return valid if sure else self.read(window, handles)[1]


def _valid_of(found: Sequence[Decoded], window: Window) -> NDArray[np.bool_]:
    valid = np.ones(window.size, bool)
    for decoded in found:
        if decoded.is_bad is not None:
            valid &= ~decoded.is_bad
    empty = [decoded.is_empty for decoded in found if decoded.is_empty is not None]
    if len(empty) == len(found):
        valid &= ~np.logical_and.reduce(empty)
    return valid


def _plan_file(
    info: SceneInfo,
    bands: Sequence[Band],
    channels: tuple[int, ...],
    spec: SourceSpec,
    grid: Grid,
) -> FilePart:
    for band in bands:
        if "complex" in band.info.dtype:
            raise RasterError(
                f"{info.path}: band {band.info.index} holds complex numbers "
                f"({band.info.dtype}); convert it to amplitude or to real bands first"
            )
    stored = tuple(
        StoredBand(
            index=band.info.index,
            dtype=band.info.dtype,
            scale=band.info.scale if spec.scale is None else spec.scale,
            offset=band.info.offset if spec.offset is None else spec.offset,
            nodata=band.info.nodata if spec.nodata is None else spec.nodata,
        )
        for band in bands
    )
    is_data = any(band.index == info.alpha for band in stored)
    return FilePart(
        path=info.path,
        bands=stored,
        channels=channels,
        alpha=None if is_data else info.alpha,
        has_mask=info.has_mask,
        alignment=align(info.grid, grid, resampling=spec.resampling, path=info.path),
    )


def read_pixels(
    path: str,
    handles: HandlePool,
    window: Window,
    indices: tuple[int, ...],
    *,
    masks: bool = False,
) -> NDArray[Any]:
    """Read stored numbers of a window that lies inside the file.

    Raises:
        RasterError: If the file is damaged there; names file, band and window.
    """
    where = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
    dataset = handles.get(path)
    read = dataset.read_masks if masks else dataset.read
    with gdal_env():
        try:
            return np.asarray(read(list(indices), window=where))
        except GDAL_ERRORS as error:
            raise _read_error(path, read, where, indices, error) from error


def _read_error(
    path: str, read: Any, where: RasterioWindow, indices: tuple[int, ...], error: Exception
) -> RasterError:
    bad = indices[0]
    for index in indices:
        try:
            read(index, window=where)
        except GDAL_ERRORS as again:
            bad, error = index, again
            break
    rows = f"{where.row_off}:{where.row_off + where.height}"
    cols = f"{where.col_off}:{where.col_off + where.width}"
    return RasterError(
        f"{path}: cannot read band {bad} in rows {rows}, columns {cols} ({why(error)}); the file "
        "is damaged or truncated, copy or download it again"
    )
