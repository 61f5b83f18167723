"""Polygons of a label map, band of rows by band of rows, without seams between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes

from wholescene.raster.gdal import gdal_env

__all__ = ["LabelBand", "Polygons", "simplify_coverage", "stream_polygons"]

Geometries = NDArray[np.object_]


@dataclass(frozen=True)
class LabelBand:
    """Some full rows of a label map.

    Args:
        row_off: First row.
        ids: Class ids, (h, width).
        keep: Whether the pixel belongs to a polygon, (h, width).
    """

    row_off: int
    ids: NDArray[np.int32]
    keep: NDArray[np.bool_]


@dataclass(frozen=True)
class Polygons:
    """Polygons in pixel coordinates (column, row) with the class id of each."""

    ids: NDArray[np.int64]
    geometries: Geometries

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, keep: NDArray[np.bool_]) -> Polygons:
        """Those that are kept."""
        return Polygons(self.ids[keep], self.geometries[keep])


@dataclass(frozen=True)
class _Traced:
    """Polygons of one band of rows, and where they meet the rows above and below.

    ``above`` and ``below`` hold a polygon and a range of columns (start, stop) per row.
    """

    polygons: Polygons
    above: NDArray[np.int64]
    below: NDArray[np.int64]


def stream_polygons(bands: Iterable[LabelBand]) -> Iterator[Polygons]:
    """Trace the 4-connected areas of equal id along pixel borders.

    A polygon comes out when the last row it may reach has been seen; until then its pieces are
    held. Memory thus follows the polygons that cross a row, not the height of the map.

    Args:
        bands: Full-width bands of rows from top to bottom without gaps.

    Yields:
        Finished polygons; corners only, no vertex along a straight side.
    """
    seam = _Seam()
    for band in bands:
        traced = _trace(band)
        yield seam.join(traced, band.ids.shape[1])
    yield seam.finish()


class _Seam:
    """The unfinished areas that touch the last row seen."""

    def __init__(self) -> None:
        self._pieces: dict[int, list[shapely.Polygon]] = {}
        self._class: dict[int, int] = {}
        self._owner: NDArray[np.int64] | None = None  # area below each column, -1 for none
        self._next = 0

    def join(self, traced: _Traced, width: int) -> Polygons:
        """Take in the next band; give what it has finished."""
        found = traced.polygons
        area_of = self._attach(traced)
        self._owner = np.full(width, -1, np.int64)
        still_open = set()
        for polygon, start, stop in traced.below.tolist():
            if polygon not in area_of:
                area_of[polygon] = self._open(int(found.ids[polygon]), found.geometries[polygon])
            self._owner[start:stop] = area_of[polygon]
            still_open.add(area_of[polygon])
        done = self._close([area for area in self._pieces if area not in still_open])
        whole = np.ones(len(found), bool)
        whole[list(area_of)] = False
        alone = found.where(whole)
        return Polygons(
            np.concatenate([done.ids, alone.ids]),
            np.concatenate([done.geometries, alone.geometries]),
        )

    def finish(self) -> Polygons:
        """Give the areas that reach the last row."""
        self._owner = None
        return self._close(list(self._pieces))

    def _attach(self, traced: _Traced) -> dict[int, int]:
        """Add the polygons that continue areas from above; areas they connect become one."""
        found = traced.polygons
        area_of: dict[int, int] = {}
        if self._owner is None:
            return area_of
        merged: dict[int, int] = {}
        for polygon, start, stop in traced.above.tolist():
            for area in np.unique(self._owner[start:stop]).tolist():
                if area == -1 or self._class[_root(merged, area)] != found.ids[polygon]:
                    continue
                area = _root(merged, area)
                if polygon not in area_of:
                    self._pieces[area].append(found.geometries[polygon])
                    area_of[polygon] = area
                else:
                    area_of[polygon] = self._merge(merged, _root(merged, area_of[polygon]), area)
        return {polygon: _root(merged, area) for polygon, area in area_of.items()}

    def _merge(self, merged: dict[int, int], one: int, other: int) -> int:
        if one == other:
            return one
        if len(self._pieces[one]) < len(self._pieces[other]):
            one, other = other, one
        self._pieces[one] += self._pieces.pop(other)
        del self._class[other]
        merged[other] = one
        return one

    def _open(self, class_id: int, piece: shapely.Polygon) -> int:
        area, self._next = self._next, self._next + 1
        self._pieces[area] = [piece]
        self._class[area] = class_id
        return area

    def _close(self, areas: list[int]) -> Polygons:
        ids = np.array([self._class.pop(area) for area in areas], np.int64)
        geometries = np.empty(len(areas), object)
        for i, area in enumerate(areas):
            geometries[i] = _dissolve(self._pieces.pop(area))
        return Polygons(ids, geometries)


def _root(merged: dict[int, int], area: int) -> int:
    while area in merged:
        area = merged[area]
    return area


def _dissolve(pieces: list[shapely.Polygon]) -> shapely.Polygon:
    if len(pieces) == 1:
        return pieces[0]
    union = shapely.union_all(pieces)
    return shapely.Polygon(_corners(union.exterior), [_corners(ring) for ring in union.interiors])


def _corners(ring: shapely.LinearRing) -> NDArray[np.float64]:
    """Vertices at which the ring turns; a union leaves others along its seams."""
    points: NDArray[np.float64] = shapely.get_coordinates(ring)[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns: NDArray[np.bool_] = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0] != 0
    corners: NDArray[np.float64] = points[turns]
    return corners


def _trace(band: LabelBand) -> _Traced:
    with gdal_env():
        found: list[Any] = list(shapes(band.ids, mask=band.keep, connectivity=4))
    rings = [shape["coordinates"] for shape, _ in found]
    num_rings = np.fromiter(map(len, rings), np.int64, len(rings))
    lengths = np.fromiter(map(len, chain.from_iterable(rings)), np.int64)
    flat = list(chain.from_iterable(chain.from_iterable(rings)))
    points = np.array(flat, np.float64).reshape(-1, 2) + np.array([0, band.row_off])
    ring_of = np.repeat(np.arange(len(lengths)), lengths)
    polygon_of = np.repeat(np.arange(len(rings)), num_rings)
    ids = np.fromiter((value for _, value in found), np.int64, len(found))
    geometries = np.empty(0, object)
    if len(rings):  # the first ring of each polygon is its shell
        linear = shapely.linearrings(points, indices=ring_of)
        geometries = shapely.polygons(linear, indices=polygon_of)
    polygons = Polygons(ids, geometries)
    top, bottom = band.row_off, band.row_off + len(band.ids)
    return _Traced(
        polygons,
        above=_sides(points, ring_of, polygon_of, top),
        below=_sides(points, ring_of, polygon_of, bottom),
    )


def _sides(
    points: NDArray[np.float64],
    ring_of: NDArray[np.int64],
    polygon_of: NDArray[np.int64],
    row: int,
) -> NDArray[np.int64]:
    """Polygon, first and one past the last column of each side that lies on ``row``."""
    on_row = points[:, 1] == row
    starts = np.flatnonzero(on_row[:-1] & on_row[1:] & (ring_of[:-1] == ring_of[1:]))
    columns = np.sort(np.stack([points[starts, 0], points[starts + 1, 0]], axis=1), axis=1)
    return np.column_stack([polygon_of[ring_of[starts]], columns.astype(np.int64)])


def simplify_coverage(polygons: Polygons, tolerance_px: float) -> Polygons:
    """Straighten borders; neighbours keep identical borders and no polygon vanishes.

    The outline of the whole stays as it is. Holds all polygons with one vertex per pixel of
    border.

    Args:
        polygons: A whole map without holes, so that all neighbours are there.
        tolerance_px: Corners are cut off up to triangles of this side squared.
    """
    if len(polygons) == 0:
        return polygons
    # Shared borders are found by their vertices: give both sides a vertex at each pixel.
    dense = shapely.transform(shapely.segmentize(polygons.geometries, 1.0), np.round)
    simple = shapely.coverage_simplify(dense, tolerance_px, simplify_boundary=False)
    outline = shapely.total_bounds(dense)
    for i, polygon in enumerate(simple):
        simple[i] = _straight_on(outline, polygon)
    return Polygons(polygons.ids, simple)


def _straight_on(outline: NDArray[np.float64], polygon: shapely.Polygon) -> shapely.Polygon:
    """Take the vertices along the outline of the map away again."""
    points = shapely.get_coordinates(polygon.exterior)[:-1]
    inner = np.zeros(len(points), bool)
    for axis, place in ((0, outline[0]), (1, outline[1]), (0, outline[2]), (1, outline[3])):
        on_side = points[:, axis] == place
        inner |= on_side & np.roll(on_side, 1) & np.roll(on_side, -1)
    if not inner.any():
        return polygon
    return shapely.Polygon(points[~inner], polygon.interiors)
