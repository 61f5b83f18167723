"""Towns and roads: yards, houses, streets and the vehicles on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.synthetic.ground import Canvas, Ground, Label
from wholescene.datasets.synthetic.landscape import QUARTER_PX, SECTION_PX, Landscape
from wholescene.datasets.synthetic.noise import derive_key, uniform
from wholescene.datasets.synthetic.parcels import LOT_SLOTS, Quarters, Roads, Survey
from wholescene.datasets.synthetic.spectra import Material
from wholescene.datasets.synthetic.texture import Texture

__all__ = ["Town", "build_houses", "build_roads", "find_town", "lay_out_yards"]

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

_SETBACK_PX = 4.0
_WIDEST_HALF_PX = 4.0
_VEHICLE_SLOT_PX = 21.0
_VEHICLE_SHARE = 0.22
_PAINTS = np.array([Material.LIGHT_PAINT, Material.DARK_PAINT, Material.RED_PAINT], np.int64)


@dataclass(frozen=True)
class Town:
    """The pixels of a block that lie in town.

    Args:
        at: Flat positions.
        quarter: Flat index of the quarter of each.
        lots: Lots along each side of that quarter.
        local: Place in the quarter (2, n) along p and q, 0 to 1.
    """

    at: NDArray[np.intp]
    quarter: Ints
    lots: Ints
    local: Floats


def find_town(smooth: Ground, quarters: Quarters) -> Town:
    """Find the pixels in town."""
    if not quarters.urban.any():
        none = np.zeros(0, np.int64)
        return Town(none, none, none, np.zeros((2, 0), np.float32))
    p, q = smooth.p / np.float32(QUARTER_PX), smooth.q / np.float32(QUARTER_PX)
    p -= quarters.first[0]
    q -= quarters.first[1]
    # Positions are not negative now, so that truncation is floor.
    col, row = p.astype(np.int32), q.astype(np.int32)
    index = col * np.int32(quarters.urban.shape[1]) + row
    at = np.flatnonzero(quarters.urban.ravel()[index])
    quarter = index.ravel()[at].astype(np.int64)
    local = np.stack([(p - col).ravel()[at], (q - row).ravel()[at]])
    return Town(at, quarter, quarters.lots.ravel()[quarter], local)


def lay_out_yards(canvas: Canvas, town: Town, trees: Floats, texture: Texture) -> None:
    """Put lawns between the houses, and thin out the trees there."""
    if town.at.size == 0:
        return
    mottle = texture.mottle.ravel()[town.at]
    grass = np.full(town.at.size, int(Material.GRASS))
    canvas.cover_at(town.at, Label.MEADOW, grass, 0.45 + 0.35 * mottle, 0.9 + 0.08 * mottle)
    wild = trees.ravel()[town.at]
    trees.ravel()[town.at] = np.where(town.lots == 0, 0.4, 0.13) + 0.25 * np.clip(wild, 0.0, 1.0)


def build_houses(
    canvas: Canvas, town: Town, tables: Survey, is_dry: Bools, texture: Texture
) -> Bools:
    """Build at most one house on each lot; returns where they stand."""
    is_house = np.zeros(is_dry.shape, bool)
    if town.at.size == 0:
        return is_house
    lots = tables.lots
    at, lot, place = _find_lots(town)
    place -= lots.center.reshape(2, -1)[:, lot]
    half = lots.half.reshape(2, -1)[:, lot]
    built = (np.abs(place) < half).all(axis=0) & is_dry.ravel()[at]
    built &= ~(place > lots.notch.reshape(2, -1)[:, lot]).all(axis=0)
    at, lot, across = at[built], lot[built], place[0][built]
    slope = np.where(across > 0, lots.slope.ravel()[lot], -lots.slope.ravel()[lot])
    bright = 1.0 + slope + 0.04 * texture.speckle.ravel()[at]
    canvas.cover_at(at, Label.BUILDING, lots.roof.ravel()[lot], lots.mix.ravel()[lot], bright)
    is_house.ravel()[at] = True
    return is_house


def _find_lots(town: Town) -> tuple[NDArray[np.intp], Ints, Floats]:
    """Positions on lots, the flat index of the lot, and the place in it, 0 to 1."""
    place = town.local - np.float32(_SETBACK_PX / QUARTER_PX)
    place *= town.lots * np.float32(QUARTER_PX / (QUARTER_PX - 2 * _SETBACK_PX))
    inside = np.flatnonzero(((place >= 0) & (place < town.lots)).all(axis=0))
    place, quarter = place[:, inside], town.quarter[inside]
    slot = place.astype(np.int64)
    return (
        town.at[inside],
        (quarter * LOT_SLOTS + slot[0]) * LOT_SLOTS + slot[1],
        (place - slot).astype(np.float32),
    )


def build_roads(
    land: Landscape,
    canvas: Canvas,
    smooth: Ground,
    tables: Survey,
    is_water: Bools,
    texture: Texture,
) -> None:
    """Build streets, lanes, country roads, tracks and bridges, and put vehicles on them."""
    is_lake = is_water & (smooth.lake < smooth.river)
    for name, roads, across, along in (
        ("streets", tables.streets, smooth.p, smooth.q),
        ("lanes", tables.lanes, smooth.q, smooth.p),
    ):
        key = derive_key(land.key, "road", name)
        strip = _find_road(roads, across, along, is_water, is_lake)
        _pave(canvas, key, strip, texture)
        _park_vehicles(canvas, key, strip)


@dataclass(frozen=True)
class _Strip:
    """Pixels of roads: flat position, line, place along it and off it, and half width in pixels."""

    at: NDArray[np.intp]
    line: Floats
    along: Floats
    offset: Floats
    half: Floats

    def only(self, where: NDArray[np.bool_]) -> _Strip:
        return _Strip(
            self.at[where],
            self.line[where],
            self.along[where],
            self.offset[where],
            self.half[where],
        )


def _find_road(
    roads: Roads, across: Floats, along: Floats, is_water: Bools, is_lake: Bools
) -> _Strip:
    line = across / np.float32(QUARTER_PX)
    np.rint(line, out=line)
    offset = across - line * np.float32(QUARTER_PX)
    at = np.flatnonzero(np.abs(offset) < _WIDEST_HALF_PX)
    line, offset, along = line.ravel()[at], offset.ravel()[at], along.ravel()[at]
    index = (line - roads.first[0]).astype(np.int64) * roads.half.shape[1]
    index += np.floor(along / np.float32(QUARTER_PX) - roads.first[1]).astype(np.int64)
    half = roads.half.ravel()[index]
    spans = roads.bridge.ravel()[index] & ~is_lake.ravel()[at]
    is_road = (np.abs(offset) < half) & (spans | ~is_water.ravel()[at])
    return _Strip(at, line, along, offset, half).only(is_road)


def _pave(canvas: Canvas, key: int, strip: _Strip, texture: Texture) -> None:
    is_track = strip.half < 2.0
    material = np.where(is_track, int(Material.GRAVEL), int(Material.PAVED))
    stretch = np.floor(strip.along / np.float32(SECTION_PX))
    mix = uniform(key, strip.line, stretch).astype(np.float32)
    bright = 1.0 + 0.04 * texture.speckle.ravel()[strip.at]
    canvas.cover_at(strip.at, Label.ROAD, material, mix, bright)


def _park_vehicles(canvas: Canvas, key: int, strip: _Strip) -> None:
    """At most one vehicle in each slot of each lane, two by four pixels."""
    in_lane = np.abs(np.abs(strip.offset) - 0.5 * strip.half) < 1.05
    strip = strip.only(in_lane & (strip.half > 2.0))
    lane = strip.line * 2 + (strip.offset > 0)
    slot = np.floor(strip.along / np.float32(_VEHICLE_SLOT_PX))
    draw = uniform(derive_key(key, "vehicles"), lane, slot, np.arange(4)[:, None])
    middle = (slot + 0.2 + 0.6 * draw[0]) * _VEHICLE_SLOT_PX
    parked = (draw[1] < _VEHICLE_SHARE) & (np.abs(strip.along - middle) < 2.2)
    paint = _PAINTS[np.digitize(draw[2][parked], (0.55, 0.85))]
    mix = np.rint(draw[3][parked]).astype(np.float32)
    canvas.cover_at(strip.at[parked], Label.VEHICLE, paint, mix, np.ones_like(mix))
