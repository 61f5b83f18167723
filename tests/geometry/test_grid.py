import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholescene.errors import InputError
from wholescene.geometry import Size, Window, block_windows, cover_starts, grid_windows

sides = st.integers(1, 40)


@given(sides, sides, st.data())
def test_patches_cover_every_pixel_and_stay_inside(length: int, patch: int, data) -> None:
    stride = data.draw(st.integers(1, patch))
    starts = cover_starts(length, patch, stride)
    seen = np.zeros(length, bool)
    for start in starts:
        seen[start : start + patch] = True
        assert start + patch <= max(length, patch)
    assert seen.all()
    assert starts == sorted(set(starts))


def test_published_tilings() -> None:
    assert cover_starts(2000, 896, 512) == [0, 512, 1024, 1104]
    assert len(cover_starts(6000, 512, 512)) == 12


@pytest.mark.parametrize("stride", [0, -1, 5])
def test_a_stride_that_leaves_gaps_is_refused(stride: int) -> None:
    with pytest.raises(InputError, match=f"stride {stride} px"):
        cover_starts(10, 4, stride)


@given(sides, sides, sides, sides)
def test_blocks_tile_a_scene_exactly(height: int, width: int, rows: int, cols: int) -> None:
    count = np.zeros((height, width), int)
    for window in block_windows(Size(height, width), Size(rows, cols)):
        count[window.rows, window.cols] += 1
    assert (count == 1).all()


def test_grid_is_row_major() -> None:
    windows = list(grid_windows(Size(4, 6), Size(4, 4), Size(4, 4)))
    assert [(w.row_off, w.col_off) for w in windows] == [(0, 0), (0, 2)]


@given(*[st.tuples(st.integers(-5, 9), st.integers(-5, 9), sides, sides)] * 2)
def test_intersection_equals_the_set_of_common_pixels(a, b) -> None:
    def pixels(window: Window) -> set[tuple[int, int]]:
        rows = range(window.row_off, window.row_stop)
        return {(r, c) for r in rows for c in range(window.col_off, window.col_stop)}

    first, second = (Window(row_off=r, col_off=c, height=h, width=w) for r, c, h, w in (a, b))
    assert pixels(first.intersect(second)) == pixels(first) & pixels(second)


def test_grow_and_relative_to() -> None:
    window = Window(row_off=3, col_off=4, height=2, width=5).grow(1)
    assert window == Window(row_off=2, col_off=3, height=4, width=7)
    inner = Window(row_off=3, col_off=4, height=1, width=1)
    assert inner.relative_to(window) == Window(row_off=1, col_off=1, height=1, width=1)
