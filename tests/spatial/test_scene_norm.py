"""Batch norm over a scene: moments, values and gradients against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.spatial.exchange import new_token
from wholescene.spatial.scene_norm import _own_moments, scene_batch_norm
from wholescene.spatial.wire import Wire

SHAPES = {
    "one image": (1, 3, 5, 7),
    "a batch": (3, 70, 11, 13),
    "rows longer than a piece": (2, 2, 331, 401),
    "several channels a piece": (1, 5, 300, 130),
    "a single value": (1, 2, 1, 1),
    "without a grid": (9, 4),
    "a signal": (2, 4, 33),
}
MANY = {name: shape for name, shape in SHAPES.items() if name != "a single value"}
"""What torch can be asked for: it refuses to train on one value per channel."""


@pytest.mark.parametrize("order", ["channels first", "channels last", "every second row"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_moments_are_those_of_double_precision(shape: tuple[int, ...], order: str) -> None:
    x = sample(shape, order, torch.float32)
    wide, over = x.double(), [0, *range(2, x.dim())]
    mean, var = _own_moments(x)
    torch.testing.assert_close(mean, wide.mean(over), rtol=1e-6, atol=0)
    torch.testing.assert_close(var, wide.var(over, correction=0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("order", ["channels first", "channels last", "every second row"])
@pytest.mark.parametrize("shape", MANY.values(), ids=MANY)
def test_a_scene_on_one_rank_is_normalised_as_by_torch(shape: tuple[int, ...], order: str) -> None:
    x = sample(shape, order, torch.float64)
    found, wanted = normalised(x, ours=True), normalised(x, ours=False)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)


def sample(shape: tuple[int, ...], order: str, dtype: torch.dtype) -> Tensor:
    """Values far from zero, whose channels differ."""
    torch.manual_seed(0)
    place = torch.arange(shape[1], dtype=dtype).view(1, -1, *[1] * (len(shape) - 2))
    x = torch.randn(shape, dtype=dtype) * (1 + place) + 20 + 3 * place
    if order == "channels last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    return x if order == "channels first" else x.repeat_interleave(2, -1)[..., ::2]


def normalised(x: Tensor, *, ours: bool) -> dict[str, Tensor]:
    """Result, gradients and running statistics, by this package or by torch."""
    channels = x.shape[1]
    torch.manual_seed(1)
    x = x.detach().requires_grad_()
    weight, bias = (torch.randn(channels, dtype=x.dtype, requires_grad=True) for _ in range(2))
    mean, var = torch.zeros(channels, dtype=x.dtype), torch.ones(channels, dtype=x.dtype)
    if ours:
        token = new_token(x.device, learns=True)
        y, _ = scene_batch_norm(x, weight, bias, (mean, var), 0.1, 1e-5, Wire(None), token)
    else:
        y = F.batch_norm(x, mean, var, weight, bias, True, 0.1, 1e-5)
    (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert weight.grad is not None
    assert bias.grad is not None
    grads = {"pixels": x.grad, "weight": weight.grad, "bias": bias.grad}
    return {"result": y.detach(), "mean": mean, "var": var, **grads}
