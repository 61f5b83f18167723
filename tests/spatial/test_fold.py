"""Folding leaves fewer operators and the same function."""

from __future__ import annotations

import pytest
import torch
from comparison import assert_equal_streamed, scene
from torch import Tensor, nn

from wholescene.spatial.capture import capture
from wholescene.spatial.fold import fold
from wholescene.spatial.graph import Graph, run_op


class Residual(nn.Module):
    """A basic block with a shortcut that has a convolution of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6)
        self.second, self.second_norm = nn.Conv2d(6, 6, 3, 1, 1), nn.BatchNorm2d(6, affine=False)
        self.short, self.short_norm = nn.Conv2d(3, 6, 1, 2), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.second_norm(self.second(self.first_norm(self.first(x)).relu()))
        return (deep + self.short_norm(self.short(x))).relu()


class Transposed(nn.Sequential):
    """A transposed convolution and its norm."""

    def __init__(self) -> None:
        super().__init__(nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.ReLU())


class Same(nn.Sequential):
    """Padding by name."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 4, padding="same"), nn.BatchNorm2d(4), nn.ReLU())


class ReadTwice(nn.Module):
    """What is before a norm or a ReLU is read by something else, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        before = self.conv(x)
        after = self.norm(before)
        return before * after + after.relu()


class Doubled(nn.Module):
    """A convolution added to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv(x)
        return (found + found).relu()


class Scaled(nn.Module):
    """An addition with a factor, and one that broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        scaled = torch.add(self.conv(x), x, alpha=2).relu()
        return (self.conv(scaled) + x[:, :1]).relu()


NAMES = {
    Residual: ["convolve", "conv2d", "convolve"],
    Transposed: ["conv_transpose2d", "relu"],
    Same: ["convolve"],
    ReadTwice: ["conv2d", "batch_norm", "mul", "relu", "add"],
    Doubled: ["conv2d", "add", "relu"],
}


def built(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = kind().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            if part.affine:
                part.weight.data.normal_()
                part.bias.data.normal_()
    return module


def run(graph: Graph, image: Tensor) -> Tensor:
    found: dict[int, Tensor] = {}
    for value in graph.values:
        if value.index == graph.image:
            found[value.index] = image
        elif value.constant is not None:
            found[value.index] = value.constant
        else:
            found[value.index] = run_op(value, found.__getitem__)
    return found[graph.output]


@pytest.mark.parametrize("kind", [*NAMES, Scaled])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_function_stays_the_same(kind: type[nn.Module], dtype: torch.dtype) -> None:
    module, image = built(kind).to(dtype), scene((2, 3, 14, 18), dtype=dtype)
    graph = fold(capture(module, image.shape, dtype=dtype))
    with torch.no_grad():
        expected = module(image)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(run(graph, image), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", NAMES)
def test_operators_that_are_left(kind: type[nn.Module]) -> None:
    graph = fold(capture(built(kind), (1, 3, 16, 16)))
    names = [v.name for v in graph.values if v.constant is None and v.index != graph.image]
    assert names == NAMES[kind]


@pytest.mark.parametrize("kind", [*NAMES, Scaled])
def test_streamed_it_is_still_the_whole_forward(kind: type[nn.Module]) -> None:
    assert_equal_streamed(built(kind), (2, 3, 30, 22), blocks=(8,))


def test_weights_of_the_module_are_left_alone() -> None:
    module = built(Residual)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fold(capture(module, (1, 3, 16, 16)))
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
