"""The contract of ``stream``: arguments, refusals, spills."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from comparison import difference, scene
from compute import Compute
from torch import Tensor, nn

import wholescene.spatial as spatial
from wholescene.errors import InputError, UnsupportedError


class Small(nn.Module):
    """Convolutions around a global mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 5, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = F.relu(self.first(x))
        found = found * found.mean((2, 3), keepdim=True)
        return F.interpolate(self.last(found), x.shape[2:], mode="bilinear")


class Named(Small):
    def forward(self, x: Tensor) -> Any:
        return OrderedDict(out=super().forward(x), size=x.shape[2])


class Sorting(Small):
    """Its second half sorts rows, which has no rule."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sort(super().forward(x), 3).values


@pytest.fixture
def small() -> Small:
    torch.manual_seed(0)
    return Small().double().eval()


SHAPE = (2, 3, 37, 51)


def test_a_tensor_gives_a_tensor(small: Small) -> None:
    image = scene(SHAPE)
    found = spatial.stream(small, image, block=16)
    assert found is not None
    assert difference(found, small(image)) < 1e-12


def test_a_function_is_read_by_regions_and_may_be_read_again(small: Small) -> None:
    image, reads = scene(SHAPE), []

    def read(rows: slice, cols: slice) -> Tensor:
        reads.append((rows.stop - rows.start) * (cols.stop - cols.start))
        return image[..., rows, cols]

    found = spatial.stream(small, read, shape=SHAPE, block=16)
    assert found is not None
    assert difference(found, small(image)) < 1e-12
    assert max(reads) <= 24 * 24  # the first block is larger by what the last layer lags behind


def test_a_sink_takes_every_element_once(small: Small) -> None:
    image = scene(SHAPE)
    found, times = torch.zeros(2, 5, 37, 51, dtype=torch.float64), torch.zeros(37, 51)

    def sink(rows: slice, cols: slice, part: Tensor) -> None:
        found[..., rows, cols] = part
        times[rows, cols] += 1

    assert spatial.stream(small, image, sink=sink, block=10) is None
    assert (times == 1).all()
    assert difference(found, small(image)) < 1e-12


def test_an_error_in_the_sink_reaches_the_caller(small: Small) -> None:
    def sink(rows: slice, cols: slice, part: Tensor) -> None:
        raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"):
        spatial.stream(small, scene(SHAPE), sink=sink)


@pytest.mark.parametrize("output", ["out", None])
def test_one_of_several_outputs_is_picked(output: str | None) -> None:
    module = Named().double().eval()
    if output is None:
        with pytest.raises(InputError, match="returns OrderedDict, not a tensor; pick one"):
            spatial.stream(module, scene(SHAPE))
        return
    found = spatial.stream(module, scene(SHAPE), output=output, block=16)
    assert found is not None
    assert difference(found, module(scene(SHAPE))["out"]) < 1e-12


def test_an_unknown_output_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"output='aux' is not in .* \['out', 'size'\]"):
        spatial.stream(Named().double().eval(), scene(SHAPE), output="aux")


def test_kept_values_may_go_to_files(small: Small, tmp_path: Path) -> None:
    image = scene(SHAPE)
    found = spatial.stream(small, image, block=16, spill_dir=tmp_path)
    assert found is not None
    assert difference(found, small(image)) < 1e-12
    assert list(tmp_path.iterdir()) == []


def test_it_computes_in_the_type_asked_for(small: Small) -> None:
    image = scene(SHAPE)
    found = spatial.stream(small, image, dtype=torch.float32, block=16)
    assert found is not None
    assert found.dtype == torch.float32
    assert 1e-12 < difference(found.double(), small(image)) < 1e-5
    assert small.first.weight.dtype == torch.float64


def test_float32_is_as_accurate_as_the_plain_forward(small: Small) -> None:
    image = scene(SHAPE)
    exact = small(image)
    plain = difference(small.float()(image.float()).double(), exact)
    found = spatial.stream(small, image.float(), block=16)
    assert found is not None
    assert difference(found.double(), exact) <= 2 * plain


def test_an_operator_without_a_rule_is_exact_or_refused_before_reading() -> None:
    module = Sorting().double().eval()
    image = scene(SHAPE)
    found = spatial.stream(module, image, block=16)
    assert found is not None
    assert difference(found, module(image)) < 1e-12

    def read(rows: slice, cols: slice) -> Tensor:
        raise AssertionError("a pixel was read")

    with pytest.raises(UnsupportedError, match="sort has no rule, so its inputs would be held"):
        spatial.stream(module, read, shape=SHAPE, strict=True)


def _read_too_much(rows: slice, cols: slice) -> Tensor:
    return torch.zeros(2, 3, 5, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": torch.zeros(3, 8, 8)}, r"\(3, 8, 8\) is not \(B, C, H, W\)"),
        ({"image": _read_too_much}, "shape=.* is required"),
        ({"image": _read_too_much, "shape": SHAPE}, r"gave \(2, 3, 5, 5\) for rows 0:"),
        ({"image": _read_too_much, "shape": (3, 9, 9)}, r"shape \(3, 9, 9\) is not"),
        ({"image": "scene.tif"}, "image is a str, neither a tensor nor a function"),
        ({"image": torch.zeros(SHAPE), "shape": (2, 3, 9, 9)}, "is not that of the image"),
        ({"image": torch.zeros(SHAPE), "block": 0}, "block=0 must be at least 1"),
        ({"image": torch.zeros(SHAPE), "memory": "much"}, "memory='much' is not a size"),
        ({"image": torch.zeros(SHAPE), "memory": 10}, "memory=10 bytes is not enough"),
    ],
)
def test_mistakes_are_named(small: Small, arguments: dict[str, Any], message: str) -> None:
    arguments = {"block": 16, **arguments} if "memory" not in arguments else arguments
    with pytest.raises(InputError, match=message):
        spatial.stream(small, arguments.pop("image"), **arguments)


def test_a_module_in_training_mode_is_refused(small: Small) -> None:
    with pytest.raises(InputError, match="training mode"):
        spatial.stream(small.train(), scene(SHAPE))


def test_a_shape_the_module_refuses_is_named(small: Small) -> None:
    with pytest.raises(UnsupportedError, match=r"Small cannot be traced at shape \(1, 4, 9, 9\)"):
        spatial.stream(small, scene((1, 4, 9, 9)))


def test_a_size_that_depends_on_values_is_named() -> None:
    mask = torch.tensor([True, False, True, False])
    with pytest.raises(UnsupportedError, match=r"size depends on the values.*by their numbers"):
        spatial.stream(Compute(lambda x: x[:, mask]).eval(), scene((1, 4, 9, 9)))


@pytest.mark.parametrize("dilation", [1, 12, 36])
@pytest.mark.parametrize("block", [32, 96, 1024])
def test_wide_kernels_are_packed_in_float32(dilation: int, block: int) -> None:
    """A convolution that waits for more than a block computes nothing at many steps."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 8, 8), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, dilation, dilation)
    ).eval()
    image = torch.randn(1, 3, 192, 256)
    with torch.inference_mode():
        expected = module(image)
    found = spatial.stream(module, image, block=block)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
