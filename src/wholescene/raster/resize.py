"""Resize windows on the pixel grid: area average down, linear up, nearest for labels.

Every output pixel depends on the input and output length alone, so a long axis may be worked off
in pieces of any length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axis", "nearest_pixels", "resize_valid"]

VALID_FROM = 0.5 - 1e-4
"""Share of valid input from which an output pixel is valid: half, less what rounding takes."""

MAX_TAPS = 8
"""Input pixels per output pixel up to which they are added one by one."""

Values = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Axis:
    """Map ``length`` input pixels to ``out_length`` output pixels along one axis."""

    length: int
    out_length: int

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """First and one past the last input pixel that the outputs ``start:stop`` depend on."""
        if self.out_length <= self.length:
            return (
                start * self.length // self.out_length,
                -(-stop * self.length // self.out_length),
            )
        pixels, _ = self._linear_taps(np.array([start, stop - 1]))
        return int(pixels[0, 0]), int(pixels[1, 1]) + 1

    def apply(self, values: Values, *, axis: int, start: int, stop: int, first: int) -> Values:
        """Compute the outputs ``start:stop`` along ``axis``; ``values`` begins at ``first``."""
        if self.out_length == self.length:
            return values.take(np.arange(start, stop) - first, axis)
        outputs = np.arange(start, stop)
        if self.out_length > self.length:
            pixels, weights = self._linear_taps(outputs)
        elif self.length > MAX_TAPS * self.out_length:
            return self._average_many(values, outputs, axis, first)
        else:
            pixels, weights = self._area_taps(outputs)
        along = (-1,) + (1,) * (-1 - axis)
        # A pixel beyond the last one has no weight.
        pixels = np.minimum(pixels - first, values.shape[axis] - 1)
        found: Values = values.take(pixels[0], axis) * weights[0].reshape(along)
        for pixel, weight in zip(pixels[1:], weights[1:], strict=True):
            found += values.take(pixel, axis) * weight.reshape(along)
        return found

    def _linear_taps(self, outputs: Indices) -> tuple[Indices, Values]:
        centre = (outputs + 0.5) * self.length / self.out_length - 0.5
        centre = np.clip(centre, 0, self.length - 1)
        low = centre.astype(np.int64)
        part = (centre - low).astype(np.float32)
        return np.stack([low, np.minimum(low + 1, self.length - 1)]), np.stack([1 - part, part])

    def _area_taps(self, outputs: Indices) -> tuple[Indices, Values]:
        begin = outputs * self.length
        end = begin + self.length  # both in units of 1 / out_length input pixels
        taps = -(-self.length // self.out_length) + 1
        pixels = begin // self.out_length + np.arange(taps)[:, None]
        left = np.maximum(begin, pixels * self.out_length)
        overlap = np.minimum(end, (pixels + 1) * self.out_length) - left
        return pixels, (np.maximum(overlap, 0) / self.length).astype(np.float32)

    def _average_many(self, values: Values, outputs: Indices, axis: int, first: int) -> Values:
        """Average over many pixels as differences of running sums."""
        moved = np.moveaxis(values, axis, -1)
        edges = np.append(outputs, outputs[-1] + 1) * self.length
        whole, part = edges // self.out_length - first, edges % self.out_length / self.out_length
        sums = np.zeros((*moved.shape[:-1], moved.shape[-1] + 1))
        np.cumsum(moved, axis=-1, dtype=np.float64, out=sums[..., 1:])
        inside = np.minimum(whole, moved.shape[-1] - 1)
        below = sums[..., whole] + part * moved[..., inside]
        found = np.diff(below, axis=-1) * (self.out_length / self.length)
        return np.moveaxis(found, -1, axis).astype(np.float32)


def resize_valid(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    *,
    rows: Axis,
    cols: Axis,
    start: int,
    stop: int,
    first: int,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resize to the output rows ``start:stop``, counting valid pixels only.

    Args:
        values: (C, h, w), 0 where invalid.
        valid: (h, w).
        rows: Row axis.
        cols: Column axis.
        start: First output row.
        stop: One past the last output row.
        first: Input row at which ``values`` begins.

    Returns:
        Values (C, stop - start, out width), 0 where invalid, and validity: at least half of what
        an output pixel stands for is valid.
    """
    stack = np.concatenate([values, valid[None]], dtype=np.float32)
    stack = rows.apply(stack, axis=-2, start=start, stop=stop, first=first)
    stack = cols.apply(stack, axis=-1, start=0, stop=cols.out_length, first=0)
    share = stack[-1]
    out_valid = share >= VALID_FROM
    np.divide(stack[:-1], share, out=stack[:-1], where=out_valid)
    stack[:-1, ~out_valid] = 0
    return stack[:-1], out_valid


def nearest_pixels(length: int, out_length: int) -> NDArray[np.int64]:
    """Input pixel under the centre of each output pixel."""
    return (2 * np.arange(out_length) + 1) * length // (2 * out_length)
