"""Area average down, linear up, and only valid pixels count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.raster.resize import Axis, nearest_pixels, resize_valid


def weights(length: int, out_length: int) -> np.ndarray:
    """Independent reference: overlap of intervals, or hat functions around pixel centres."""
    table = np.zeros((out_length, length))
    scale = length / out_length
    for i in range(out_length):
        for j in range(length):
            if scale >= 1:
                overlap = min((i + 1) * scale, j + 1) - max(i * scale, j)
                table[i, j] = max(0.0, overlap) / scale
            else:
                centre = min(max((i + 0.5) * scale - 0.5, 0), length - 1)
                table[i, j] = max(0.0, 1 - abs(centre - j))
    return table


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 30),
    out_height=st.integers(1, 14),
    out_width=st.integers(1, 14),
    seed=st.integers(0, 99),
)
def test_against_dense_weights(
    height: int, width: int, out_height: int, out_width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    valid = rng.random((height, width)) < 0.7
    values = np.where(valid, rng.normal(5, 3, (2, height, width)), 0).astype(np.float32)
    rows, cols = Axis(height, out_height), Axis(width, out_width)
    found, found_valid = resize_valid(
        values, valid, rows=rows, cols=cols, start=0, stop=out_height, first=0
    )
    down, right = weights(height, out_height), weights(width, out_width)
    share = down @ valid @ right.T
    expected = np.einsum("ij,cjk,lk->cil", down, values, right)
    sure = np.abs(share - 0.5) > 1e-3
    np.testing.assert_array_equal(found_valid[sure], (share >= 0.5)[sure])
    expected = np.where(found_valid, expected / np.maximum(share, 0.1), 0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@given(length=st.integers(1, 50), out_length=st.integers(1, 60), data=st.data())
def test_any_piece_equals_the_whole(length: int, out_length: int, data: st.DataObject) -> None:
    axis = Axis(length, out_length)
    values = np.random.default_rng(length).normal(size=(3, length)).astype(np.float32)
    whole = axis.apply(values, axis=-1, start=0, stop=out_length, first=0)
    start = data.draw(st.integers(0, out_length - 1))
    stop = data.draw(st.integers(start + 1, out_length))
    first, last = axis.span(start, stop)
    assert 0 <= first < last <= length
    piece = axis.apply(values[:, first:last], axis=-1, start=start, stop=stop, first=first)
    np.testing.assert_allclose(piece, whole[:, start:stop], atol=1e-5)


def test_average_and_linear_by_hand() -> None:
    line = np.array([[1.0, 2, 6]], np.float32)
    np.testing.assert_allclose(
        Axis(3, 2).apply(line, axis=-1, start=0, stop=2, first=0), [[4 / 3, 14 / 3]]
    )
    np.testing.assert_allclose(
        Axis(3, 6).apply(line, axis=-1, start=0, stop=6, first=0), [[1, 1.25, 1.75, 3, 5, 6]]
    )


def test_long_averages_lose_no_precision() -> None:
    line = np.full((1, 400_000), 60_000, np.float32)
    line[0, 200_000:] += 1
    found = Axis(400_000, 4).apply(line, axis=-1, start=0, stop=4, first=0)
    np.testing.assert_array_equal(found, [[60_000, 60_000, 60_001, 60_001]])


@pytest.mark.parametrize(
    ("length", "out_length", "expected"),
    [(4, 2, [1, 3]), (2, 4, [0, 0, 1, 1]), (5, 5, [0, 1, 2, 3, 4]), (1, 3, [0, 0, 0])],
)
def test_nearest_by_hand(length: int, out_length: int, expected: list[int]) -> None:
    assert nearest_pixels(length, out_length).tolist() == expected
