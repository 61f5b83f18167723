"""Reflectance of materials as smooth functions of wavelength, and the bands that sample it."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from wholescene.raster.source import BandSpec

__all__ = ["Material", "band_specs", "mixtures"]

Floats = NDArray[np.float64]


class Material(IntEnum):
    """What a pixel is made of: a mixture of the two spectra in ``_ENDS``.

    Roads and most roofs are ``PAVED``; rivers and lakes are both ``WATER``.
    """

    WATER = 0
    CANOPY = 1
    GRASS = 2
    GREEN_CROP = 3
    RIPE_CROP = 4
    BARE_SOIL = 5
    PLOUGHED_SOIL = 6
    BLOSSOM = 7
    PAVED = 8
    CLAY = 9
    GRAVEL = 10
    LIGHT_PAINT = 11
    DARK_PAINT = 12
    RED_PAINT = 13


_KNOTS_NM = (400, 450, 500, 550, 600, 670, 710, 750, 850, 1000, 1250, 1450, 1650, 1950, 2200, 2400)
# Reflectance in per cent at the knots: drawn by hand after the shape of published library spectra.
_CURVES = {
    "clear water": (4.5, 4.6, 4.4, 4.2, 3.0, 2.2, 1.9, 1.5, 1.2, 1.0, 0.7, 0.5, 0.5, 0.4, 0.4, 0.4),
    "turbid water": (5.5, 6.4, 7.4, 8.6, 7.4, 6, 5.2, 3.6, 2.8, 2, 1.1, 0.7, 0.7, 0.5, 0.5, 0.5),
    "sunlit leaf": (2.4, 2.6, 3.2, 5.4, 3.8, 2.9, 10, 27, 32, 34, 31, 16, 18, 6.0, 8.5, 6.0),
    "old leaf": (3.0, 3.4, 4.4, 7.4, 6.4, 5.2, 13, 26, 30, 33, 31, 18, 21, 8.0, 11, 8.0),
    "lush grass": (4.0, 4.4, 5.4, 9.4, 7.2, 5.6, 16, 33, 38, 41, 39, 24, 28, 11, 15, 11),
    "dry grass": (5.6, 6.8, 8.6, 12.6, 13.4, 13.2, 20, 28, 32, 36, 38, 27, 33, 16, 23, 18),
    "crop": (3.2, 3.4, 4.2, 8.4, 4.6, 3.4, 14, 39, 47, 49, 45, 25, 27, 9.0, 12, 8.5),
    "weak crop": (4.0, 4.8, 6.2, 9.8, 8.6, 8.4, 16, 30, 35, 38, 39, 26, 30, 15, 20, 16),
    "ripe ear": (8.0, 10.5, 14, 19, 23.5, 27, 30, 33, 37, 42, 46, 38, 44, 27, 35, 29),
    "stubble": (8.5, 10.5, 13, 16.5, 20, 23, 25, 27, 31, 36, 41, 36, 42, 28, 36, 31),
    "dry soil": (8.0, 10, 12.5, 15.5, 19, 22, 23.5, 25, 28, 32, 37, 35, 41, 31, 38, 34),
    "moist soil": (5.0, 6.2, 7.6, 9.4, 11.4, 13, 14, 15, 17.5, 21, 26, 22, 29, 19, 26, 22),
    "furrow": (3.6, 4.4, 5.4, 6.6, 8.0, 9.2, 10, 11, 13, 16, 20, 16, 22, 13, 19, 16),
    "petal": (4.5, 5.5, 12, 27, 29, 28, 33, 43, 49, 51, 47, 29, 31, 13, 16, 12),
    "asphalt": (9.0, 9.8, 10.6, 11.4, 12, 12.6, 13, 13.4, 14.2, 15.4, 17, 17.4, 19, 18.6, 19.6, 19),
    "concrete": (17, 19.4, 21.6, 23.6, 25.2, 26.6, 27.2, 27.8, 29, 30.6, 32, 31.6, 33, 31, 32, 31),
    "tile": (6.0, 6.8, 7.8, 10.4, 17.4, 23, 25.4, 27, 29.4, 33, 37, 37, 40, 37, 38, 36),
    "old tile": (6.4, 7.2, 8.2, 10, 14.6, 18.4, 20, 21.4, 23.4, 27, 31, 31, 34, 31, 32, 30),
    "gravel": (13, 15, 17.4, 20, 22.4, 24.6, 25.6, 26.6, 28.6, 31, 34, 33, 37, 31, 35, 33),
    "white paint": (38, 47, 52, 54, 55, 56, 56, 56, 56, 55, 52, 48, 48, 42, 40, 36),
    "silver paint": (30, 33, 35, 36, 37, 37, 38, 38, 38, 38, 37, 36, 36, 34, 34, 33),
    "black paint": (3.4, 3.5, 3.6, 3.7, 3.8, 3.9, 4.0, 4.1, 4.4, 4.8, 5.2, 5.4, 5.8, 6.0, 6.2, 6.4),
    "blue paint": (9.0, 13, 10, 6.4, 4.8, 4.6, 5.4, 8.0, 14, 18, 20, 20, 22, 21, 22, 21),
    "red paint": (4.0, 4.2, 4.4, 5.0, 16, 34, 38, 41, 44, 46, 46, 44, 45, 41, 41, 38),
}  # fmt: skip
_ENDS = {
    Material.WATER: ("clear water", "turbid water"),
    Material.CANOPY: ("sunlit leaf", "old leaf"),
    Material.GRASS: ("lush grass", "dry grass"),
    Material.GREEN_CROP: ("crop", "weak crop"),
    Material.RIPE_CROP: ("ripe ear", "stubble"),
    Material.BARE_SOIL: ("dry soil", "moist soil"),
    Material.PLOUGHED_SOIL: ("moist soil", "furrow"),
    Material.BLOSSOM: ("petal", "weak crop"),
    Material.PAVED: ("asphalt", "concrete"),
    Material.CLAY: ("tile", "old tile"),
    Material.GRAVEL: ("gravel", "dry soil"),
    Material.LIGHT_PAINT: ("white paint", "silver paint"),
    Material.DARK_PAINT: ("black paint", "blue paint"),
    Material.RED_PAINT: ("red paint", "red paint"),
}
_NAMED = {
    1: (("pan", 600.0),),
    3: (("red", 660.0), ("green", 560.0), ("blue", 490.0)),
    4: (("blue", 490.0), ("green", 560.0), ("red", 660.0), ("nir", 840.0)),
}


def band_specs(bands: int) -> tuple[BandSpec, ...]:
    """Name the bands of a scene: pan, RGB, BGR + near infrared, else spread over 400-2400 nm."""
    named = _NAMED.get(bands) or tuple(
        (f"b{i + 1}", round(float(nm), 1)) for i, nm in enumerate(np.linspace(400, 2400, bands))
    )
    return tuple(
        BandSpec(name=name, wavelength_nm=nm, index=i + 1) for i, (name, nm) in enumerate(named)
    )


def mixtures(wavelengths_nm: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Reflectance of each material at the start of its mixture, and the change to its end.

    Args:
        wavelengths_nm: Band centres, (B,).

    Returns:
        Two arrays (B, number of materials); reflectance is 0 to 1.
    """
    first = np.stack([_curve(_ENDS[m][0], wavelengths_nm) for m in Material], axis=1)
    second = np.stack([_curve(_ENDS[m][1], wavelengths_nm) for m in Material], axis=1)
    return first.astype(np.float32), (second - first).astype(np.float32)


def _curve(name: str, wavelengths_nm: Floats) -> Floats:
    """Cubic Hermite curve through the knots; slopes limited so that it never overshoots."""
    knots, values = np.array(_KNOTS_NM, float), np.array(_CURVES[name], float) / 100.0
    secants = np.diff(values) / np.diff(knots)
    same_sign = secants[:-1] * secants[1:] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        harmonic = 2 * secants[:-1] * secants[1:] / (secants[:-1] + secants[1:])
    slopes = np.concatenate([[0.0], np.where(same_sign, harmonic, 0.0), [0.0]])
    left = np.clip(np.searchsorted(knots, wavelengths_nm, side="right") - 1, 0, len(knots) - 2)
    width = knots[left + 1] - knots[left]
    t = np.clip((wavelengths_nm - knots[left]) / width, 0.0, 1.0)
    rise = values[left + 1] - values[left]
    ease = t * t * (3.0 - 2.0 * t)
    bend = t * (1.0 - t) * ((1.0 - t) * slopes[left] - t * slopes[left + 1])
    return np.asarray(values[left] + rise * ease + bend * width)
