from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import binary_dilation, binary_erosion

from wholescene.errors import InputError
from wholescene.evaluate.boundary import (
    BoundaryTable,
    boundary_band,
    boundary_iou,
    erode_labels,
)
from wholescene.labels import ClassTable

THREE = ClassTable.from_names("abc")

maps = arrays(
    np.int16, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.integers(-1, 2)
)


def patchy(seed: int, *, height: int = 61, width: int = 47) -> np.ndarray:
    """Blobs of three classes and none, so that boundaries have every direction."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-1, 3, (height // 6 + 1, width // 6 + 1)).astype(np.int16)
    labels = np.kron(coarse, np.ones((6, 6), np.int16))[:height, :width]
    noise = rng.random(labels.shape) < 0.05
    return np.where(noise, rng.integers(-1, 3, labels.shape), labels).astype(np.int16)


def reference_erosion(labels: np.ndarray, radius: int) -> np.ndarray:
    """A class loses what the dilation of any other class by the disc reaches."""
    down, right = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = down**2 + right**2 <= radius**2
    eroded = labels.copy()
    for index in range(3):
        others = (labels != index) & (labels != -1)
        eroded[(labels == index) & binary_dilation(others, disc)] = -1
    return eroded


def reference_band(mask: np.ndarray, width: int) -> np.ndarray:
    """The authors' way: pad by one, erode ``width`` times with a 3 x 3 square, subtract."""
    padded = np.pad(mask, 1)
    core = binary_erosion(padded, np.ones((3, 3)), iterations=width)[1:-1, 1:-1]
    return mask & ~core


def reference_counts(truth: np.ndarray, guess: np.ndarray, width: int) -> list[list[int]]:
    guess = np.where(truth == -1, -1, guess)
    rows = []
    for index in range(3):
        t = reference_band(truth == index, width)
        g = reference_band(guess == index, width)
        rows.append([int((t & g).sum()), int(t.sum()), int(g.sum())])
    return rows


def counts_of(table: BoundaryTable) -> list[list[int]]:
    return np.stack([table.hits, table.truth, table.guess], axis=1).tolist()


def halo_read(labels: np.ndarray, row: int, col: int, *, block: int, halo: int) -> np.ndarray:
    padded = np.pad(labels, halo, constant_values=-1)
    height = min(block, labels.shape[0] - row) + 2 * halo
    width = min(block, labels.shape[1] - col) + 2 * halo
    return padded[row : row + height, col : col + width]


def test_erosion_by_hand() -> None:
    labels = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]], np.int16)
    np.testing.assert_array_equal(erode_labels(labels, 1), [[0, 0, -1, -1, 1, 1]] * 2)
    np.testing.assert_array_equal(erode_labels(labels, 2), [[0, -1, -1, -1, -1, 1]] * 2)
    np.testing.assert_array_equal(erode_labels(labels, 0), labels)


def test_erosion_takes_a_disc_not_a_square() -> None:
    labels = np.zeros((9, 9), np.int16)
    labels[4, 4] = 1
    gone = erode_labels(labels, 3) == -1
    down, right = np.mgrid[-4:5, -4:5]
    np.testing.assert_array_equal(gone, down**2 + right**2 <= 9)


def test_unlabelled_pixels_and_the_scene_border_do_not_erode() -> None:
    labels = np.array([[0, 0, -1, 0, 0]], np.int16)
    np.testing.assert_array_equal(erode_labels(labels, 3), labels)


def test_erosion_looks_across_unlabelled_pixels() -> None:
    labels = np.array([[0, 0, -1, 1, 1]], np.int16)
    np.testing.assert_array_equal(erode_labels(labels, 2), [[0, -1, -1, -1, 1]])


@settings(max_examples=60)
@given(labels=maps, radius=st.integers(1, 6))
def test_erosion_equals_dilation_of_the_other_classes(labels: np.ndarray, radius: int) -> None:
    np.testing.assert_array_equal(erode_labels(labels, radius), reference_erosion(labels, radius))


@pytest.mark.parametrize("radius", [1, 3, 5])
def test_erosion_does_not_depend_on_blocks(radius: int) -> None:
    labels = patchy(3)
    whole = erode_labels(labels, radius)
    for row in range(0, labels.shape[0], 16):
        for col in range(0, labels.shape[1], 16):
            near = halo_read(labels, row, col, block=16, halo=radius)
            inner = erode_labels(near, radius)[radius:-radius, radius:-radius]
            height, width = inner.shape
            np.testing.assert_array_equal(inner, whole[row : row + height, col : col + width])


def test_erosion_leaves_its_input_alone() -> None:
    labels = patchy(0)
    before = labels.copy()
    erode_labels(labels, 2)
    np.testing.assert_array_equal(labels, before)


