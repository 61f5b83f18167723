from __future__ import annotations

import math

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from wholescene.datasets.footprint import overlapping_pairs
from wholescene.geometry import Size
from wholescene.raster.footprint import (
    Footprint,
    clip_convex,
    footprint,
    polygon_area,
    shared_area,
)


class Grid:
    """A raster without pixels."""

    def __init__(self, transform: Affine, crs: object, size: Size) -> None:
        self.transform, self.crs, self.size = transform, crs, size


def crs(code: int) -> object:
    from rasterio.crs import CRS

    return CRS.from_epsg(code)


def box(
    x: float, y: float, *, width: float = 1, height: float = 1, turn: float = 0, code: int = 32636
) -> Footprint:
    """A raster of 100 x 100 px with its lower left corner at (x, y)."""
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    dx, dy = width / 100, height / 100
    transform = Affine(dx * cos, -dy * sin, x, dx * sin, dy * cos, y)
    return footprint(Grid(transform, crs(code), Size(100, 100)), inset_px=0.25)


def test_clipping_by_hand() -> None:
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], float)
    triangle = np.array([[1, 1], [5, 1], [1, 5]], float)
    np.testing.assert_allclose(polygon_area(clip_convex(square, triangle)), 1.0)
    np.testing.assert_allclose(polygon_area(clip_convex(triangle, square[::-1])), 1.0)
    assert clip_convex(square, square + 3).shape == (0, 2)


def test_large_coordinates_lose_no_digits() -> None:
    square = np.array([[0, 0], [0.3, 0], [0.3, 0.3], [0, 0.3]], float)
    far = square + 5_000_000.0
    np.testing.assert_allclose(polygon_area(clip_convex(far, far + 0.1)), 0.04, rtol=1e-6)


ANGLES = st.lists(
    st.floats(0, 2 * math.pi, exclude_max=True), min_size=3, max_size=7, unique=True
).map(sorted)


@given(first=ANGLES, second=ANGLES, dx=st.floats(-1.5, 1.5), dy=st.floats(-1.5, 1.5))
def test_clipping_agrees_with_shapely(
    first: list[float], second: list[float], dx: float, dy: float
) -> None:
    geometry = pytest.importorskip("shapely.geometry")
    a = np.array([[math.cos(t), math.sin(t)] for t in first])
    b = np.array([[math.cos(t) + dx, math.sin(t) + dy] for t in second])
    expected = geometry.Polygon(a).buffer(0).intersection(geometry.Polygon(b).buffer(0)).area
    assert polygon_area(clip_convex(a, b)) == pytest.approx(expected, abs=1e-9)


def test_the_footprint_of_a_file_is_its_four_corners(make) -> None:
    path = make.raster("a.tif", np.ones((4, 6), np.uint8))
    corners = [[5e5, 1e5], [5e5 + 60, 1e5], [5e5 + 60, 1e5 - 40], [5e5, 1e5 - 40]]
    np.testing.assert_allclose(footprint(path).corners, corners)
    np.testing.assert_allclose(
        footprint(path, inset_px=0.25).corners[0], [5e5 + 2.5, 1e5 - 2.5], atol=1e-6
    )
    # x = 500 km is the central meridian of zone 36, 33 degrees east.
    np.testing.assert_allclose(footprint(path).lonlat[0], [33.0, 0.9047], atol=1e-4)


def test_without_crs_there_is_no_place_on_earth(make) -> None:
    path = make.raster("a.tif", np.ones((4, 6), np.uint8), crs=None)
    found = footprint(path)
    assert found.lonlat is None
    assert shared_area(found, found) == 0


def test_one_pixel_wide_scenes_keep_an_area() -> None:
    grid = Grid(Affine(10, 0, 5e5, 0, -10, 1e5), crs(32636), Size(1, 1))
    assert footprint(grid, inset_px=0.25).area == pytest.approx(25)


def test_shared_area_by_hand() -> None:
    # Insets shorten both boxes by half a pixel of 100.
    assert shared_area(box(0, 0), box(0, 0)) == pytest.approx(1)
    assert shared_area(box(0, 0), box(0.5, 0)) == pytest.approx((0.5 - 0.005) / (1 - 0.005))
    small = box(0.2, 0.2, width=0.2, height=0.2)
    assert shared_area(box(0, 0), small) == pytest.approx(1)
    assert shared_area(small, box(0, 0)) == pytest.approx(1)


@pytest.mark.parametrize("turn", [0, 30, -45, 90])
def test_neighbours_share_nothing_whatever_the_turn(turn: float) -> None:
    step = np.array([math.cos(math.radians(turn)), math.sin(math.radians(turn))])
    first = box(0, 0, turn=turn)
    assert shared_area(first, box(*step, turn=turn)) == 0
    assert shared_area(first, box(*(step * 0.996), turn=turn)) == 0  # 0.4 px
    assert shared_area(first, box(*(step * 0.99), turn=turn)) > 0  # 1 px


