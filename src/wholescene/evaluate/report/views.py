"""Pixels for pictures: scenes at one contrast, label rasters thinned without blurring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wholescene.geometry import Size, Window
from wholescene.labels import ClassTable
from wholescene.raster.read import LabelReader, Pixels, SceneReader
from wholescene.raster.render import preview_size
from wholescene.raster.source import BandSpec

__all__ = ["ImageView", "Indices", "Picture", "class_picture", "display_bands", "shrunk", "thinned"]

Indices = NDArray[np.int16]
Picture = NDArray[np.uint8]

# Sentinel-2's centres of red, green and blue; anything this near shows as that colour.
_RGB_NM, _TOLERANCE_NM = (665.0, 560.0, 490.0), 60.0
_DARK, _BRIGHT = 2, 98


class ImageView:
    """A scene as RGB pictures, all with the contrast of the whole scene.

    Args:
        files: One file, or one per band.
        longest: Longer side of ``overview`` in pixels.

    Raises:
        RasterError: If a file cannot be read.
    """

    def __init__(self, files: Sequence[Path], *, longest: int) -> None:
        with SceneReader(list(files)) as every_band:
            bands = display_bands(every_band.band_specs)
        self._reader = SceneReader(list(files), bands=[band + 1 for band in bands])
        self.size = self._reader.size
        pixels = self._reader.read(
            Window.whole(self.size), out_size=preview_size(self.size, longest)
        )
        known = pixels.values[:, pixels.valid]
        if not known.size:
            known = np.zeros((len(bands), 1), np.float32)
        self._dark, bright = np.percentile(known, (_DARK, _BRIGHT), axis=1)
        self._range = np.where(bright > self._dark, bright - self._dark, 1)
        self.overview = self._shown(pixels)

    def read(self, window: Window) -> Picture:
        """Read a window as RGB (h, w, 3); mid-grey where the scene has no data."""
        return self._shown(self._reader.read(window))

    def _shown(self, pixels: Pixels) -> Picture:
        share = (pixels.values - self._dark[:, None, None]) / self._range[:, None, None]
        shown = np.moveaxis(np.clip(255 * share, 0, 255).astype(np.uint8), 0, 2)
        shown[~pixels.valid] = 128
        return np.broadcast_to(shown, (*shown.shape[:2], 3)).copy()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()


def display_bands(bands: Sequence[BandSpec]) -> list[int]:
    """Positions of red, green, blue: by name, else by wavelength, else the first three.

    With fewer than three bands the first alone, shown grey.
    """
    names = [band.name.casefold() for band in bands]
    if all(color in names for color in ("red", "green", "blue")):
        return [names.index(color) for color in ("red", "green", "blue")]
    far = np.array([[abs((band.wavelength_nm or np.inf) - nm) for band in bands] for nm in _RGB_NM])
    nearest = far.argmin(axis=1).tolist()
    if (far.min(axis=1) <= _TOLERANCE_NM).all() and len(set(nearest)) == 3:
        return [int(i) for i in nearest]
    return [0, 1, 2] if len(bands) >= 3 else [0]


def thinned(labels: LabelReader, out_size: Size) -> Indices:
    """Every n-th pixel of a whole label raster, read row by row so that memory stays small."""
    rows, cols = (
        _every(labels.size.height, out_size.height),
        _every(labels.size.width, out_size.width),
    )
    thin = np.empty(out_size, np.int16)
    for i, row in enumerate(rows.tolist()):
        line = Window(row_off=row, col_off=0, height=1, width=labels.size.width)
        thin[i] = labels.read(line)[0, cols]
    return thin


def shrunk(indices: Indices, out_size: Size) -> Indices:
    """Every n-th pixel of an array."""
    rows = _every(indices.shape[0], out_size.height)
    return indices[np.ix_(rows, _every(indices.shape[1], out_size.width))]


def _every(length: int, out_length: int) -> NDArray[np.intp]:
    return ((np.arange(out_length) + 0.5) * length / out_length).astype(np.intp)


def class_picture(indices: Indices, classes: ClassTable) -> Picture:
    """Class colours, RGBA; transparent where there is no class."""
    # The last entry serves index -1.
    palette = [*((*color, 255) for color in classes.colors), (0, 0, 0, 0)]
    return np.array(palette, np.uint8)[indices]
