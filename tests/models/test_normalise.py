import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wholescene.errors import InputError
from wholescene.models import normalise


def test_by_hand_and_invalid_pixels_are_zero_even_where_nan() -> None:
    values = np.array([[[10.0, np.nan]], [[4.0, np.inf]]], np.float32)
    out = normalise(values, np.array([[True, False]]), [8.0, 5.0], [2.0, 4.0])
    torch.testing.assert_close(out, torch.tensor([[[1.0, 0.0]], [[-0.25, 0.0]]]), rtol=0, atol=0)
    assert out.dtype == torch.float32


def test_input_is_left_as_it_was() -> None:
    values = np.array([[[1.0, np.nan]]], np.float32)
    values.setflags(write=False)
    normalise(values, np.array([[True, False]]), [0.0], [1.0])
    tensor = torch.tensor([[[1.0, 5.0]]])
    normalise(tensor, torch.tensor([[True, False]]), [0.0], [2.0])
    assert tensor.tolist() == [[[1.0, 5.0]]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_arrays_and_tensors_agree_for_every_stored_type(dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, (3, 5, 4)).astype(dtype)
    valid = rng.random((5, 4)) > 0.3
    mean, std = [90.0, 100.0, 110.0], [50.0, 60.0, 0.1]
    expected = np.where(
        valid, (values - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1)), 0
    )
    for given_values, given_valid in (
        (values, valid),
        (torch.from_numpy(values), torch.from_numpy(valid)),
    ):
        out = normalise(given_values, given_valid, mean, std)
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-5)


def test_a_batch_is_its_images_one_by_one() -> None:
    values = torch.rand(2, 3, 4, 5)
    valid = torch.rand(2, 4, 5) > 0.5
    mean, std = [0.1, 0.2, 0.3], [1.0, 2.0, 3.0]
    batch = normalise(values, valid, mean, std)
    arrays = normalise(values.numpy(), valid.numpy(), mean, std)
    for index in range(2):
        single = normalise(values[index], valid[index], mean, std)
        torch.testing.assert_close(batch[index], single)
        torch.testing.assert_close(arrays[index], single)


@given(st.integers(0, 3), st.integers(0, 3))
def test_a_pixel_has_the_same_value_in_every_window(row: int, col: int) -> None:
    rng = np.random.default_rng(1)
    values, valid = rng.random((2, 8, 8)), rng.random((8, 8)) > 0.2
    whole = normalise(values, valid, [0.4, 0.6], [0.2, 0.3])
    cut = normalise(
        values[:, row : row + 4, col : col + 4],
        valid[row : row + 4, col : col + 4],
        [0.4, 0.6],
        [0.2, 0.3],
    )
    assert torch.equal(whole[:, row : row + 4, col : col + 4], cut)


def test_shapes_that_do_not_fit_are_named() -> None:
    values, valid = np.zeros((3, 2, 2)), np.ones((2, 2), bool)
    with pytest.raises(InputError, match=r"values have 3 bands, but there are 2 means and 2"):
        normalise(values, valid, [0, 0], [1, 1])
    with pytest.raises(InputError, match=r"valid has shape \(2, 3\)"):
        normalise(values, np.ones((2, 3), bool), [0] * 3, [1] * 3)
    with pytest.raises(InputError, match=r"shape \(2, 2\) are neither"):
        normalise(valid, valid, [0], [1])