def test_bounding_boxes_that_meet_are_not_enough() -> None:
    turned = box(0.5, 0, turn=45)  # a diamond around (0.5, 0.7)
    corner = box(0.9, 0, width=0.2, height=0.2)
    assert shared_area(turned, corner) == 0
    assert shared_area(turned, box(0.4, 0.6, width=0.2, height=0.2)) > 0


def test_the_same_ground_in_two_crs_is_the_same_ground() -> None:
    # A 1 km square at 36 degrees east, the edge of zones 36 and 37, once in each.
    from rasterio.warp import transform

    xs, ys = transform(crs(4326), crs(32637), [36.0], [50.0])
    first = box(714_000, 5_542_000, width=3000, height=3000)
    second = box(xs[0], ys[0], width=1000, height=1000, code=32637)
    east, north = transform(crs(32637), crs(32636), xs, ys)
    assert first.corners[:, 0].min() < east[0] < first.corners[:, 0].max()
    assert first.corners[:, 1].min() < north[0] < first.corners[:, 1].max()
    lonlat = box(36.0, 50.0, width=0.01, height=0.01, code=4326)
    assert shared_area(first, second) > 0.9
    assert shared_area(second, first) == pytest.approx(shared_area(first, second))
    assert shared_area(lonlat, second) > 0.6
    assert shared_area(box(37.0, 50.0, width=0.01, height=0.01, code=4326), second) == 0


def test_the_antimeridian_is_no_wall() -> None:
    across = box(179.9, 10, width=0.2, height=0.2, code=4326)
    east = box(-180, 10, width=0.05, height=0.05, code=4326)
    west = box(179.92, 10, width=0.05, height=0.05, code=4326)
    assert list(overlapping_pairs([across, west], ["a", "b"])) == [
        (0, 1, pytest.approx(1, abs=0.01))
    ]
    projected = box(*_fiji(), width=40_000, height=40_000, code=3832)
    assert list(overlapping_pairs([across, east], ["a", "b"])) == [
        (0, 1, pytest.approx(1, abs=0.01))
    ]
    (pair,) = overlapping_pairs([projected, east], ["a", "b"])
    assert pair[2] == pytest.approx(1, abs=0.01)


def test_longitudes_may_count_to_360() -> None:
    eastward = box(200, 10, code=4326)
    assert [p[:2] for p in overlapping_pairs([eastward, box(-160, 10, code=4326)], "ab")] == [
        (0, 1)
    ]
    assert list(overlapping_pairs([eastward, box(160, 10, code=4326)], "ab")) == []


def _fiji() -> tuple[float, float]:
    from rasterio.warp import transform

    xs, ys = transform(crs(4326), crs(3832), [179.9], [9.95])
    return xs[0], ys[0]


def test_pairs_are_those_of_every_comparison() -> None:
    generator = np.random.default_rng(0)
    boxes = [
        box(*generator.uniform(0, 1500, 2), width=w, height=h, turn=t)
        for w, h, t in generator.uniform(50, 400, (60, 3))
    ]
    splits = [("train", "val", "test")[i % 3] for i in range(60)]
    expected = {
        (i, j)
        for i in range(60)
        for j in range(i + 1, 60)
        if splits[i] != splits[j] and shared_area(boxes[i], boxes[j]) > 0
    }
    found = [(i, j) for i, j, _ in overlapping_pairs(boxes, splits)]
    assert len(expected) > 20
    assert sorted(found) == sorted(expected)


def test_scenes_without_a_place_are_left_out() -> None:
    nowhere = Footprint(box(0, 0).corners, None)
    assert list(overlapping_pairs([nowhere, box(0, 0), nowhere], ["a", "a", "b"])) == []


def test_a_large_grid_of_scenes_is_fast() -> None:
    # 4,900 neighbours and one stray scene: with a comparison of every pair this takes minutes.
    def scene(col: float, row: float) -> Footprint:
        return box(5e5 + 1000 * col, 1000 * row, width=1000, height=1000)

    boxes = [scene(i, j) for i in range(70) for j in range(70)]
    stray = scene(30.5, 30.5)
    found = list(overlapping_pairs([*boxes, stray], ["train"] * 4900 + ["val"]))
    assert sorted(pair[0] for pair in found) == [70 * i + j for i in (30, 31) for j in (30, 31)]
    assert all(pair[1] == 4900 and pair[2] == pytest.approx(0.25, abs=0.01) for pair in found)