def test_band_by_hand() -> None:
    labels = np.zeros((5, 6), np.int16)
    labels[:, 4:] = 1
    expected = [
        [1, 1, 1, 1, 1, 1],
        [1, 0, 0, 1, 1, 1],
        [1, 0, 0, 1, 1, 1],
        [1, 0, 0, 1, 1, 1],
        [1, 1, 1, 1, 1, 1],
    ]
    np.testing.assert_array_equal(boundary_band(labels, 1), np.array(expected, bool))


@settings(max_examples=60)
@given(labels=maps, width=st.integers(1, 5))
def test_band_equals_repeated_erosion_of_each_class(labels: np.ndarray, width: int) -> None:
    expected = np.zeros(labels.shape, bool)
    for index in range(3):
        expected |= reference_band(labels == index, width)
    np.testing.assert_array_equal(boundary_band(labels, width), expected)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_boundary_counts_equal_the_direct_implementation(width: int) -> None:
    truth, guess = patchy(1), patchy(2)
    guess = np.where(np.random.default_rng(0).random(truth.shape) < 0.8, truth, guess)
    table = BoundaryTable(THREE, width)
    table.add(truth, guess)
    assert counts_of(table) == reference_counts(truth, guess, width)


@pytest.mark.parametrize("block", [7, 16, 100])
@pytest.mark.parametrize("halo", [2, 5])
def test_boundary_counts_do_not_depend_on_blocks(block: int, halo: int) -> None:
    truth, guess = patchy(4), patchy(5)
    table = BoundaryTable(THREE, 2)
    for row in range(0, truth.shape[0], block):
        for col in range(0, truth.shape[1], block):
            near = (halo_read(m, row, col, block=block, halo=halo) for m in (truth, guess))
            table.add(*near, halo_px=halo)
    assert counts_of(table) == reference_counts(truth, guess, 2)


def test_boundary_iou_by_hand() -> None:
    truth = np.zeros((1, 12), np.int16)
    truth[:, 6:] = 1
    guess = np.zeros((1, 12), np.int16)
    guess[:, 8:] = 1
    # In one row every pixel touches the border, so the bands are whole classes.
    table = BoundaryTable(THREE, 1)
    table.add(truth, guess)
    np.testing.assert_allclose(boundary_iou(table), [6 / 8, 4 / 6, math.nan])


def test_boundary_iou_sees_a_shift_that_plain_iou_forgives() -> None:
    truth = np.zeros((200, 200), np.int16)
    truth[50:150, 50:150] = 1
    guess = np.roll(truth, 3, axis=1)
    table = BoundaryTable(THREE, 3)
    table.add(truth, guess)
    plain = (truth & guess).sum() / (truth | guess).sum()
    assert plain > 0.93
    assert boundary_iou(table)[1] < 0.55


def test_perfect_map_has_perfect_boundaries() -> None:
    truth = patchy(7)
    table = BoundaryTable(THREE, 3)
    table.add(truth, np.where(truth == -1, 1, truth).astype(np.int16))
    np.testing.assert_array_equal(boundary_iou(table), [1, 1, 1])


def test_boundary_tables_add_up_over_scenes() -> None:
    one, other, both = (BoundaryTable(THREE, 2) for _ in range(3))
    for table, seed in ((one, 0), (other, 1)):
        for target in (table, both):
            target.add(patchy(seed), patchy(seed + 10))
    assert one + other == both


def test_boundary_tables_of_other_widths_do_not_add() -> None:
    with pytest.raises(InputError, match=r"at 2 px and .* at 3 px"):
        BoundaryTable(THREE, 2) + BoundaryTable(THREE, 3)


def test_halo_narrower_than_the_band_is_refused() -> None:
    labels = np.zeros((9, 9), np.int16)
    with pytest.raises(InputError, match=r"halo of 1 px does not show the whole .* 2 px"):
        BoundaryTable(THREE, 2).add(labels, labels, halo_px=1)


def test_truth_and_map_must_pair_up() -> None:
    with pytest.raises(InputError, match="do not pair up"):
        BoundaryTable(THREE, 1).add(np.zeros((2, 2), np.int16), np.zeros((2, 3), np.int16))


@pytest.mark.parametrize("radius", [-1, 1.5])
def test_radius_must_be_a_whole_number(radius: float) -> None:
    with pytest.raises(InputError, match=f"erode_px {radius}"):
        erode_labels(np.zeros((2, 2), np.int16), radius)  # type: ignore[arg-type]


def test_band_of_no_width_is_refused() -> None:
    with pytest.raises(InputError, match="boundary_px 0 is not a whole number of pixels >= 1"):
        BoundaryTable(THREE, 0)


def test_leaving_out_a_class_keeps_the_bands_of_the_others() -> None:
    table = BoundaryTable(THREE, 2)
    table.add(patchy(0), patchy(1))
    left = table.without("b")
    assert left.classes.names == ("a", "c")
    assert counts_of(left) == [counts_of(table)[0], counts_of(table)[2]]
