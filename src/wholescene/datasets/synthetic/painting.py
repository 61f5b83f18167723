"""One block of countryside: the label, material and brightness of every pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.synthetic.ground import Canvas, Ground, Label, coarse_positions, ground
from wholescene.datasets.synthetic.landscape import SECTION_PX, Landscape
from wholescene.datasets.synthetic.parcels import FIELD_SLOTS, Fields, survey
from wholescene.datasets.synthetic.settlement import (
    build_houses,
    build_roads,
    find_town,
    lay_out_yards,
)
from wholescene.datasets.synthetic.spectra import Material
from wholescene.datasets.synthetic.texture import Texture
from wholescene.geometry import Window

__all__ = ["paint"]

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_SHADE = np.float32(0.5)


def paint(land: Landscape, window: Window, texture: Texture, sun: tuple[float, float]) -> Canvas:
    """Paint a window whose corner and sides are multiples of ``COARSE_PX``.

    Shadows near the border of the window may be missing.

    Args:
        land: Plan of the scene.
        window: Pixels to paint.
        texture: Texture of this window.
        sun: Unit vector (down, right) towards the sun.
    """
    x, y = coarse_positions(window)
    p, q = land.grid_position(x, y)
    tables, smooth = survey(land, p, q), ground(land, x, y, p, q)
    bank = np.minimum(smooth.river, smooth.lake) + 2.0 * texture.mottle
    is_water = bank < 0
    canvas, trees = _paint_fields(smooth, tables.fields, texture)
    _paint_banks(canvas, bank - 9.0 * smooth.vigour, texture)
    town = find_town(smooth, tables.quarters)
    np.maximum(trees, smooth.woods, out=trees)
    lay_out_yards(canvas, town, trees, texture)
    is_tree = _paint_trees(canvas, smooth, trees, texture) & ~is_water
    _paint_water(canvas, smooth, bank, is_water, texture)
    is_house = build_houses(canvas, town, tables, bank > 3.0, texture)
    _cast_shadows(canvas, is_tree, is_house, sun)
    build_roads(land, canvas, smooth, tables, is_water, texture)
    canvas.bright *= smooth.light
    return canvas


def _paint_fields(smooth: Ground, fields: Fields, texture: Texture) -> tuple[Canvas, Floats]:
    """Paint all ground as fields; returns the density of trees too."""
    place, along, across = _find_fields(smooth, fields)
    # Furrows run along the rows of fields.
    wave = across * fields.pitch.ravel()[place]
    wave -= np.floor(wave)
    wave -= 0.5
    np.abs(wave, out=wave)
    wave *= 4.0
    wave -= 1.0
    wave *= fields.furrow.ravel()[place]
    wave += fields.mix.ravel()[place]
    wave += 0.22 * texture.mottle
    wave += 0.16 * smooth.vigour
    bright = 0.05 * texture.mottle
    bright += fields.bright.ravel()[place]
    material = fields.material.ravel()[place]
    label = np.full(material.shape, Label.CROPLAND, np.uint8)
    np.putmask(label, material == Material.GRASS, Label.MEADOW)
    trees = fields.trees.ravel()[place]
    at = np.flatnonzero(np.minimum(along, across) < 4.5)
    hedge = fields.hedge.ravel()[place.ravel()[at]]
    trees.ravel()[at] = np.maximum(trees.ravel()[at], hedge)
    return Canvas(label, material, wave, bright), trees


def _find_fields(smooth: Ground, fields: Fields) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Flat index of the field of each pixel, and the place in it along and across its row.

    Places are in pixels of the grid.
    """
    col, row = smooth.p / np.float32(SECTION_PX), smooth.q / np.float32(SECTION_PX)
    col -= fields.first[0]
    row -= fields.first[1]
    # Positions are not negative now, so that truncation is floor.
    section_col, section_row = col.astype(np.int32), row.astype(np.int32)
    col -= section_col
    row -= section_row
    section = (section_col * fields.rows.shape[1] + section_row).astype(np.int64)
    turned = fields.turned.ravel()[section]
    along, across = np.where(turned, row, col), np.where(turned, col, row)
    place = section * FIELD_SLOTS
    across = _divide(across, fields.rows.ravel()[section], place)
    counts = fields.fields.ravel()[place]
    place *= FIELD_SLOTS
    along = _divide(along, counts, place)
    return place, along, across


def _divide(position: Floats, counts: Floats, place: NDArray[np.int64]) -> Floats:
    """Cut sections into ``counts`` parts, add the part to ``place``, and find pixels within it."""
    position *= counts
    part = position.astype(np.int32)
    place += part
    position -= part
    position *= np.float32(SECTION_PX)
    position /= counts
    return position


def _paint_banks(canvas: Canvas, bank: Floats, texture: Texture) -> None:
    """Grass along rivers and lakes alike, so that only the shape of the water tells."""
    is_bank = bank < 14.0
    if is_bank.any():
        grass = 0.4 + 0.3 * texture.mottle
        canvas.cover(is_bank, Label.MEADOW, Material.GRASS, grass, np.full_like(grass, 0.95))


def _paint_trees(canvas: Canvas, smooth: Ground, trees: Floats, texture: Texture) -> Bools:
    is_wood = (texture.rank < trees) | (trees > 0.97)
    species = 0.9 * smooth.vigour
    species += 0.2 * texture.mottle
    species += 0.5
    np.clip(species, 0.0, 1.0, out=species)
    bright = 0.42 * texture.light
    bright += 0.1 * texture.speckle
    bright += 0.74
    np.maximum(bright, 0.3, out=bright)
    canvas.cover(is_wood, Label.FOREST, Material.CANOPY, species, bright)
    return is_wood


def _paint_water(
    canvas: Canvas, smooth: Ground, bank: Floats, is_water: Bools, texture: Texture
) -> None:
    """Rivers and lakes are the same water; only the label asks which is nearer."""
    at = np.flatnonzero(is_water)
    if at.size == 0:
        return
    mix = smooth.turbidity.ravel()[at] + 0.12 * texture.mottle.ravel()[at]
    mix += 0.3 * np.clip(bank.ravel()[at] / 2.5 + 1.0, 0.0, 1.0)
    bright = 1.0 + 0.05 * texture.speckle.ravel()[at]
    is_lake = smooth.lake.ravel()[at] < smooth.river.ravel()[at]
    water = np.full(at.size, int(Material.WATER))
    canvas.cover_at(at, Label.RIVER, water, mix, bright)
    canvas.label.ravel()[at[is_lake]] = Label.LAKE


def _cast_shadows(
    canvas: Canvas, is_tree: Bools, is_house: Bools, sun: tuple[float, float]
) -> None:
    """Darken what lies behind trees and houses, by about half their height."""
    shaded = np.zeros(is_tree.shape, bool)
    for tall, lengths in ((is_tree, (2.0, 4.0)), (is_house, (1.5, 3.5, 5.5))):
        for length in lengths:
            step = (round(-sun[0] * length), round(-sun[1] * length))
            shaded |= np.roll(tall, step, axis=(0, 1))
    shaded &= ~(is_tree | is_house)
    np.multiply(canvas.bright, _SHADE, out=canvas.bright, where=shaded)
