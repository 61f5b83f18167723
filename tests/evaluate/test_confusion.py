from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import confusion_matrix

from wholescene.errors import InputError, LabelError
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.labels import ClassTable

TWO = ClassTable.from_names(["land", "water"])
THREE = ClassTable.from_names(["land", "water", "road"])

indices = arrays(np.int16, (7, 5), elements=st.integers(-1, 2))


def counted(truth: np.ndarray, guess: np.ndarray, classes: ClassTable = THREE) -> ConfusionTable:
    table = ConfusionTable(classes)
    table.add(truth, guess)
    return table


def test_rows_are_truth_and_columns_are_map() -> None:
    truth = np.array([[0, 0, 1], [1, 1, -1]])
    guess = np.array([[0, 1, 1], [1, 0, 0]])
    table = counted(truth, guess, TWO)
    np.testing.assert_array_equal(table.table, [[1, 1], [1, 2]])
    assert table.ignored_pixels == 1
    assert table.table.dtype == np.int64


def test_pixels_the_map_left_empty_stay_in_the_support_of_their_class() -> None:
    truth = np.array([0, 0, 0, 1, -1])
    guess = np.array([0, -1, -1, 1, -1])
    table = counted(truth, guess, TWO)
    np.testing.assert_array_equal(table.unmapped, [2, 0])
    np.testing.assert_array_equal(table.support, [3, 1])
    np.testing.assert_array_equal(table.mapped, [1, 1])
    assert (table.unmapped_pixels, table.ignored_pixels, table.scored_pixels) == (2, 1, 4)


def test_agrees_with_scikit_learn_on_random_indices() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 3, (2, 1000))
    expected = confusion_matrix(truth, guess, labels=[0, 1, 2])
    np.testing.assert_array_equal(counted(truth, guess).table, expected)


@given(truth=indices, guess=indices, cut=st.integers(0, 7))
def test_blocks_and_sums_of_tables_count_as_the_whole(
    truth: np.ndarray, guess: np.ndarray, cut: int
) -> None:
    whole = counted(truth, guess)
    in_blocks = ConfusionTable(THREE)
    in_blocks.add(truth[:cut], guess[:cut])
    in_blocks.add(truth[cut:], guess[cut:])
    assert in_blocks == whole
    assert counted(truth[:cut], guess[:cut]) + counted(truth[cut:], guess[cut:]) == whole
    assert whole.scored_pixels + whole.ignored_pixels == truth.size


def test_sum_leaves_both_tables_alone() -> None:
    one, other = counted(np.array([0]), np.array([1])), counted(np.array([2]), np.array([2]))
    total = one + other
    total.add(np.array([1]), np.array([1]))
    assert one.table.sum() == other.table.sum() == 1


def test_counts_past_2_to_the_24_pixels_of_one_class() -> None:
    # A float32 count stops at 2^24 = 16,777,216.
    truth = np.zeros(2**25 + 3, np.uint8)
    guess = truth.copy()
    guess[-1] = 1
    np.testing.assert_array_equal(counted(truth, guess, TWO).table, [[2**25 + 2, 1], [0, 0]])


def test_counts_stay_exact_far_past_32_bits() -> None:
    table = ConfusionTable(TWO, np.array([[2**40, 0], [0, 0]]))
    for _ in range(3):
        table.add(np.broadcast_to(np.int16(0), (1000, 1000)), np.zeros((1000, 1000), np.int16))
    assert table.table[0, 0] == 2**40 + 3_000_000
    assert (table + table).table[0, 0] == 2**41 + 6_000_000


def test_leaving_a_class_out_ignores_its_pixels_and_keeps_errors_of_others() -> None:
    table = ConfusionTable(
        THREE,
        np.array([[5, 1, 2], [0, 7, 3], [4, 6, 8]]),
        unmapped=np.array([1, 0, 9]),
        ignored_pixels=10,
    )
    left = table.without("road")
    assert left.classes.names == ("land", "water")
    np.testing.assert_array_equal(left.table, [[5, 1], [0, 7]])
    np.testing.assert_array_equal(left.unmapped, [1 + 2, 0 + 3])
    assert left.ignored_pixels == 10 + 4 + 6 + 8 + 9
    np.testing.assert_array_equal(left.support, table.support[:2])


def test_empty_block_counts_nothing() -> None:
    assert counted(np.zeros((0, 4), int), np.zeros((0, 4), int)) == ConfusionTable(THREE)


@pytest.mark.parametrize("truth", [3, -2])
def test_index_of_no_class_is_refused(truth: int) -> None:
    with pytest.raises(LabelError, match=rf"truth holds index {truth}, but the 3 classes"):
        counted(np.array([0, truth]), np.array([0, 0]))
    with pytest.raises(LabelError, match=rf"map holds index {truth}"):
        counted(np.array([0, 0]), np.array([0, truth]))


def test_shapes_must_pair_up() -> None:
    with pytest.raises(InputError, match=r"\(2, 3\) and map of shape \(3, 2\) do not pair up"):
        counted(np.zeros((2, 3), int), np.zeros((3, 2), int))


def test_tables_of_other_classes_do_not_add() -> None:
    with pytest.raises(InputError, match="cannot add tables of classes"):
        ConfusionTable(TWO) + ConfusionTable(THREE)


def test_table_must_fit_the_classes() -> None:
    with pytest.raises(InputError, match=r"table of shape \(2, 2\).*expected \(3, 3\)"):
        ConfusionTable(THREE, np.zeros((2, 2), int))
    with pytest.raises(InputError, match="negative count -1"):
        ConfusionTable(TWO, unmapped=np.array([0, -1]))
    with pytest.raises(InputError, match="ignored_pixels -1"):
        ConfusionTable(TWO, ignored_pixels=-1)


def test_unknown_and_too_many_names_are_refused() -> None:
    with pytest.raises(LabelError, match=r"no class is called 'sea'.*'land', 'water'"):
        ConfusionTable(TWO).without("sea")
    with pytest.raises(LabelError, match="leaves no class to score"):
        ConfusionTable(TWO).without("land", "water")
