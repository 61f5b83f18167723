"""Seeded randomness without state: every value is a function of a key and integer positions.

Only additions, multiplications, shifts, ``floor`` and ``sqrt`` are used, which are exact or
correctly rounded everywhere, so a value does not depend on which array it was computed in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["derive_key", "fractal_noise", "pixel_grain", "uniform", "value_noise", "winding_noise"]

Floats = NDArray[np.float64]

_MASK = (1 << 64) - 1
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
_TO_UNIT = 2.0**-53


def derive_key(key: int, *words: int | str) -> int:
    """Give an independent 64-bit key for each sequence of words."""
    for word in words:
        number = int.from_bytes(word.encode(), "little") if isinstance(word, str) else word
        key = _scramble_int((key ^ _scramble_int(number & _MASK ^ number >> 64)) & _MASK)
    return key


def uniform(key: int, *indices: ArrayLike) -> Floats:
    """Uniform values in [0, 1) at up to three integer positions, which are broadcast."""
    mixed = np.asarray(np.uint64(key))
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        for index, multiplier in zip(indices, _MULTIPLIERS, strict=False):
            place = np.asarray(index).astype(np.int64).view(np.uint64)
            mixed = mixed + place * np.uint64(multiplier)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) * _TO_UNIT


def value_noise(key: int, x: Floats, y: Floats, scale_px: float) -> Floats:
    """Smooth noise in [-1, 1] whose features are about ``scale_px`` wide."""
    col, along = _split(x / scale_px)
    row, down = _split(y / scale_px)
    corners = uniform(
        key, np.stack([col, col + 1, col, col + 1]), np.stack([row, row, row + 1, row + 1])
    )
    upper = corners[0] + (corners[1] - corners[0]) * along
    lower = corners[2] + (corners[3] - corners[2]) * along
    return np.asarray(2.0 * (upper + (lower - upper) * down) - 1.0)


def fractal_noise(key: int, x: Floats, y: Floats, scale_px: float, octaves: int) -> Floats:
    """Sum octaves of ``value_noise``, each half as wide and half as strong; within [-2, 2]."""
    total = np.zeros(np.broadcast(x, y).shape)
    for octave in range(octaves):
        noise = value_noise(derive_key(key, octave), x, y, scale_px / 2**octave)
        total += noise * 0.5**octave
    return total


def winding_noise(key: int, curve: NDArray[np.int64], t: Floats, scale_px: float) -> Floats:
    """Smooth one-dimensional noise in [-1, 1] along ``t``, another one for each curve."""
    knot, between = _split(t / scale_px)
    before = uniform(key, curve, knot)
    return 2.0 * (before + (uniform(key, curve, knot + 1) - before) * between) - 1.0


def pixel_grain(key: int, row_off: int, col_off: int, shape: tuple[int, int]) -> NDArray[np.uint32]:
    """32 random bits for each pixel of a window."""
    rows = _axis_bits(derive_key(key, 0), row_off, shape[0])
    cols = _axis_bits(derive_key(key, 1), col_off, shape[1])
    bits = rows[:, None] + cols[None, :]
    # In place: this runs once per two bands over every pixel.
    work = bits >> np.uint32(16)
    bits ^= work
    bits *= np.uint32(0x7FEB352D)
    np.right_shift(bits, np.uint32(15), out=work)
    bits ^= work
    bits *= np.uint32(0x846CA68B)
    np.right_shift(bits, np.uint32(16), out=work)
    bits ^= work
    return bits


def _axis_bits(key: int, start: int, length: int) -> NDArray[np.uint32]:
    return (uniform(key, np.arange(start, start + length)) * 2.0**32).astype(np.uint32)


def _split(position: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Lattice index and eased position between two lattice points."""
    index = np.floor(position)
    part = position - index
    return index.astype(np.int64), part * part * part * (part * (part * 6.0 - 15.0) + 10.0)


def _scramble_int(value: int) -> int:
    value = (value + _MULTIPLIERS[0]) & _MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31
