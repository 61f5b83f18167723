"""Values between the pixels of a raster, where some pixels are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from wholescene.raster.source import Resampling

__all__ = ["MISSING", "PRESENT", "REACH_PX", "sample"]

PRESENT, MISSING = 0, 2
"""States of a pixel; everything but ``PRESENT`` counts as absent."""

REACH_PX: dict[Resampling, int] = {"nearest": 1, "average": 1, "bilinear": 2, "cubic": 3}
"""Pixels around a position that a kernel may touch."""

Values = NDArray[np.float32]
Floats = NDArray[np.float64]
Tap = tuple[NDArray[np.int64], NDArray[np.int64], Floats]


def sample(
    values: Values,
    state: NDArray[np.uint8],
    rows: Floats,
    cols: Floats,
    *,
    first: tuple[int, int],
    resampling: Resampling,
) -> tuple[Values, NDArray[np.uint8]]:
    """Look up positions in a raster.

    A position has the state of the pixel it lies in; its value comes from present pixels alone.

    Args:
        values: (C, H, W).
        state: ``PRESENT`` or another number, (H, W).
        rows: Position of each output, pixel centres at halves; NaN for nowhere.
        cols: Likewise.
        first: Row and column at which ``values`` begins; positions are counted without it.
        resampling: Kernel; ``"average"`` looks up the pixel a position lies in.

    Returns:
        Values (C, ...), 0 where absent, and states (...), ``MISSING`` outside the raster.
    """
    row, col = _pixel(rows, first[0]), _pixel(cols, first[1])
    inside = _inside(state, row, col)
    row, col = np.where(inside, row, 0), np.where(inside, col, 0)
    out_state = np.where(inside, state[row, col], np.uint8(MISSING)).astype(np.uint8)
    found = values[:, row, col]
    if resampling in ("bilinear", "cubic"):
        present = state == PRESENT
        smooth, weight = _blend(values, present, _linear_taps(rows, cols, first))
        found = np.where(weight > 0, smooth, found)
    if resampling == "cubic":
        smooth, _ = _blend(values, present, _cubic_taps(rows, cols, first))
        # Next to a gap the negative lobes have nothing to balance them.
        whole = _all_present(present, row, col, radius=2)
        found = np.where(whole, smooth, found)
    found[:, out_state != PRESENT] = 0
    return found.astype(np.float32, copy=False), out_state


def _pixel(positions: Floats, first: int) -> NDArray[np.int64]:
    known = np.where(np.isfinite(positions), positions, -1e9)
    pixel: NDArray[np.int64] = np.floor(np.clip(known, -1e9, 1e9)).astype(np.int64)
    return pixel - first


def _inside(
    state: NDArray[np.uint8], row: NDArray[np.int64], col: NDArray[np.int64]
) -> NDArray[np.bool_]:
    height, width = state.shape
    found: NDArray[np.bool_] = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    return found


def _blend(
    values: Values, present: NDArray[np.bool_], taps: Iterator[Tap]
) -> tuple[NDArray[np.floating], Floats]:
    height, width = present.shape
    total: Floats | float = 0.0
    weights: Floats | float = 0.0
    for row, col, weight in taps:
        inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
        row, col = np.where(inside, row, 0), np.where(inside, col, 0)
        weight = np.where(inside & present[row, col], weight, 0)
        total = total + values[:, row, col] * weight
        weights = weights + weight
    summed = np.asarray(weights)
    usable = np.abs(summed) > 1e-6
    return np.asarray(total) / np.where(usable, summed, 1), np.where(usable, summed, 0)


def _linear_taps(rows: Floats, cols: Floats, first: tuple[int, int]) -> Iterator[Tap]:
    return _taps(rows, cols, first, (0, 1), lambda distance: np.maximum(0, 1 - distance))


def _cubic_taps(rows: Floats, cols: Floats, first: tuple[int, int]) -> Iterator[Tap]:
    return _taps(rows, cols, first, (-1, 0, 1, 2), _catmull_rom)


def _taps(
    rows: Floats,
    cols: Floats,
    first: tuple[int, int],
    offsets: tuple[int, ...],
    kernel: Callable[[Floats], Floats],
) -> Iterator[Tap]:
    row_base, col_base = _pixel(rows - 0.5, 0), _pixel(cols - 0.5, 0)
    row_part = np.nan_to_num(rows - 0.5 - row_base, posinf=0, neginf=0)
    col_part = np.nan_to_num(cols - 0.5 - col_base, posinf=0, neginf=0)
    for row_offset in offsets:
        row_weight = kernel(np.abs(row_part - row_offset))
        for col_offset in offsets:
            weight = row_weight * kernel(np.abs(col_part - col_offset))
            yield row_base + row_offset - first[0], col_base + col_offset - first[1], weight


def _catmull_rom(distance: Floats) -> Floats:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _all_present(
    present: NDArray[np.bool_], row: NDArray[np.int64], col: NDArray[np.int64], *, radius: int
) -> NDArray[np.bool_]:
    """Whether all pixels up to ``radius`` away are inside and present."""
    padded = np.pad(present, radius)
    around = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2)
    complete: NDArray[np.bool_] = np.asarray(around.all(axis=(2, 3)))[row, col]
    return complete
