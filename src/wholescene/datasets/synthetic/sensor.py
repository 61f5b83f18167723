"""From reflectance to stored numbers: gain, haze, blur, noise and the edge of the swath."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.synthetic.ground import Canvas
from wholescene.datasets.synthetic.noise import derive_key, pixel_grain, uniform
from wholescene.datasets.synthetic.spectra import mixtures
from wholescene.geometry import Size, Window

__all__ = ["DTYPES", "Sensor", "StoredRange"]

Floats = NDArray[np.float32]

_RAGGED_PX = 8.0


@dataclass(frozen=True)
class StoredRange:
    """How reflectance is stored in a dtype."""

    scale: float
    low: float
    high: float
    nodata: float


DTYPES = {
    "uint8": StoredRange(330.0, 1, 255, 0),
    "uint16": StoredRange(10_000.0, 1, 65_535, 0),
    "int16": StoredRange(10_000.0, 0, 32_767, -9999),
    "float32": StoredRange(1.0, 0.0, math.inf, math.nan),
}


@dataclass(frozen=True)
class Sensor:
    """Camera of one scene.

    Args:
        key: Seed of the scene.
        size: Size of the scene.
        wavelengths_nm: Band centres.
        dtype: A key of ``DTYPES``.
        held_out: Whether the gain lies outside the range of all scenes that are not held out.
    """

    key: int
    size: Size
    wavelengths_nm: tuple[float, ...]
    dtype: str
    held_out: bool

    @cached_property
    def gain(self) -> float:
        """Factor on reflectance: 0.88 to 1.12, or beyond when held out."""
        draw, side = (float(v) for v in uniform(derive_key(self.key, "gain"), np.arange(2)))
        if self.held_out:
            return 1.22 + 0.1 * draw if side < 0.5 else 0.72 + 0.08 * draw
        return 0.88 + 0.24 * draw

    @cached_property
    def _per_band(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Start and change of each mixture (B, M), gain and haze (B,)."""
        nm = np.array(self.wavelengths_nm)
        start, change = mixtures(nm)
        jitter = uniform(derive_key(self.key, "band gain"), np.arange(nm.size)) - 0.5
        strength = 0.008 + 0.022 * float(uniform(derive_key(self.key, "haze")))
        gains = self.gain * (1.0 + 0.04 * jitter)
        haze = gains * strength * (490.0 / nm) ** 1.6
        return start, change, gains.astype(np.float32), haze.astype(np.float32)

    def footprint(self, window: Window) -> NDArray[np.bool_]:
        """Pixels the swath covers: its edges are tilted and a little ragged."""
        rows, cols = (
            np.arange(window.row_off, window.row_stop),
            np.arange(window.col_off, window.col_stop),
        )
        top, bottom = self._edges("rows", cols, self.size, 0.015)
        left, right = self._edges("cols", rows, Size(self.size.width, self.size.height), 0.045)
        inside = (rows[:, None] >= top) & (rows[:, None] < bottom)
        inside &= (cols >= left[:, None]) & (cols < right[:, None])
        return inside

    def _edges(
        self, name: str, places: NDArray[np.int64], size: Size, tilted: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Near and far edge at places along them; tilted by a share of the side they bound."""
        depth, length = size
        key = derive_key(self.key, "edge", name)
        draw = uniform(key, np.arange(4))
        tilt = depth * tilted * (0.5 + 0.5 * draw[0]) * (1.0 if draw[1] < 0.5 else -1.0)
        slant = tilt * (places / length) + max(0.0, -tilt)
        steps = uniform(derive_key(key, "ragged"), places // 24, np.array([[0], [1]]))
        ragged = min(0.004 * depth, _RAGGED_PX) * steps
        near = slant + 0.012 * depth * draw[2] + ragged[0]
        far = depth - abs(tilt) + slant - 0.012 * depth * draw[3] - ragged[1]
        return near, far

    def expose(
        self, canvas: Canvas, window: Window, *, margin: int, inside: NDArray[np.bool_]
    ) -> NDArray[np.generic]:
        """Stored pixels of a window.

        Args:
            canvas: The window, ``margin`` pixels larger on each side.
            window: Pixels to store.
            margin: At least 1.
            inside: ``footprint`` of the window.
        """
        stored = DTYPES[self.dtype]
        start, change, gains, hazes = self._per_band
        inner = tuple(slice(margin - 1, side - margin + 1) for side in canvas.mix.shape)
        material = canvas.material[inner]
        mix, bright = canvas.mix[inner], canvas.bright[inner]
        outside = ~inside if not inside.all() else None
        pixels = np.empty((len(gains), *window.size), self.dtype)
        grain = np.zeros((0, 0), np.uint32)
        for band in range(len(gains)):
            value = change[band][material]
            value *= mix
            value += start[band][material]
            value *= bright
            value = _blur(value)
            value *= gains[band] * np.float32(stored.scale)
            value += hazes[band] * np.float32(stored.scale)
            if band % 2 == 0:
                key = derive_key(self.key, "noise", band)
                grain = pixel_grain(key, window.row_off, window.col_off, window.size)
            value *= _noise(grain, band % 2, 0.02)
            pixels[band] = _store(value, stored, self.dtype)
            if outside is not None:
                pixels[band][outside] = stored.nodata
        return pixels


def _blur(value: Floats) -> Floats:
    """Point spread 1-3-1 along rows and columns; the result is one pixel smaller on each side."""
    tall = value[:-2] + value[2:]
    tall += 3.0 * value[1:-1]
    wide = tall[:, :-2] + tall[:, 2:]
    wide += 3.0 * tall[:, 1:-1]
    wide *= np.float32(1 / 25)
    return wide


def _noise(grain: NDArray[np.uint32], half: int, sigma: float) -> Floats:
    """Factors about 1 from half the bits: two bytes added are triangular, near enough to normal."""
    pair = grain >> np.uint32(16 * half)
    level = (pair & np.uint32(255)) + ((pair >> np.uint32(8)) & np.uint32(255))
    factor = level.astype(np.float32)
    factor *= np.float32(sigma / 104.5)  # standard deviation of the sum of two bytes
    factor += np.float32(1 - 255 * sigma / 104.5)
    return factor


def _store(value: Floats, stored: StoredRange, dtype: str) -> Floats:
    if dtype != "float32":
        np.rint(value, out=value)
    return np.clip(value, stored.low, stored.high, out=value)
