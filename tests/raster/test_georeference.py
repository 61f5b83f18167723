"""Transforms, control points and ground sampling distances."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from toy_rasters import NORTH_UP, MakeRaster, ramp

from wholescene.geometry import Size
from wholescene.raster import GeoreferenceWarning, SceneReader, open_info
from wholescene.raster.georeference import Grid, compose, ground_sampling_distance, same_grid

UTM = CRS.from_epsg(32630)


def gsd_m(transform: Affine, crs: CRS | None) -> float | None:
    return ground_sampling_distance(Grid(Size(100, 100), transform, crs))


def test_metres_feet_and_nothing() -> None:
    assert gsd_m(NORTH_UP, UTM) == 10
    feet = CRS.from_epsg(2263)  # US survey feet
    assert gsd_m(Affine(10, 0, 0, 0, -10, 0), feet) == pytest.approx(10 * 1200 / 3937)
    assert gsd_m(NORTH_UP, None) is None
    assert gsd_m(Affine.identity(), UTM) is None


def test_pixels_that_are_no_squares() -> None:
    assert gsd_m(Affine(2, 0, 0, 0, -8, 0), UTM) == pytest.approx(4)


def test_degrees_become_metres_at_the_scene_centre() -> None:
    lonlat = CRS.from_epsg(4326)
    step = 1e-4
    # One degree at the equator: 111.3195 km along it, 110.574 km across (GRS 80 tables).
    equator = Affine(step, 0, 30, 0, -step, 50 * step)
    assert gsd_m(equator, lonlat) == pytest.approx(step * np.sqrt(111_319.5 * 110_574), rel=1e-4)
    # At 60 degrees north: 55.800 km and 111.412 km.
    north = Affine(step, 0, 30, 0, -step, 60 + 50 * step)
    assert gsd_m(north, lonlat) == pytest.approx(step * np.sqrt(55_800 * 111_412), rel=1e-4)


def control_points(transform: Affine, wobble: float = 0.0) -> list[GroundControlPoint]:
    points = []
    for i, (row, col) in enumerate(((0, 0), (0, 30), (20, 0), (20, 30), (7, 11))):
        x = transform.a * col + transform.b * row + transform.c + wobble * (i == 4)
        y = transform.d * col + transform.e * row + transform.f
        points.append(GroundControlPoint(row=row, col=col, x=x, y=y, z=0))
    return points


def with_points(make_raster: MakeRaster, points: list[GroundControlPoint]) -> str:
    path = make_raster(ramp(20, 30), crs=None, transform=None)
    with rasterio.Env(), pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        file = rasterio.open(path, "r+")
    file.gcps = (points, UTM)
    file.close()
    return str(path)


def test_control_points_become_a_transform(make_raster: MakeRaster) -> None:
    rotated = Affine(9, 2, 500_000, 2, -9, 4_600_000)
    with SceneReader(with_points(make_raster, control_points(rotated))) as reader:
        assert reader.transform.almost_equals(rotated, precision=1e-3)
        assert reader.crs == UTM
        assert reader.gsd_m == pytest.approx(np.sqrt(85), rel=1e-4)


def test_control_points_that_fit_no_transform_warn(make_raster: MakeRaster) -> None:
    path = with_points(make_raster, control_points(NORTH_UP, wobble=500))
    with pytest.warns(GeoreferenceWarning, match="5 ground control points fit no affine transform"):
        info = open_info(path)
    assert info.crs is None and info.transform == Affine.identity()


def test_grids_are_compared_on_the_ground() -> None:
    size = Size(1000, 2000)
    grid = Grid(size, NORTH_UP, UTM)
    noise = Affine(10 + 1e-7, 0, 500_000.01, 0, -10, 4_600_000)
    assert same_grid(grid, Grid(size, noise, UTM))
    assert not same_grid(grid, Grid(size, Affine(10.001, 0, 500_000, 0, -10, 4_600_000), UTM))
    assert not same_grid(grid, Grid(size, Affine(10, 0, 500_001, 0, -10, 4_600_000), UTM))
    assert not same_grid(grid, Grid(size, NORTH_UP, None))
    assert not same_grid(grid, Grid(Size(1000, 1999), NORTH_UP, UTM))


def test_compose_applies_the_inner_transform_first() -> None:
    shift, double = Affine.translation(3, 4), Affine.scale(2)
    assert compose(double, shift) == Affine(2, 0, 6, 0, 2, 8)
    assert compose(shift, double) == Affine(2, 0, 3, 0, 2, 4)
