"""Where things lie in a scene: rivers, lakes, towns and the warped grid of roads and fields.

Everything is an analytic function of position, so any part of a scene can be asked for alone.
Positions are in pixels, ``x`` along columns and ``y`` along rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.synthetic.noise import (
    derive_key,
    fractal_noise,
    uniform,
    value_noise,
    winding_noise,
)
from wholescene.geometry import Size

__all__ = ["QUARTER_PX", "SECTION_PX", "SECTION_QUARTERS", "Lake", "Landscape", "Town"]

Floats = NDArray[np.float64]

QUARTER_PX = 70.0
"""Side of a town quarter between two streets."""

SECTION_QUARTERS = 6
"""Quarters between two country roads."""

SECTION_PX = QUARTER_PX * SECTION_QUARTERS
"""Side of a section between two country roads."""

_SMALLEST_WORLD_PX = 512
_CELL_PX = 700
_RIVER_SPACING_PX = 1000
_NUM_CANDIDATES = 16
_SHORE_GAP_PX = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lake:
    """A blob of two joined discs."""

    x: float
    y: float
    radius: float
    bay_x: float
    bay_y: float
    bay_radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """A disc of quarters, in grid coordinates."""

    p: float
    q: float
    radius: float


@dataclass(frozen=True)
class Landscape:
    """The plan of one scene.

    Scenes are divided into cells of about 700 px, each with a lake and a town, so that a scene of
    512 px has every class and a scene of 40,000 px has the same mixture.

    Args:
        key: Seed of this scene.
        size: Rows and columns of the scene.
    """

    key: int
    size: Size

    @cached_property
    def cell(self) -> tuple[float, float]:
        """Height and width of a cell, which tile the scene, in pixels."""
        height, width = (max(side, _SMALLEST_WORLD_PX) for side in self.size)
        return height / max(1, round(height / _CELL_PX)), width / max(1, round(width / _CELL_PX))

    @cached_property
    def _center(self) -> tuple[float, float]:
        height, width = (max(side, _SMALLEST_WORLD_PX) for side in self.size)
        return width / 2, height / 2

    @cached_property
    def _river_spacing(self) -> float:
        short = max(min(self.size), _SMALLEST_WORLD_PX)
        return float(short / max(1, round(short / _RIVER_SPACING_PX)))

    @cached_property
    def _axes(self) -> tuple[float, float, float, float]:
        """Cosine and sine of the road grid, then of the direction rivers flow in."""
        grid, river, turn = (float(uniform(derive_key(self.key, w))) for w in ("g", "r", "t"))
        grid_angle = math.radians(70 * grid - 35)
        river_angle = math.radians(50 * river - 25 + 90 * (turn < 0.5))
        return (
            math.cos(grid_angle),
            math.sin(grid_angle),
            math.cos(river_angle),
            math.sin(river_angle),
        )

    def grid_position(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Coordinates ``(p, q)`` in which roads are straight, in pixels."""
        cosine, sine, _, _ = self._axes
        dx, dy = x - self._center[0], y - self._center[1]
        bend_p, bend_q = self._bend(x, y)
        return cosine * dx + sine * dy + bend_p, cosine * dy - sine * dx + bend_q

    def locate(self, p: Floats, q: Floats) -> tuple[Floats, Floats]:
        """Invert ``grid_position``, to about a pixel at worst."""
        cosine, sine, _, _ = self._axes
        bend_p, bend_q = np.zeros_like(p), np.zeros_like(q)
        for _step in range(6):
            across, down = p - bend_p, q - bend_q
            x = cosine * across - sine * down + self._center[0]
            y = sine * across + cosine * down + self._center[1]
            bend_p, bend_q = self._bend(x, y)
        return x, y

    def _bend(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        total = []
        for axis in ("p", "q"):
            key = derive_key(self.key, "bend", axis)
            total.append(
                300.0 * value_noise(derive_key(key, 0), x, y, 5000)
                + 50.0 * value_noise(derive_key(key, 1), x, y, 700)
                + 8.0 * value_noise(derive_key(key, 2), x, y, 250)
            )
        return total[0], total[1]

    def river_distance(self, x: Floats, y: Floats) -> Floats:
        """Distance to the nearest river bank in pixels, negative in the river."""
        _, _, cosine, sine = self._axes
        dx, dy = x - self._center[0], y - self._center[1]
        along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
        nearest = np.rint(across / self._river_spacing).astype(np.int64)
        curve = np.stack([nearest - 1, nearest, nearest + 1])
        before, after = self._river_center(curve, along - 4), self._river_center(curve, along + 4)
        slope = (after - before) / 8.0
        offset = np.abs(across - (before + after) / 2.0) / np.sqrt(1.0 + slope * slope)
        half = min(28.0, max(15.0, 0.028 * self._river_spacing))
        swell = winding_noise(derive_key(self.key, "swell"), curve, along, 240.0)
        return np.asarray((offset - half * (1.0 + 0.22 * swell)).min(axis=0))

    def _river_center(self, curve: NDArray[np.int64], along: Floats) -> Floats:
        spacing = self._river_spacing
        shift = 0.3 * (uniform(derive_key(self.key, "shift"), curve) - 0.5)
        sway = min(140.0, 0.15 * spacing)
        return np.asarray(
            (curve + shift) * spacing
            + sway * winding_noise(derive_key(self.key, "sway"), curve, along, 3.4 * sway)
            + 44.0 * winding_noise(derive_key(self.key, "meander"), curve, along, 190.0)
        )

    def lake_distance(self, x: Floats, y: Floats, river: Floats) -> Floats:
        """Distance to the nearest lake shore in pixels, negative in the lake.

        Args:
            x: Columns.
            y: Rows.
            river: ``river_distance`` there; lakes keep off rivers.
        """
        distance = np.full(x.shape, 1e6)
        for cell in self._cells_near(x, y, reach=260.0):
            lake = self.lake(*cell)
            main = np.hypot(x - lake.x, y - lake.y) - lake.radius
            bay = np.hypot(x - lake.bay_x, y - lake.bay_y) - lake.bay_radius
            blend = 0.5 * lake.radius
            overlap = np.maximum(blend - np.abs(main - bay), 0.0)
            blob = np.minimum(main, bay) - overlap * overlap / (4 * blend)
            rough = value_noise(derive_key(self.key, "shore"), x, y, 0.8 * lake.radius)
            np.minimum(distance, blob + 0.22 * lake.radius * rough, out=distance)
        distance += 4.0 * value_noise(derive_key(self.key, "inlet"), x, y, 26.0)
        return np.asarray(np.maximum(distance, _SHORE_GAP_PX - river))

    def lake(self, row: int, col: int) -> Lake:
        """The lake of a cell, placed away from rivers and country roads."""
        return _place_lake(self, row, col)

    def towns_near(self, x: Floats, y: Floats) -> list[Town]:
        """Towns that may reach one of these positions."""
        return [_place_town(self, *cell) for cell in self._cells_near(x, y, reach=400.0)]

    def woodland(self, x: Floats, y: Floats) -> Floats:
        """Smooth field that is above 0 in woods."""
        return fractal_noise(derive_key(self.key, "woods"), x, y, 300.0, 3) - 0.42

    def _cells_near(self, x: Floats, y: Floats, *, reach: float) -> list[tuple[int, int]]:
        height, width = self.cell
        rows = range(
            math.floor((float(y.min()) - reach) / height),
            math.floor((float(y.max()) + reach) / height) + 1,
        )
        cols = range(
            math.floor((float(x.min()) - reach) / width),
            math.floor((float(x.max()) + reach) / width) + 1,
        )
        return [(row, col) for row in rows for col in cols]

    def candidates(self, row: int, col: int, purpose: str) -> tuple[Floats, Floats, Floats]:
        """Positions ``x, y`` inside a cell to choose from, and a random weight of each."""
        height, width = self.cell
        key, number = derive_key(self.key, purpose), np.arange(_NUM_CANDIDATES)
        cell_key = derive_key(key, row, col)
        x = (col + 0.16 + 0.68 * uniform(cell_key, number, 0)) * width
        y = (row + 0.16 + 0.68 * uniform(cell_key, number, 1)) * height
        return x, y, uniform(cell_key, number, 2)


@lru_cache(maxsize=512)
def _place_lake(land: Landscape, row: int, col: int) -> Lake:
    x, y, weight = land.candidates(row, col, "lake")
    river = land.river_distance(x, y) - _SHORE_GAP_PX
    roads = [np.abs(v - np.rint(v / SECTION_PX) * SECTION_PX) for v in land.grid_position(x, y)]
    room = np.minimum(river, np.minimum(roads[0], roads[1]) - 8.0)
    draw = uniform(derive_key(land.key, "lake shape", row, col), np.arange(3))
    wanted = min(115.0, (0.1 + 0.09 * float(draw[0])) * min(land.cell))
    best = int(np.argmax(np.minimum(room, wanted) * (0.8 + 0.2 * weight)))
    # Where roads leave too little room, the lake interrupts them.
    least = min(0.7 * wanted, max(24.0, float(river[best])))
    radius = min(wanted, max(least, float(room[best]) / 1.15))
    angle, share = 2 * math.pi * float(draw[1]), 0.45 + 0.3 * float(draw[2])
    return Lake(
        x=float(x[best]),
        y=float(y[best]),
        radius=radius,
        bay_x=float(x[best]) + 0.85 * radius * math.cos(angle),
        bay_y=float(y[best]) + 0.85 * radius * math.sin(angle),
        bay_radius=share * radius,
    )


@lru_cache(maxsize=512)
def _place_town(land: Landscape, row: int, col: int) -> Town:
    x, y, weight = land.candidates(row, col, "town")
    lake = land.lake(row, col)
    radius = min(230.0, max(90.0, 0.27 * min(land.cell)))
    lake_room = np.hypot(x - lake.x, y - lake.y) - lake.radius
    room = np.minimum(lake_room, land.river_distance(x, y) + 40.0)
    best = int(np.argmax(np.minimum(room, radius) * (0.8 + 0.2 * weight)))
    p, q = land.grid_position(x[best : best + 1], y[best : best + 1])
    return Town(p=float(p[0]), q=float(q[0]), radius=radius * (0.85 + 0.3 * float(weight[best])))
