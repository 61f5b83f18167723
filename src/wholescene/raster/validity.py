"""Which pixels hold data, and their physical values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Decoded", "StoredBand", "decode", "either"]

EXACT_IN_FLOAT32 = {"uint8", "int8", "uint16", "int16", "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBand:
    """How one band is stored.

    Args:
        index: 1-based band of the file.
        dtype: Stored type.
        scale: Factor from stored to physical values.
        offset: Added after ``scale``.
        nodata: Stored value of missing pixels; ``None`` if there is none.
    """

    index: int
    dtype: str
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None

    @property
    def is_empty_at_zero(self) -> bool:
        """Whether nodata is integer 0, which is also a true value next to other bands."""
        return self.nodata == 0 and np.issubdtype(self.dtype, np.integer)

    @property
    def always_valid(self) -> bool:
        """Whether no stored value can be missing."""
        return self.nodata is None and np.issubdtype(self.dtype, np.integer)


@dataclass(slots=True)
class Decoded:
    """Pixels of a file with what is known about their validity.

    Args:
        values: Physical values, (C, h, w).
        is_bad: Some band cannot be used there, (h, w); ``None`` for nowhere.
        is_empty: All bands are integer-0 nodata there; ``None`` for nowhere.
    """

    values: NDArray[np.float32]
    is_bad: NDArray[np.bool_] | None
    is_empty: NDArray[np.bool_] | None


def decode(stored: NDArray[np.generic], bands: tuple[StoredBand, ...]) -> Decoded:
    """Turn stored numbers into physical values and find the missing ones.

    A nodata value makes a pixel unusable in whichever band it stands, and so do NaN and infinity.
    Only a nodata of 0 in an integer raster is a true value as long as another band is not 0.

    Args:
        stored: (C, h, w) as read.
        bands: One entry per row of ``stored``.
    """
    values = np.empty(stored.shape, np.float32)
    is_bad: NDArray[np.bool_] | None = None
    is_empty: NDArray[np.bool_] | None = None
    if bands and all(band.is_empty_at_zero for band in bands):
        is_empty = np.logical_not(stored.any(axis=0))
    for raw, band, out in zip(stored, bands, values, strict=True):
        _to_physical(raw, band, out)
        bad: NDArray[np.bool_] | None = _unusable(raw, band, out)
        if bad is not None:
            is_bad = either(is_bad, bad)
    return Decoded(values, is_bad, is_empty)


def either(one: NDArray[np.bool_] | None, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where one or the other holds; ``None`` holds nowhere."""
    return other if one is None else np.logical_or(one, other)


def _to_physical(raw: NDArray[np.generic], band: StoredBand, out: NDArray[np.float32]) -> None:
    plain = band.scale == 1 and band.offset == 0
    wide = np.float32 if plain and band.dtype in EXACT_IN_FLOAT32 else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        values: NDArray[np.floating] = raw.astype(wide, copy=False)
        out[...] = values if plain else values * band.scale + band.offset


def _unusable(
    raw: NDArray[np.generic], band: StoredBand, values: NDArray[np.float32]
) -> NDArray[np.bool_] | None:
    if band.always_valid or band.is_empty_at_zero:
        return None
    bad: NDArray[np.bool_] = np.logical_not(np.isfinite(values))
    if band.nodata is not None and np.isfinite(band.nodata):
        # A float32 band holds the nearest float32 of a nodata value written with more digits.
        with np.errstate(over="ignore"):
            nodata = np.float32(band.nodata) if band.dtype == "float32" else band.nodata
        np.logical_or(bad, raw == nodata, out=bad)
    return bad
