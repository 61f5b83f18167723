"""Sums and moments in double precision, without a copy of what is summed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from wholescene.spatial import precise

SHAPE = (2, 6, 41, 37)
DIMS = {"rows": (2,), "rows and columns": (2, 3), "batch and columns": (0, 3), "all": (0, 1, 2, 3)}
ORDERS = {
    "channels first": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "turned": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "one row for all": lambda x: x[:, :, :1].expand(*SHAPE),
}


@pytest.fixture(params=[1 << 17, 64, 1], ids=["one piece", "small pieces", "single values"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(precise, "_CACHED", request.param)
    return int(request.param)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dims", DIMS.values(), ids=DIMS)
def test_sums_are_those_of_double_precision(dims: tuple[int, ...], order: str, room: int) -> None:
    x = ORDERS[order](sample(torch.float32))
    wide = x.double()
    exactly(precise.total(x, dims), wide.sum(dims, keepdim=True))
    exactly(precise.square_total(x, dims), wide.square().sum(dims, keepdim=True))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_moments_are_those_of_double_precision(groups: int, order: str, room: int) -> None:
    x = ORDERS[order](sample(torch.float32)) + 1e4
    rows = x.double().reshape(2, groups, -1)
    mean, variance = precise.moments(x, groups)
    assert mean.dtype == variance.dtype == torch.float64
    off = (mean - rows.mean(2)).abs() / rows.std(2)
    assert float(off.max()) < 1e-6
    torch.testing.assert_close(variance, rows.var(2, correction=0), rtol=1e-6, atol=0)


def test_what_does_not_vary_has_no_variance(room: int) -> None:
    mean, variance = precise.moments(torch.full(SHAPE, 0.1), 3)
    assert (mean == torch.tensor(0.1)).all()
    assert ((variance >= 0) & (variance < 1e-20)).all()


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_gradients_are_those_of_torch(kind: torch.dtype, room: int) -> None:
    found, wanted = (gradients(kind, way) for way in (OURS, TORCHS))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == kind
        # bfloat16 has steps of 2^-8; the gradient is rounded to it once by either.
        limits = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7}
        size = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=limits[kind], atol=limits[kind] * size)


def test_nothing_large_is_made_in_double_precision() -> None:
    x = torch.ones(1, 16, 300, 400, requires_grad=True)
    with Largest() as largest:
        for way in OURS:
            way(x).sum().backward()  # type: ignore[no-untyped-call]
    assert 0 < largest.count <= 1 << 17 < x.numel()


OURS: list[Callable[[Tensor], Tensor]] = [
    lambda x: precise.total(x, (2, 3)),
    lambda x: precise.square_total(x, (1, 3)),
    lambda x: precise.moments(x, 2),
    lambda x: precise.scaled(x, x[:, :, 0, 0], x[:, :, 1, 1], x[:, :, 2, 2]),
]
TORCHS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.double().sum((2, 3), keepdim=True),
    lambda x: x.double().square().sum((1, 3), keepdim=True),
    lambda x: torch.stack(
        [x.double().reshape(len(x), 2, -1).mean(2), x.double().reshape(len(x), 2, -1).var(2, False)]
    ),
    lambda x: (x - x[:, :, :1, :1]) * x[:, :, 1:2, 1:2] + x[:, :, 2:3, 2:3],
]


class Largest(TorchDispatchMode):
    """Counts the values of the largest tensor in double precision that has memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.float64:
            self.count = max(self.count, result.untyped_storage().nbytes() // 8)
        return result


def gradients(kind: torch.dtype, ways: list[Callable[[Tensor], Tensor]]) -> list[Tensor]:
    """Gradient of a weighted sum of each."""
    found = []
    for way in ways:
        x = sample(kind).requires_grad_()
        y = way(x)
        (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None
        found.append(x.grad)
    return found


def sample(kind: torch.dtype) -> Tensor:
    """Values of both signs whose channels differ."""
    torch.manual_seed(0)
    return (torch.randn(SHAPE) * torch.arange(1, 7).view(1, 6, 1, 1) + 0.5).to(kind)


def exactly(found: Tensor, wanted: Tensor) -> None:
    """Up to the order of additions in double precision."""
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-10)
