"""The grid of roads, town quarters, buildings and fields around one block, as small tables.

Coordinates are those of ``Landscape.grid_position``. A quarter lies between two streets, a section
of six by six quarters between two country roads; a section is cut into fields. Every entry is a
function of its own indices alone, so neighbouring blocks agree on it. Tables are indexed by the
place along p, then along q.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.synthetic.landscape import (
    QUARTER_PX,
    SECTION_QUARTERS,
    Landscape,
    Town,
)
from wholescene.datasets.synthetic.noise import derive_key, uniform
from wholescene.datasets.synthetic.spectra import Material

__all__ = [
    "FIELD_SLOTS",
    "LOT_SLOTS",
    "Fields",
    "Lots",
    "Quarters",
    "Roads",
    "Survey",
    "spanned_places",
    "survey",
]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Draws = NDArray[np.float64]

LOT_SLOTS = 3
"""Lots along a side of a quarter, at most."""

FIELD_SLOTS = 6
"""Rows of fields in a section, and fields in a row, at most."""

_MAIN_HALF_PX, _STREET_HALF_PX, _TRACK_HALF_PX = 3.8, 2.6, 1.7
_WATER_ROOM_PX = 26.0
_AROUND = 2


@dataclass(frozen=True)
class Quarters:
    """The quarters around a block.

    Args:
        first: Indices (p, q) of the first quarter.
        urban: Whether houses stand there.
        lots: Lots along each side, 0 for a park.
    """

    first: tuple[int, int]
    urban: NDArray[np.bool_]
    lots: Ints


@dataclass(frozen=True)
class Roads:
    """Roads in one direction, by line and place along it.

    Args:
        first: Indices (line, place) of the first entry.
        half: Half widths in pixels of the road before each quarter; 0 is no road.
        bridge: Whether it may span a river there.
    """

    first: tuple[int, int]
    half: Floats
    bridge: NDArray[np.bool_]


@dataclass(frozen=True)
class Lots:
    """Buildings, by quarter (p, q) and lot in it (p, q).

    Args:
        center: Centre within the lot (2, ...), in lots.
        half: Half sides (2, ...), in lots; 0 where nothing is built.
        notch: Where an L-shaped building is cut (2, ...), in lots from the centre.
        roof: Material.
        mix: Place in the mixture of the material.
        slope: Brightness of one half of the roof against the other.
    """

    center: Floats
    half: Floats
    notch: Floats
    roof: Ints
    mix: Floats
    slope: Floats


@dataclass(frozen=True)
class Fields:
    """Fields of the sections around a block.

    Args:
        first: Indices (p, q) of the first section.
        turned: Whether the rows of fields run along q, by section.
        rows: Rows of fields, by section.
        fields: Fields in a row, by (section, row).
        material: Material, by (section, row, field), as are all others.
        mix: Place in the mixture of the material.
        bright: Factor on reflectance.
        furrow: Strength of the furrows.
        pitch: Furrows per pixel of the grid.
        trees: Density of trees.
        hedge: Density of trees in the hedge at the near edges.
    """

    first: tuple[int, int]
    turned: NDArray[np.bool_]
    rows: Floats
    fields: Floats
    material: Ints
    mix: Floats
    bright: Floats
    furrow: Floats
    pitch: Floats
    trees: Floats
    hedge: Floats


@dataclass(frozen=True)
class Survey:
    """All tables of a block; ``streets`` run along q, ``lanes`` along p."""

    quarters: Quarters
    streets: Roads
    lanes: Roads
    lots: Lots
    fields: Fields


# Share of fields, material, strength of furrows.
_STATES = (
    (0.23, Material.GREEN_CROP, 0.2),
    (0.14, Material.RIPE_CROP, 0.16),
    (0.11, Material.BARE_SOIL, 0.08),
    (0.11, Material.PLOUGHED_SOIL, 0.32),
    (0.05, Material.BLOSSOM, 0.1),
    (0.36, Material.GRASS, 0.0),
)


def survey(land: Landscape, p: Draws, q: Draws) -> Survey:
    """Make the tables that cover these positions."""
    cols, rows = (
        np.arange(int(np.floor(v.min() / QUARTER_PX)) - 1, int(np.floor(v.max() / QUARTER_PX)) + 3)
        for v in (p, q)
    )
    x, y = land.locate(*_corners(cols, rows))
    river = land.river_distance(x, y)
    water = np.minimum(river, land.lake_distance(x, y, river))
    quarters = _quarters(land, cols, rows, water, land.towns_near(x, y))
    keys = derive_key(land.key, "streets"), derive_key(land.key, "lanes")
    return Survey(
        quarters=quarters,
        streets=_roads(keys[0], cols, rows, quarters.urban, river, gap=0.0),
        lanes=_roads(keys[1], rows, cols, quarters.urban.T, river.T, gap=0.25),
        lots=_lots(land, cols, rows, quarters),
        fields=_fields(land, cols, rows),
    )


def _corners(cols: Ints, rows: Ints) -> tuple[Draws, Draws]:
    """Corners of the quarters, and some more on each side."""
    p, q = (np.arange(v[0] - _AROUND, v[-1] + _AROUND + 2) * QUARTER_PX for v in (cols, rows))
    corners = np.meshgrid(p, q, indexing="ij")
    return corners[0], corners[1]


def _quarters(
    land: Landscape, cols: Ints, rows: Ints, water: Draws, towns: Sequence[Town]
) -> Quarters:
    p, q = (cols[:, None] + 0.5) * QUARTER_PX, (rows + 0.5) * QUARTER_PX
    ragged, farm, kind = uniform(
        derive_key(land.key, "quarter"), cols[:, None], rows, np.arange(3)[:, None, None]
    )
    urban = np.zeros(ragged.shape, bool)
    for town in towns:
        reach = town.radius + 50.0 * (0.5 - ragged)
        urban |= (p - town.p) ** 2 + (q - town.q) ** 2 < reach * reach
    beside_road = (cols % SECTION_QUARTERS == 0)[:, None] | (rows % SECTION_QUARTERS == 0)
    urban |= (farm < 0.05) & beside_road
    dry = water[_AROUND:-_AROUND, _AROUND:-_AROUND] > _WATER_ROOM_PX
    urban &= dry[:-1, :-1] & dry[1:, :-1] & dry[:-1, 1:] & dry[1:, 1:]
    lots = np.digitize(kind, (0.07, 0.2, 0.62))  # park, works, large houses, small houses
    return Quarters((int(cols[0]), int(rows[0])), urban, lots)


def _roads(
    key: int, lines: Ints, places: Ints, urban: NDArray[np.bool_], river: Draws, *, gap: float
) -> Roads:
    """Roads on ``lines`` past ``places``; ``gap`` is the share of country roads left out."""
    stretch = uniform(key, lines[:, None], places // SECTION_QUARTERS)
    beside_houses = urban | np.roll(urban, 1, axis=0)
    half = np.where(beside_houses, _STREET_HALF_PX, 0.0)
    on_track = (lines % SECTION_QUARTERS == SECTION_QUARTERS // 2)[:, None] & (stretch < 0.4)
    half = np.where(on_track & ~beside_houses, _TRACK_HALF_PX, half)
    main = (lines % SECTION_QUARTERS == 0)[:, None] & (stretch >= gap)
    half = np.where(main, _MAIN_HALF_PX, half)
    bridge = main & spanned_places(river[_AROUND : _AROUND + lines.size] > 0, places.size)
    return Roads((int(lines[0]), int(places[0])), half.astype(np.float32), bridge)


def spanned_places(dry: NDArray[np.bool_], places: int) -> NDArray[np.bool_]:
    """Whether a place lies between dry corners at most three quarters apart.

    So a road crosses a river from bank to bank, but does not run along in it.

    Args:
        dry: Corners (lines, 2 + places + 1 + 2), with two more than needed on each side.
        places: Number of places.

    Examples:
        >>> corners = np.array([[1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1]], bool)
        >>> spanned_places(corners, 6).astype(int)  # the first crossing is short enough
        array([[1, 1, 1, 0, 0, 0]])
    """
    spanned = np.zeros((dry.shape[0], places), bool)
    for before in range(_AROUND + 1):
        start = dry[:, _AROUND - before :][:, :places]
        for after in range(_AROUND - before + 1):
            spanned |= start & dry[:, _AROUND + 1 + after :][:, :places]
    return spanned


def _lots(land: Landscape, cols: Ints, rows: Ints, quarters: Quarters) -> Lots:
    slots = np.arange(LOT_SLOTS)
    lot_col = (cols[:, None] * LOT_SLOTS + slots)[:, None, :, None]
    lot_row = (rows[:, None] * LOT_SLOTS + slots)[:, None, :]
    key, purposes = derive_key(land.key, "lot"), np.arange(12).reshape(12, 1, 1, 1, 1)
    draw = uniform(key, lot_col, lot_row, purposes).astype(np.float32)
    built = (quarters.urban & (quarters.lots > 0))[:, :, None, None] & (draw[0] < 0.9)
    is_tiled, is_angled = draw[5] < 0.14, draw[6] < 0.3
    return Lots(
        center=0.44 + 0.12 * draw[1:3],
        half=np.where(built, 0.26 + 0.13 * draw[3:5], np.float32(0)),
        notch=np.where(is_angled, 0.16 * draw[7:9] - 0.08, np.float32(9)),
        roof=np.where(is_tiled, int(Material.CLAY), int(Material.PAVED)),
        mix=draw[9],
        slope=np.where(draw[10] < 0.5, np.float32(0.06), np.float32(-0.06)),
    )


def _fields(land: Landscape, cols: Ints, rows: Ints) -> Fields:
    cols, rows = (
        np.arange(v[0] // SECTION_QUARTERS, v[-1] // SECTION_QUARTERS + 1) for v in (cols, rows)
    )
    slots = np.arange(FIELD_SLOTS)
    row_of_fields = rows[:, None] * FIELD_SLOTS + slots
    section = uniform(
        derive_key(land.key, "section"), cols[:, None], rows, np.arange(2)[:, None, None]
    )
    num_rows = np.array([2, 3, 4, 4], np.float32)[(section[0] * 4).astype(np.int64)]
    length = uniform(derive_key(land.key, "length"), cols[:, None, None], row_of_fields)
    num_fields = np.array([2, 3, 4, 4, 6], np.float32)[(length * 5).astype(np.int64)]
    draw = uniform(
        derive_key(land.key, "field"),
        (cols[:, None] * FIELD_SLOTS + slots)[:, None, None, :],
        row_of_fields[..., None],
        np.arange(6).reshape(6, 1, 1, 1, 1),
    ).astype(np.float32)
    state = np.digitize(draw[0], np.cumsum([share for share, _, _ in _STATES])[:-1])
    material = np.array([int(m) for _, m, _ in _STATES])[state]
    is_grass, is_wood = material == Material.GRASS, draw[1] < 0.32
    return Fields(
        first=(int(cols[0]), int(rows[0])),
        turned=section[1] < 0.5,
        rows=num_rows,
        fields=num_fields,
        material=material,
        mix=0.05 + 0.55 * draw[3],
        bright=0.88 + 0.24 * draw[4],
        furrow=np.array([f for _, _, f in _STATES], np.float32)[state],
        pitch=1.0 / (4.0 + 3.5 * draw[2]),
        trees=np.where(is_grass, np.where(is_wood, 1.5, 0.04), 0.0).astype(np.float32),
        hedge=np.where(draw[5] < 0.3, 0.8, 0.0).astype(np.float32),
    )
