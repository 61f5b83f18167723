"""Convolution, pooling and resizing at random, each against torch's own operator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparison import assert_operator_equal, scene
from hypothesis import assume, given, settings
from hypothesis import strategies as st

aten = torch.ops.aten
sides = st.integers(1, 23)
blocks = st.lists(st.integers(1, 25), min_size=1, max_size=3)
small = settings(max_examples=40, deadline=None, derandomize=True)


def _pairs(low: int, high: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=2, max_size=2)


def _weights(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@small
@given(sides, sides, _pairs(1, 5), _pairs(1, 4), _pairs(1, 3), _pairs(0, 6), st.booleans(), blocks)
def test_convolution(
    height: int,
    width: int,
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
    padding: list[int],
    is_grouped: bool,
    cuts: list[int],
) -> None:
    for i, size in enumerate((height, width)):
        assume(size + 2 * padding[i] >= dilation[i] * (kernel[i] - 1) + 1)
    groups = 2 if is_grouped else 1
    arguments = (_weights(4, 4 // groups, *kernel), _weights(4), stride, padding, dilation, groups)
    image = scene((2, 4, height, width))
    assert_operator_equal(aten.conv2d.default, image, *arguments, blocks=cuts)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch: an even kernel is slower
@small
@given(sides, sides, _pairs(1, 5), _pairs(1, 2), st.sampled_from(["same", "valid"]), blocks)
def test_convolution_with_named_padding(
    height: int, width: int, kernel: list[int], dilation: list[int], padding: str, cuts: list[int]
) -> None:
    for i, size in enumerate((height, width)):
        assume(padding == "same" or size >= dilation[i] * (kernel[i] - 1) + 1)
    arguments = (_weights(3, 2, *kernel), _weights(3), [1, 1], padding, dilation, 1)
    image = scene((1, 2, height, width))
    assert_operator_equal(aten.conv2d.padding, image, *arguments, blocks=cuts)


@small
@given(sides, sides, _pairs(1, 5), _pairs(1, 4), _pairs(1, 3), _pairs(0, 3), _pairs(0, 2), blocks)
def test_transposed_convolution(
    height: int,
    width: int,
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
    padding: list[int],
    extra: list[int],
    cuts: list[int],
) -> None:
    for i, size in enumerate((height, width)):
        assume(extra[i] < max(stride[i], dilation[i]))
        reach = (size - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1)
        assume(reach + extra[i] + 1 >= 1)
    weight, bias = _weights(4, 3, *kernel), _weights(6)
    image = scene((1, 4, height, width))
    arguments = (weight, bias, stride, padding, extra, 2, dilation)
    assert_operator_equal(aten.conv_transpose2d.input, image, *arguments, blocks=cuts)


@small
@given(sides, sides, _pairs(1, 5), _pairs(1, 4), _pairs(1, 2), _pairs(0, 2), st.booleans(), blocks)
def test_max_pool(
    height: int,
    width: int,
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
    padding: list[int],
    is_ceil: bool,
    cuts: list[int],
) -> None:
    for i, size in enumerate((height, width)):
        assume(padding[i] <= kernel[i] // 2)
        assume(size + 2 * padding[i] >= dilation[i] * (kernel[i] - 1) + 1)
    image = scene((1, 2, height, width))
    arguments = (kernel, stride, padding, dilation, is_ceil)
    assert_operator_equal(aten.max_pool2d.default, image, *arguments, blocks=cuts)


@small
@given(
    sides,
    sides,
    _pairs(1, 5),
    _pairs(1, 4),
    _pairs(0, 2),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 3]),
    blocks,
)
def test_average_pool(
    height: int,
    width: int,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    is_ceil: bool,
    includes: bool,
    divisor: int | None,
    cuts: list[int],
) -> None:
    for i, size in enumerate((height, width)):
        assume(padding[i] <= kernel[i] // 2)
        assume(size + 2 * padding[i] >= kernel[i])
    image = scene((1, 2, height, width))
    arguments = (kernel, stride, padding, is_ceil, includes, divisor)
    assert_operator_equal(aten.avg_pool2d.default, image, *arguments, blocks=cuts)


SMOOTH = {
    "bilinear": aten.upsample_bilinear2d.vec,
    "bicubic": aten.upsample_bicubic2d.vec,
}
COPYING = {
    "nearest": aten.upsample_nearest2d.vec,
    "nearest-exact": aten._upsample_nearest_exact2d.vec,
}


@pytest.mark.parametrize("mode", [*SMOOTH, *COPYING])
@small
@given(sides, sides, st.lists(sides, min_size=2, max_size=2), st.booleans(), blocks)
def test_resize_by_size(
    mode: str, height: int, width: int, size: list[int], align: bool, cuts: list[int]
) -> None:
    image = scene((1, 2, height, width))
    arguments: tuple[Any, ...] = (size, align, None) if mode in SMOOTH else (size, None)
    op = SMOOTH[mode] if mode in SMOOTH else COPYING[mode]
    assert_operator_equal(op, image, *arguments, blocks=cuts)


factors = st.lists(st.floats(0.3, 4.2).map(lambda x: round(x, 2)), min_size=2, max_size=2)


@pytest.mark.parametrize("mode", [*SMOOTH, *COPYING])
@small
@given(sides, sides, factors, st.booleans(), blocks)
def test_resize_by_scale(
    mode: str, height: int, width: int, scale: list[float], align: bool, cuts: list[int]
) -> None:
    assume(int(height * scale[0]) >= 1 and int(width * scale[1]) >= 1)
    image = scene((1, 2, height, width))
    arguments: tuple[Any, ...] = (None, align, scale) if mode in SMOOTH else (None, scale)
    op = SMOOTH[mode] if mode in SMOOTH else COPYING[mode]
    assert_operator_equal(op, image, *arguments, blocks=cuts)


@pytest.mark.parametrize("mode", [*SMOOTH, *COPYING])
@small
@given(sides, sides, _pairs(1, 8), st.booleans(), blocks)
def test_resize_by_whole_factors(
    mode: str, height: int, width: int, factors: list[int], by_size: bool, cuts: list[int]
) -> None:
    image = scene((2, 2, height, width))
    size = [height * factors[0], width * factors[1]]
    how = (size, None) if by_size else (None, [float(times) for times in factors])
    arguments = (how[0], False, how[1]) if mode in SMOOTH else how
    op = SMOOTH[mode] if mode in SMOOTH else COPYING[mode]
    assert_operator_equal(op, image, *arguments, blocks=cuts)


@small
@given(sides, sides, st.lists(st.integers(1, 9), min_size=2, max_size=2), blocks)
def test_adaptive_average_pool(height: int, width: int, size: list[int], cuts: list[int]) -> None:
    image = scene((2, 2, height, width))
    assert_operator_equal(aten.adaptive_avg_pool2d.default, image, size, blocks=cuts)
