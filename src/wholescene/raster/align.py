"""Bring a file with other pixels to the grid of the scene."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform

from wholescene.errors import RasterError
from wholescene.geometry import Size, Window
from wholescene.raster.gdal import gdal_env
from wholescene.raster.georeference import Grid, compose, map_points, same_grid
from wholescene.raster.kernels import MISSING, PRESENT, REACH_PX, sample
from wholescene.raster.source import Resampling
from wholescene.raster.validity import Decoded

__all__ = ["Alignment", "align"]

MAX_SOURCE_PIXELS = 1 << 22
"""Pixels of the file held at once for one part of a window."""

LATTICE_PX = 16
"""Scene pixels between positions that are projected exactly; those between are interpolated."""

EMPTY = 1

ReadDecoded = Callable[[Window], Decoded]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """From the pixels of a file to those of a scene.

    GDAL's warper is not used, because what it gives for a pixel depends on the window it is
    asked with: positions here are functions of the scene pixel alone.

    Args:
        source: Grid of the file.
        target: Grid of the scene.
        resampling: How values in between are found; where the file is finer, several positions
            per scene pixel are averaged, except for ``"nearest"``.
        to_source: From scene pixels to file pixels if no projection lies in between.
    """

    source: Grid
    target: Grid
    resampling: Resampling
    to_source: Affine | None

    def read(self, window: Window, read: ReadDecoded, *, num_bands: int) -> Decoded:
        """Resample the file into ``window`` of the scene.

        Args:
            window: Pixels of the scene, inside it.
            read: Gives the decoded pixels of a window of the file, inside it.
            num_bands: Bands that ``read`` gives.
        """
        values = np.zeros((num_bands, *window.size), np.float32)
        is_bad = np.ones(window.size, bool)
        is_empty = np.zeros(window.size, bool)
        for part, source in self._parts(window):
            if not source.is_empty:
                inside = part.relative_to(window)
                found = self._resample(part, source, read(source))
                values[:, inside.rows, inside.cols] = found.values
                is_bad[inside.rows, inside.cols] = found.is_bad
                is_empty[inside.rows, inside.cols] = found.is_empty
        return Decoded(values, is_bad, is_empty)

    def _parts(self, window: Window) -> Iterator[tuple[Window, Window]]:
        """Cut a window until the file's share of each part fits into memory."""
        source = self._source_window(window)
        if source.size.area <= MAX_SOURCE_PIXELS or window.size.area <= 1:
            yield window, source
            return
        if window.height >= window.width:
            middle = window.row_off + window.height // 2
            halves = [slice(window.row_off, middle), slice(middle, window.row_stop)]
            parts = [Window.from_slices(half, window.cols) for half in halves]
        else:
            middle = window.col_off + window.width // 2
            halves = [slice(window.col_off, middle), slice(middle, window.col_stop)]
            parts = [Window.from_slices(window.rows, half) for half in halves]
        for part in parts:
            yield from self._parts(part)

    def _resample(self, part: Window, source: Window, found: Decoded) -> Decoded:
        state = np.full(source.size, PRESENT, np.uint8)
        if found.is_empty is not None:
            state[found.is_empty] = EMPTY
        if found.is_bad is not None:
            state[found.is_bad] = MISSING
        total = np.zeros((len(found.values), *part.size), np.float32)
        present = np.zeros(part.size, np.int32)
        empty = np.zeros(part.size, np.int32)
        positions = 0
        for rows, cols in self._positions(part):
            values, states = sample(
                found.values,
                state,
                rows,
                cols,
                first=(source.row_off, source.col_off),
                resampling=self.resampling,
            )
            total += values
            present += states == PRESENT
            empty += states == EMPTY
            positions += 1
        is_present = 2 * present >= positions
        total /= np.maximum(present, 1)
        total[:, ~is_present] = 0
        is_empty = ~is_present & (2 * empty >= positions - present)
        return Decoded(total, ~is_present & ~is_empty, is_empty)

    def _positions(self, part: Window) -> Iterator[tuple[Floats, Floats]]:
        """File positions for each pixel of ``part``: as many as the file is finer."""
        across_rows, across_cols = (
            1 if self.resampling == "nearest" else max(1, math.ceil(ratio - 1e-6))
            for ratio in self._source_px_per_pixel
        )
        for i in range(across_rows):
            for j in range(across_cols):
                rows = np.arange(part.row_off, part.row_stop, dtype=float) + (i + 0.5) / across_rows
                cols = np.arange(part.col_off, part.col_stop, dtype=float) + (j + 0.5) / across_cols
                yield self._to_source(rows, cols)

    def _source_window(self, window: Window) -> Window:
        """Pixels of the file that ``window`` of the scene depends on; empty if none."""
        rows = np.linspace(window.row_off, window.row_stop, 9)
        cols = np.linspace(window.col_off, window.col_stop, 9)
        source_rows, source_cols = self._to_source(rows, cols)
        seen = np.isfinite(source_rows) & np.isfinite(source_cols)
        if not seen.any():
            return Window(row_off=0, col_off=0, height=0, width=0)
        # A border may bulge between the positions looked at.
        bulge = 1 if self.to_source is not None else 4
        margin = REACH_PX[self.resampling] + bulge
        rows_seen, cols_seen = source_rows[seen], source_cols[seen]
        return Window.from_slices(
            slice(math.floor(rows_seen.min()) - margin, math.ceil(rows_seen.max()) + margin),
            slice(math.floor(cols_seen.min()) - margin, math.ceil(cols_seen.max()) + margin),
        ).intersect(Window.whole(self.source.size))

    def _to_source(self, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
        """File positions of all combinations of scene ``rows`` and ``cols``, (h, w) each."""
        if self.to_source is not None:
            x, y = map_points(self.to_source, cols[None, :], rows[:, None])
            return y, x
        return self._between_nodes(rows, cols)

    def _between_nodes(self, rows: Floats, cols: Floats) -> tuple[Floats, Floats]:
        """Project a lattice fixed to the scene and interpolate linearly between its nodes."""
        row_cell, row_part = np.divmod(rows, LATTICE_PX)
        col_cell, col_part = np.divmod(cols, LATTICE_PX)
        row_nodes = np.arange(row_cell.min(), row_cell.max() + 2)
        col_nodes = np.arange(col_cell.min(), col_cell.max() + 2)
        nodes = self._project(row_nodes * LATTICE_PX, col_nodes * LATTICE_PX)
        i = (row_cell - row_nodes[0]).astype(np.int64)
        j = (col_cell - col_nodes[0]).astype(np.int64)
        down, right = (row_part / LATTICE_PX)[:, None], (col_part / LATTICE_PX)[None, :]
        with np.errstate(invalid="ignore"):
            upper = nodes[:, i][:, :, j] * (1 - right) + nodes[:, i][:, :, j + 1] * right
            lower = nodes[:, i + 1][:, :, j] * (1 - right) + nodes[:, i + 1][:, :, j + 1] * right
            found = upper * (1 - down) + lower * down
        return found[0], found[1]

    def _project(self, rows: Floats, cols: Floats) -> Floats:
        """Exact file rows and columns of a lattice, (2, h, w); NaN where there is no projection."""
        grid_rows, grid_cols = np.meshgrid(rows, cols, indexing="ij")
        x, y = map_points(self.target.transform, grid_cols.ravel(), grid_rows.ravel())
        with gdal_env():
            x, y = transform(self.target.crs, self.source.crs, x, y)
        source_cols, source_rows = map_points(~self.source.transform, np.array(x), np.array(y))
        found = np.stack([source_rows, source_cols]).reshape(2, *grid_rows.shape)
        return np.where(np.isfinite(found), found, np.nan)

    @cached_property
    def _source_px_per_pixel(self) -> tuple[float, float]:
        """File rows and columns per scene pixel, measured in the middle of the scene."""
        row, col = self.target.size.height // 2, self.target.size.width // 2
        y, x = self._to_source(np.array([row, row + 1.0]), np.array([col, col + 1.0]))
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return 1.0, 1.0
        per_row = math.hypot(y[1, 0] - y[0, 0], y[0, 1] - y[0, 0])
        per_col = math.hypot(x[1, 0] - x[0, 0], x[0, 1] - x[0, 0])
        return per_row, per_col


def align(source: Grid, target: Grid, *, resampling: Resampling, path: str) -> Alignment | None:
    """Plan how a file comes to the grid of the scene.

    Returns:
        ``None`` if it already has these pixels.

    Raises:
        RasterError: If nothing tells how the pixels of the two correspond.
    """
    if same_grid(source, target):
        return None
    placed = source.is_placed and target.is_placed
    if placed and source.crs is not None and target.crs is not None:
        plain = source.crs == target.crs
        to_source = compose(~source.transform, target.transform) if plain else None
    elif placed and source.crs is None and target.crs is None:
        to_source = compose(~source.transform, target.transform)
    elif source.size == target.size:
        return None
    else:
        to_source = _by_ratio(source.size, target.size, path)
    return Alignment(source=source, target=target, resampling=resampling, to_source=to_source)


def _by_ratio(source: Size, target: Size, path: str) -> Affine:
    ratios = [
        max(a, b) / min(a, b) if max(a, b) % min(a, b) == 0 else None
        for a, b in zip(source, target, strict=True)
    ]
    same_way = (source.height <= target.height) == (source.width <= target.width)
    if ratios[0] is None or ratios[0] != ratios[1] or not same_way:
        raise RasterError(
            f"{path}: {source} cannot be laid on the scene's {target} without georeferencing of "
            "both; give it a transform and CRS, or the same size, or a whole multiple of it"
        )
    return Affine.scale(source.width / target.width, source.height / target.height)
