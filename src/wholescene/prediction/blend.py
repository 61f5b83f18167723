"""Blending overlapping windows in a buffer that rolls down the scene."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["RowBlender", "axis_weights", "ramp"]


def ramp(length: int, overlap: int) -> NDArray[np.float32]:
    """Weight of each pixel of a window along one axis: 1 inside, a cosine slope where it overlaps.

    Never 0, so that a pixel seen by one window only keeps its value.

    Args:
        length: Pixels of the window.
        overlap: Pixels shared with each neighbour, 0 to ``length - 1``.
    """
    weight = np.ones(length, np.float32)
    if overlap:
        inward = np.minimum(np.arange(length), np.arange(length)[::-1]).astype(np.float32)
        slope = 0.5 - 0.5 * np.cos(np.pi * (inward + 0.5) / overlap)
        weight = np.where(inward < overlap, slope, weight).astype(np.float32)
    return weight


def axis_weights(
    starts: list[int], length: int, overlap: int, total: int
) -> list[NDArray[np.float32]]:
    """Weights of every window along one axis, which add up to 1 at each pixel.

    A window's weight is a product of rows and columns, and so is the sum over a grid of windows.
    """
    weight = ramp(length, overlap).astype(np.float64)
    shares = np.zeros(max(total, length))
    for start in starts:
        shares[start : start + length] += weight
    return [(weight / shares[start : start + length]).astype(np.float32) for start in starts]


class RowBlender:
    """Adds windows up and hands out rows that are finished.

    Args:
        num_classes: Planes.
        height: Rows held: those of one window.
        width: Columns of the scene.
    """

    def __init__(self, num_classes: int, height: int, width: int) -> None:
        self._sums = torch.zeros(num_classes, height, width)
        self._top = 0
        self._taken = 0

    def start(self, row: int) -> None:
        """Forget everything; the first row held is ``row``."""
        self._sums.zero_()
        self._top, self._taken = row, 0

    def add(self, probabilities: Tensor, row: int, col: int, weight: Tensor) -> None:
        """Add a window, (K, h, w), times its weight, (h, w)."""
        self._roll()
        _, height, width = probabilities.shape
        place = self._sums[:, row - self._top : row - self._top + height, col : col + width]
        place.addcmul_(probabilities[:, : place.shape[1], : place.shape[2]], weight)

    def take(self, stop: int) -> Tensor:
        """Rows from the top to ``stop``, (K, rows, width), which no window will reach any more.

        They are lent, not copied: look at them before the next call.
        """
        self._roll()
        self._taken = stop - self._top
        return self._sums[:, : self._taken]

    def _roll(self) -> None:
        """Let the rows taken leave the buffer."""
        count, self._taken = self._taken, 0
        if not count:
            return
        rest = self._sums.shape[1] - count
        # Row by row groups: source and target overlap when little is handed out.
        for first in range(0, rest, count):
            last = min(first + count, rest)
            self._sums[:, first:last] = self._sums[:, first + count : last + count]
        self._sums[:, rest:] = 0
        self._top += count
