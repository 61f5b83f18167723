"""What painting starts from: smooth fields at every pixel, and the canvas they are painted on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.synthetic.landscape import Landscape
from wholescene.datasets.synthetic.noise import derive_key, fractal_noise, value_noise
from wholescene.geometry import Window

__all__ = ["COARSE_PX", "Canvas", "Ground", "Label", "coarse_positions", "ground"]

Draws = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

COARSE_PX = 8
"""Smooth fields are computed at every eighth pixel and interpolated."""


class Label(IntEnum):
    """Class ids, in the order of the class table."""

    RIVER = 0
    LAKE = 1
    FOREST = 2
    MEADOW = 3
    CROPLAND = 4
    ROAD = 5
    BUILDING = 6
    VEHICLE = 7


@dataclass
class Canvas:
    """What is painted so far; later layers cover earlier ones.

    Args:
        label: Class id.
        material: Index into the materials.
        mix: Place in the mixture of the material, about 0 to 1.
        bright: Factor on reflectance.
    """

    label: NDArray[np.uint8]
    material: Ints
    mix: Floats
    bright: Floats

    def cover(self, where: Bools, label: Label, material: int, mix: Floats, bright: Floats) -> None:
        """Paint ``where``; arrays are as large as the canvas."""
        np.putmask(self.label, where, label)
        np.putmask(self.material, where, material)
        np.copyto(self.mix, mix, where=where)
        np.copyto(self.bright, bright, where=where)

    def cover_at(
        self, at: NDArray[np.intp], label: Label, material: Ints, mix: Floats, bright: Floats
    ) -> None:
        """Paint flat positions; one value each."""
        self.label.ravel()[at] = label
        self.material.ravel()[at] = material
        self.mix.ravel()[at] = mix
        self.bright.ravel()[at] = bright


@dataclass(frozen=True)
class Ground:
    """Smooth fields of a block, at every pixel.

    Args:
        p: Grid coordinate along lanes, in pixels.
        q: Grid coordinate along streets, in pixels.
        river: Distance to a river, negative in it, in pixels.
        lake: Distance to a lake, likewise.
        woods: Density of trees; above 1 in closed woods.
        vigour: How plants thrive, -1 to 1.
        turbidity: Of water, about 0 to 1.
        light: Factor from relief and illumination.
    """

    p: Floats
    q: Floats
    river: Floats
    lake: Floats
    woods: Floats
    vigour: Floats
    turbidity: Floats
    light: Floats


def coarse_positions(window: Window) -> tuple[Draws, Draws]:
    """Columns and rows of every eighth pixel, one beyond the window."""
    rows = np.arange(window.row_off, window.row_stop + 1, COARSE_PX, dtype=np.float64)
    cols = np.arange(window.col_off, window.col_stop + 1, COARSE_PX, dtype=np.float64)
    x, y = np.meshgrid(cols, rows)
    return x, y


def ground(land: Landscape, x: Draws, y: Draws, p: Draws, q: Draws) -> Ground:
    """Compute the smooth fields at coarse positions and refine them.

    Args:
        land: Plan of the scene.
        x: Columns, from ``coarse_positions``.
        y: Rows.
        p: ``land.grid_position`` there.
        q: Likewise.
    """

    def noise(purpose: str, scale_px: float) -> Draws:
        return value_noise(derive_key(land.key, purpose), x, y, scale_px)

    river = land.river_distance(x, y)
    lake = land.lake_distance(x, y, river)
    near_water = np.clip(1.0 - np.minimum(river, lake) / 34.0, 0.0, 1.0)
    hills = fractal_noise(derive_key(land.key, "hills"), x, y, 420.0, 3)
    woods = land.woodland(x, y) + 0.3 * near_water * noise("riparian", 90.0)
    return Ground(
        p=_refine(p),
        q=_refine(q),
        river=_refine(river),
        lake=_refine(lake),
        woods=_refine(np.clip(7.0 * woods, -1.0, 1.2)),
        vigour=_refine(noise("vigour", 170.0)),
        turbidity=_refine(0.5 + 0.4 * noise("turbidity", 800.0)),
        light=_refine(1.0 + 0.06 * hills + 0.07 * noise("illumination", 1100.0)),
    )


def _refine(coarse: Draws) -> Floats:
    """Interpolate bilinearly from every ``COARSE_PX``-th pixel to every pixel."""
    values = coarse.astype(np.float32)
    share = (np.arange(COARSE_PX) / COARSE_PX).astype(np.float32)
    tall = np.diff(values, axis=0)[:, None, :] * share[:, None]
    tall += values[:-1, None, :]
    tall = tall.reshape(-1, values.shape[1])
    across = np.diff(tall, axis=1)[:, :, None] * share
    across += tall[:, :-1, None]
    return across.reshape(tall.shape[0], -1)
