"""Ground footprints of rasters, and how much two of them share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform as warp_points

from wholescene.geometry import Size
from wholescene.raster.read import SceneReader

__all__ = ["Footprint", "GeoRaster", "clip_convex", "footprint", "polygon_area", "shared_area"]

Points = NDArray[np.float64]
"""Map coordinates, shape (N, 2), x before y."""

_POINTS_PER_SIDE = 16  # a straight side becomes a curve in another CRS
_LONLAT = CRS.from_epsg(4326)


class GeoRaster(Protocol):
    """Anything with a grid on the ground: a scene reader or a label reader."""

    @property
    def size(self) -> Size:
        """Rows and columns."""

    @property
    def transform(self) -> Any:
        """Affine map from (column, row) to map coordinates."""

    @property
    def crs(self) -> Any:
        """Coordinate reference system, or ``None``."""


@dataclass(frozen=True)
class Footprint:
    """The ground a raster covers.

    Args:
        corners: Its four corners in its own CRS, shape (4, 2), in order round the raster.
        crs: Its CRS; ``None`` if it has none, and then it cannot be compared with another.
    """

    corners: Points
    crs: CRS | None

    @cached_property
    def lonlat(self) -> Points | None:
        """Outline in EPSG:4326, longitude first, sides followed by intermediate points.

        Longitudes run on past 180 degrees where the raster crosses the antimeridian. ``None``
        without a CRS, or where the projection is undefined.
        """
        if self.crs is None:
            return None
        points = _reproject(_along_sides(self.corners), self.crs, _LONLAT)
        if points is None:
            return None
        if not self.crs.is_geographic:
            points[:, 0] = np.unwrap(points[:, 0], period=360.0)
        return points

    @property
    def area(self) -> float:
        """Area in squared units of the CRS."""
        return polygon_area(self.corners)


def footprint(raster: str | Path | GeoRaster, *, inset_px: float = 0.0) -> Footprint:
    """Find the ground a raster covers; reads no pixels.

    Args:
        raster: File, or an open reader.
        inset_px: Pixels left out on every side, at most a quarter of a side; with 0.25 two rasters
            that overlap by less than half a pixel count as neighbours.

    Raises:
        RasterError: If the file cannot be opened.

    Examples:
        >>> footprint("scene.tif").lonlat  # doctest: +SKIP
    """
    if isinstance(raster, str | Path):
        with SceneReader(raster) as reader:
            return footprint(reader, inset_px=inset_px)
    height, width = raster.size
    dy, dx = min(inset_px, height / 4), min(inset_px, width / 4)
    cols = np.array([dx, width - dx, width - dx, dx])
    rows = np.array([dy, dy, height - dy, height - dy])
    a, b, c, d, e, f = tuple(raster.transform)[:6]
    corners = np.column_stack([a * cols + b * rows + c, d * cols + e * rows + f])
    return Footprint(corners, raster.crs)


def shared_area(first: Footprint, second: Footprint) -> float:
    """Share of the smaller footprint that lies in the other, 0 to 1.

    Where the CRS differ, the smaller one is brought to the CRS of the larger, with points along
    its sides. Without a CRS on either side, or where the projection is undefined, the share is 0.
    """
    if first.lonlat is None or second.lonlat is None:
        return 0.0
    small, large = first, second
    if polygon_area(first.lonlat) > polygon_area(second.lonlat):
        small, large = second, first
    assert small.crs is not None and large.crs is not None
    outline: Points | None = small.corners
    if small.crs != large.crs:
        outline = _reproject(_along_sides(small.corners), small.crs, large.crs)
    if outline is None:
        return 0.0
    if large.crs.is_geographic:
        outline = _same_turn(outline, large.corners)
    area = min(polygon_area(outline), large.area)
    return polygon_area(clip_convex(outline, large.corners)) / area if area > 0 else 0.0


def clip_convex(subject: Points, convex: Points) -> Points:
    """Cut a polygon to the inside of a convex one.

    Args:
        subject: Simple polygon, shape (N, 2), either orientation.
        convex: Convex polygon, shape (M, 2), either orientation.

    Returns:
        The common polygon, shape (P, 2); (0, 2) where they share no area.

    Source:
        Sutherland and Hodgman 1974, Reentrant polygon clipping.

    Examples:
        >>> square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], float)
        >>> float(polygon_area(clip_convex(square, square + 1)))
        1.0
    """
    if _signed_area(convex) < 0:
        convex = convex[::-1]
    origin = convex[0]  # differences of large map coordinates lose digits otherwise
    kept = subject - origin
    edges = convex - origin
    for start, end in zip(edges, np.roll(edges, -1, axis=0), strict=True):
        if len(kept) == 0:
            break
        kept = _cut(kept, start, end)
    clipped: Points = kept + origin
    return clipped


def polygon_area(points: Points) -> float:
    """Area of a simple polygon, >= 0."""
    return abs(_signed_area(points))


def _signed_area(points: Points) -> float:
    if len(points) < 3:
        return 0.0
    x, y = (points - points[0]).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _cut(polygon: Points, start: Points, end: Points) -> Points:
    """Keep what lies left of the line from ``start`` to ``end``."""
    along = end - start
    side = along[0] * (polygon[:, 1] - start[1]) - along[1] * (polygon[:, 0] - start[0])
    after, side_after = np.roll(polygon, -1, axis=0), np.roll(side, -1)
    kept: list[Points] = []
    for here, there, left, left_after in zip(polygon, after, side, side_after, strict=True):
        if left >= 0:
            kept.append(here)
        if (left >= 0) != (left_after >= 0):
            kept.append(here + (there - here) * (left / (left - left_after)))
    return np.array(kept, np.float64).reshape(-1, 2)


def _along_sides(corners: Points) -> Points:
    steps = np.arange(_POINTS_PER_SIDE)[None, :, None] / _POINTS_PER_SIDE
    sides = corners[:, None] + steps * (np.roll(corners, -1, axis=0) - corners)[:, None]
    return sides.reshape(-1, 2)


def _same_turn(points: Points, reference: Points) -> Points:
    """Shift longitudes by whole turns to where ``reference`` lies."""
    lon = np.unwrap(points[:, 0], period=360.0)
    lon += 360.0 * np.round((reference[:, 0].mean() - lon.mean()) / 360.0)
    return np.column_stack([lon, points[:, 1]])


def _reproject(points: Points, source: CRS, target: CRS) -> Points | None:
    """Bring points to another CRS; ``None`` if a point has no image there."""
    try:
        xs, ys = warp_points(source, target, points[:, 0].tolist(), points[:, 1].tolist())
    except (CRSError, RasterioError):
        return None
    moved = np.array([xs, ys], np.float64).T
    return moved if np.isfinite(moved).all() else None
