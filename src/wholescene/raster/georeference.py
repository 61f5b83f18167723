"""Where a raster lies: transform, CRS, ground sampling distance."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import from_gcps

from wholescene.geometry import Size

__all__ = [
    "GeoreferenceWarning",
    "Grid",
    "compose",
    "dataset_grid",
    "ground_sampling_distance",
    "map_points",
    "same_grid",
]

EARTH_RADIUS_M = 6_378_137.0
EARTH_FLATTENING = 1 / 298.257223563
SAME_PLACE_PX = 0.01
"""Corners closer than this are one place."""


class GeoreferenceWarning(UserWarning):
    """Georeferencing of a file that cannot be carried over to its map."""


@dataclass(frozen=True)
class Grid:
    """Size and place of a raster.

    Args:
        size: Rows and columns.
        transform: From (column, row) to map coordinates; the identity if there is none.
        crs: Coordinate reference system; ``None`` if there is none.
    """

    size: Size
    transform: Affine
    crs: CRS | None

    @property
    def is_placed(self) -> bool:
        """Whether the transform says anything."""
        return not self.transform.is_identity


def dataset_grid(dataset: Any) -> Grid:
    """Read the grid of an open dataset; ground control points become an affine transform.

    Warns:
        GeoreferenceWarning: If an affine transform misses a control point by over a pixel; the
            grid then has neither transform nor CRS.
    """
    size = Size(dataset.height, dataset.width)
    points, crs = dataset.gcps
    if not points or not dataset.transform.is_identity:
        return Grid(size, dataset.transform, dataset.crs)
    transform = from_gcps(points)
    inverse = ~transform if not transform.is_degenerate else None
    if inverse is not None:
        x, y = np.array([(p.x, p.y) for p in points]).T
        cols, rows = map_points(inverse, x, y)
        missed_px = np.hypot(cols - [p.col for p in points], rows - [p.row for p in points])
        if missed_px.max() <= 1:
            return Grid(size, transform, crs)
    warnings.warn(
        f"{dataset.name}: its {len(points)} ground control points fit no affine transform within "
        "a pixel, so its map gets no georeferencing; warp the scene first (gdalwarp)",
        GeoreferenceWarning,
        stacklevel=2,
    )
    return Grid(size, Affine.identity(), None)


def map_points(
    transform: Affine, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Apply an affine transform to many points."""
    return (
        transform.a * x + transform.b * y + transform.c,
        transform.d * x + transform.e * y + transform.f,
    )


def compose(outer: Affine, inner: Affine) -> Affine:
    """Transform that applies ``inner``, then ``outer``."""
    # Written out, because affine 2 spells the product * and affine 3 spells it @.
    columns = np.array([[inner.a, inner.b, inner.c], [inner.d, inner.e, inner.f], [0, 0, 1]])
    rows = np.array([[outer.a, outer.b, outer.c], [outer.d, outer.e, outer.f]])
    return Affine(*(rows @ columns).ravel().tolist())


def ground_sampling_distance(grid: Grid) -> float | None:
    """Side in metres of a square as large as a pixel at the scene centre.

    Returns:
        Metres; ``None`` without a CRS or transform, or where the CRS has no length on the ground.
    """
    if grid.crs is None or not grid.is_placed:
        return None
    area = abs(grid.transform.determinant)
    if grid.crs.is_geographic:
        middle = np.array([grid.size.width / 2]), np.array([grid.size.height / 2])
        area *= _square_degree_m2(float(map_points(grid.transform, *middle)[1][0]))
    else:
        try:
            area *= float(grid.crs.linear_units_factor[1]) ** 2
        except (CRSError, ValueError):
            return None
    return math.sqrt(area) or None


def _square_degree_m2(latitude_deg: float) -> float:
    """Area of one degree by one degree on the WGS 84 ellipsoid around ``latitude_deg``."""
    latitude = math.radians(max(-90.0, min(90.0, latitude_deg)))
    eccentricity2 = EARTH_FLATTENING * (2 - EARTH_FLATTENING)
    swell = 1 - eccentricity2 * math.sin(latitude) ** 2
    meridian_m: float = EARTH_RADIUS_M * (1 - eccentricity2) / swell**1.5
    parallel_m: float = EARTH_RADIUS_M * math.cos(latitude) / math.sqrt(swell)
    return math.radians(1) ** 2 * meridian_m * parallel_m


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether both have the same pixels, corners compared to a hundredth of a pixel."""
    if one.size != other.size or one.crs != other.crs:
        return False
    if one.transform == other.transform:
        return True
    if one.transform.is_degenerate:
        return False
    height, width = one.size
    corners = np.array([0.0, width, 0, width]), np.array([0.0, 0, height, height])
    moved = map_points(compose(~one.transform, other.transform), *corners)
    return bool(np.abs(np.subtract(moved, corners)).max() <= SAME_PLACE_PX)
