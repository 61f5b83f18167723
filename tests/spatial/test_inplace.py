"""Programs with operators in place are read as they are only where that means the same."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wholescene.spatial import stream
from wholescene.spatial.capture import capture
from wholescene.spatial.inplace import IN_PLACE, is_readable

SHAPE = (1, 3, 24, 20)


class Program(nn.Module):
    """Two convolutions and what is done with their results."""

    def __init__(self, do: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 4, 3, padding=1) for _ in range(2))
        self.do = do

    def forward(self, image: Tensor) -> Tensor:
        return self.do(image, self.first(image), self.second(image))


def use(a: Tensor, *results: Tensor) -> Tensor:
    """A result that depends on what every name stands for."""
    return a + sum((k + 2) * each for k, each in enumerate(results))


def alias(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    flat = a.flatten(2)
    a.relu_()
    return use(a, flat.reshape(a.shape))


def changed_view(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    a[:, :2].relu_()
    return use(a, b)


def copied(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    before = a.clone()
    a.relu_()
    return use(a, before)


def padded_by_nothing(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    before = F.pad(a, (0, 0, 0, 0))
    a.relu_()
    return use(a, before)


def changed_image(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    own = x.clone()
    own.relu_()
    return use(a, b) + own.sum(1, keepdim=True)


def other_type(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    a.add_(b.double() * 0.1)
    return use(a, b)


def dropped(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    same = F.dropout(a, 0.5, training=False)
    same.relu_()
    return use(a, same)


def several_names(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    first = a.relu_()
    second = first.add_(b)
    b.mul_(a)
    return use(a, first, second, b)


def viewed_later(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    a.relu_()
    flat = a.flatten(2)
    b.add_(a)
    return use(b, flat.reshape(a.shape))


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        (alias, False),
        (changed_view, False),
        (copied, False),
        (padded_by_nothing, False),
        (changed_image, False),
        (other_type, False),
        (dropped, False),
        (several_names, True),
        (viewed_later, True),
    ],
)
def test_what_somebody_else_may_see_is_rewritten(
    do: Callable[[Tensor, Tensor, Tensor], Tensor], expected: bool
) -> None:
    module = Program(do).eval()
    with torch.no_grad():
        program = torch.export.export(module, (torch.randn(SHAPE),))
    assert is_readable(program) is expected
    same_as_plain(module)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int) -> None:
    draw = random.Random(seed)
    steps = [(draw.choice(STEPS), draw.random(), draw.random()) for _ in range(6)]

    def do(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        held = [a, b]
        for step, first, second in steps:
            one, other = (held[int(share * len(held))] for share in (first, second))
            held.append(step(one, other))
        return use(held[0], *held[1:])

    same_as_plain(Program(do).eval())


STEPS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda one, other: one.relu_(),
    lambda one, other: one.add_(0.3 * other),
    lambda one, other: one.mul_(other.sigmoid()),
    lambda one, other: F.silu(one, inplace=True),
    lambda one, other: one + other,
    lambda one, other: one.clone(),
    lambda one, other: one.contiguous(),
    lambda one, other: one.flip(1),
    lambda one, other: one.transpose(0, 1).transpose(0, 1),
    lambda one, other: F.dropout(one, 0.5, training=False),
]


def same_as_plain(module: nn.Module) -> None:
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module(image.clone())
        found = stream(module, image.clone(), block=9)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_chance_is_not_read_as_nothing() -> None:
    module = Program(lambda x, a, b: use(F.dropout(a, 0.5, training=True), b)).eval()
    with torch.no_grad():
        assert not is_readable(torch.export.export(module, (torch.randn(SHAPE),)))


@pytest.mark.parametrize("op", IN_PLACE)
def test_each_gives_the_same_as_a_new_tensor(op: torch._ops.OpOverload) -> None:
    x, y = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)) * 4
    args = (y,) if len(op._schema.arguments) > 1 and "other" in str(op._schema) else ()
    changed = x.clone()
    assert op(changed, *args) is changed
    assert torch.equal(IN_PLACE[op](x, *args), changed)
    assert not torch.equal(changed, x)


def test_both_ways_give_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.Dropout2d(), nn.SiLU(True)]
    module = nn.Sequential(*layers, nn.GroupNorm(2, 4), nn.Hardswish(True)).eval()
    read = capture(module, SHAPE)
    monkeypatch.setattr("wholescene.spatial.capture.is_readable", lambda program: False)
    rewritten = capture(module, SHAPE)
    facts = ("op", "args", "kwargs", "shape", "dtype", "layer", "part")
    assert [[getattr(value, fact) for fact in facts] for value in read.values] == [
        [getattr(value, fact) for fact in facts] for value in rewritten.values
    ]
    assert len(read.values) > len(layers)
