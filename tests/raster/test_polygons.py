"""Polygons traced in bands of rows are those traced at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize, shapes

shapely = pytest.importorskip("shapely")

from wholescene.raster.polygons import (  # noqa: E402
    LabelBand,
    Polygons,
    simplify_coverage,
    stream_polygons,
)


def bands(ids: np.ndarray, keep: np.ndarray, heights: list[int]) -> Iterator[LabelBand]:
    row = turn = 0
    while row < len(ids):
        stop = row + heights[turn % len(heights)]
        yield LabelBand(row, ids[row:stop], keep[row:stop])
        row, turn = stop, turn + 1


def together(groups: Iterator[Polygons]) -> Polygons:
    held = list(groups)
    return Polygons(
        np.concatenate([group.ids for group in held]),
        np.concatenate([group.geometries for group in held]),
    )


def canonical(polygons: Polygons) -> list[tuple[int, bytes]]:
    wkb = shapely.to_wkb(shapely.normalize(polygons.geometries))
    return sorted(zip(polygons.ids.tolist(), wkb.tolist(), strict=True))


def traced_at_once(ids: np.ndarray, keep: np.ndarray) -> Polygons:
    found = [
        (int(value), shapely.geometry.shape(geometry))
        for geometry, value in shapes(ids, mask=keep, connectivity=4)
    ]
    geometries = np.empty(len(found), object)
    geometries[:] = [geometry for _, geometry in found]
    return Polygons(np.array([value for value, _ in found], np.int64), geometries)


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 25),
    width=st.integers(1, 25),
    num_classes=st.integers(1, 4),
    missing=st.sampled_from([0, 0.1, 0.6, 1]),
    heights=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    seed=st.integers(0, 999),
)
def test_bands_of_any_height_give_the_same_polygons(
    height: int, width: int, num_classes: int, missing: float, heights: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, num_classes, (height, width)).astype(np.int32)
    keep = rng.random((height, width)) >= missing
    found = together(stream_polygons(bands(ids, keep, heights)))
    assert canonical(found) == canonical(traced_at_once(ids, keep))


def test_drawing_the_polygons_gives_the_map_back() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 4, (60, 70)).astype(np.int32)
    ids = ids.repeat(3, 0)[:100]
    found = together(stream_polygons(bands(ids, ids > 1, [17])))
    drawn = rasterize(zip(found.geometries, found.ids, strict=True), out_shape=ids.shape, fill=1)
    np.testing.assert_array_equal(drawn, ids)
    assert shapely.is_valid(found.geometries).all()


def test_a_spiral_through_many_seams_is_one_polygon() -> None:
    ids = np.zeros((41, 41), np.int32)
    for ring in range(0, 20, 2):  # concentric walls with a door each
        ids[ring : 41 - ring, ring : 41 - ring] = 1
        ids[ring + 1 : 40 - ring, ring + 1 : 40 - ring] = 0
        ids[20, ring] = 0 if ring % 4 == 0 else ids[20, ring]
    found = together(stream_polygons(bands(ids, ids == 0, [3, 1])))
    assert canonical(found) == canonical(traced_at_once(ids, ids == 0))


def test_nothing_is_held_below_the_polygons_that_cross_the_row() -> None:
    # Rows of classes 0 and 1 in turn: each band finishes what the one before began.
    stripes = np.repeat(np.arange(100) % 2, 2)[:, None].repeat(5, 1).astype(np.int32)
    groups = stream_polygons(bands(stripes, stripes >= 0, [1]))
    finished = np.cumsum([len(group) for group in groups])
    for seen, done in enumerate(finished[:-1], 1):
        assert done >= (seen - 1) // 2


def test_no_vertex_on_a_straight_side() -> None:
    found = together(
        stream_polygons(bands(np.ones((30, 4), np.int32), np.ones((30, 4), bool), [1]))
    )
    assert len(found) == 1
    assert shapely.get_num_coordinates(found.geometries[0]) == 5
    assert found.geometries[0].bounds == (0, 0, 4, 30)


def test_simplified_neighbours_share_their_borders() -> None:
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 3, (6, 7))
    ids = coarse.repeat(9, 0).repeat(9, 1)
    ids ^= rng.random(ids.shape) < 0.02
    ids = ids.astype(np.int32)
    whole = together(stream_polygons(bands(ids, ids >= 0, [10])))
    simple = simplify_coverage(whole, 3.0)
    assert len(simple) == len(whole)
    assert shapely.coverage_is_valid(simple.geometries)
    assert shapely.area(simple.geometries).sum() == pytest.approx(ids.size)
    assert (
        shapely.get_num_coordinates(simple.geometries).sum()
        < shapely.get_num_coordinates(whole.geometries).sum()
    )


def test_simplifying_nothing_gives_nothing() -> None:
    empty = Polygons(np.empty(0, np.int64), np.empty(0, object))
    assert len(simplify_coverage(empty, 3.0)) == 0
