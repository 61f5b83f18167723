"""Axis rules by brute force: change one input of torch's operator, see which outputs change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from wholescene.errors import InputError
from wholescene.spatial.axis import (
    AxisNeed,
    identity_need,
    index_need,
    scaled_need,
    transposed_need,
    whole_need,
    window_need,
)

few = settings(max_examples=80, deadline=None, derandomize=True)


def influence(function: Callable[[Tensor], Tensor], num_in: int) -> np.ndarray:
    """``(num_out, num_in)``: whether an output changes with an input."""
    base = torch.arange(1.0, num_in + 1, dtype=torch.float64) * 0.37
    rows = base.repeat(num_in + 1, 1)
    rows[1:] += 1000 * torch.eye(num_in, dtype=torch.float64)
    out = function(rows[:, None, :])[:, 0]
    return (out[1:] != out[:1]).T.numpy()


def assert_covers(need: AxisNeed, changed: np.ndarray, *, is_tight: bool = True) -> None:
    """``need`` names all inputs that matter, and its ends do matter."""
    assert need.num_out == len(changed)
    for i, row in enumerate(changed):
        touched = np.flatnonzero(row)
        low, high = need.clamped(i, i + 1)
        assert 0 <= low < high <= need.num_in
        if len(touched):
            assert low <= touched[0] and touched[-1] < high
            if is_tight:
                assert (low, high) == (touched[0], touched[-1] + 1)


def assert_consistent(need: AxisNeed) -> None:
    """``ready`` and ``keep_from`` say what ``clamped`` says, output by output."""
    spans = [need.clamped(i, i + 1) for i in range(need.num_out)]
    for available in range(need.num_in + 1):
        computable = [high <= available for _, high in spans]
        first_missing = computable.index(False) if False in computable else need.num_out
        assert need.ready(available) == first_missing
    for done in range(need.num_out):
        assert need.keep_from(done) == min(low for low, _ in spans[done:])
    assert need.keep_from(need.num_out) == need.num_in
    for start in range(need.num_out):
        for stop in range(start + 1, need.num_out + 1):
            low = min(low for low, _ in spans[start:stop])
            high = max(high for _, high in spans[start:stop])
            assert need.clamped(start, stop) == (low, high)


sizes = st.integers(1, 12)


@few
@given(sizes, st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4))
def test_windows(num_in: int, kernel: int, stride: int, dilation: int, padding: int) -> None:
    assume(num_in + 2 * padding >= dilation * (kernel - 1) + 1)
    weight = torch.ones(1, 1, kernel, dtype=torch.float64)
    changed = influence(lambda x: F.conv1d(x, weight, None, stride, padding, dilation), num_in)
    need = window_need(
        num_in, len(changed), kernel=kernel, stride=stride, dilation=dilation, padding=padding
    )
    assert_covers(need, changed, is_tight=dilation == 1)
    assert_consistent(need)


@few
@given(sizes, st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))
def test_transposed_windows(
    num_in: int, kernel: int, stride: int, dilation: int, padding: int
) -> None:
    assume((num_in - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 >= 1)
    weight = torch.ones(1, 1, kernel, dtype=torch.float64)
    changed = influence(
        lambda x: F.conv_transpose1d(x, weight, None, stride, padding, 0, 1, dilation), num_in
    )
    need = transposed_need(
        num_in, len(changed), kernel=kernel, stride=stride, dilation=dilation, padding=padding
    )
    assert_covers(need, changed, is_tight=dilation == stride == 1)
    assert_consistent(need)


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": lambda x: x.flip(-1),
    "roll": lambda x: x.roll(2, -1),
    "crop": lambda x: x[..., 1:-2:2],
    "reflect": lambda x: F.pad(x, (3, 2), mode="reflect"),
    "replicate": lambda x: F.pad(x, (3, 2), mode="replicate"),
    "nearest": lambda x: F.interpolate(x, size=17),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves(name: str) -> None:
    places = MOVES[name](torch.arange(9.0)[None, None])[0, 0].numpy().astype(np.int64)
    need = index_need(places, 9)
    assert_covers(need, influence(MOVES[name], 9))
    assert_consistent(need)


def test_constants_need_what_their_neighbours_need() -> None:
    need = index_need(np.array([-1, -1, 0, 1, 2, -1]), 3)
    assert need.lo.tolist() == [0, 0, 0, 1, 2, 2]
    assert_consistent(need)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_identity_and_whole(size: int) -> None:
    assert_covers(identity_need(size), influence(lambda x: x * 2, size))
    assert_covers(whole_need(size, 1), influence(lambda x: x.sum(-1, keepdim=True), size))
    assert_consistent(identity_need(size))
    assert_consistent(whole_need(size, 3))


@pytest.mark.parametrize(("num_in", "num_out"), [(12, 4), (4, 12), (5, 5), (6, 1)])
def test_tiles(num_in: int, num_out: int) -> None:
    assert_consistent(scaled_need(num_in, num_out))
    factor = max(num_in, num_out) // min(num_in, num_out)
    if num_in >= num_out:
        changed = influence(lambda x: F.avg_pool1d(x, factor), num_in)
    else:
        changed = influence(lambda x: x.repeat_interleave(factor, -1), num_in)
    assert_covers(scaled_need(num_in, num_out), changed)


def test_tiles_must_be_whole() -> None:
    with pytest.raises(InputError, match="a grid of 7 cannot become one of 3"):
        scaled_need(7, 3)


def test_windows_must_exist() -> None:
    with pytest.raises(InputError, match="stride 0"):
        window_need(7, 3, kernel=3, stride=0)
