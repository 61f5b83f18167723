"""Whole and sharded, side by side: outputs, gradients of parameters and of pixels."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from comparison import difference, scene
from torch import Tensor, nn

from wholescene import spatial


def operator_differs(group: dist.ProcessGroup, name: str, shape: Any, cuts: Any) -> dict[str, Any]:
    """Largest differences of an operator's module over these cuts."""
    from operator_modules import GLOBAL, LOCAL, MOVING

    torch.manual_seed(0)
    module = copy.deepcopy((LOCAL | GLOBAL | MOVING)[name]).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return compare(group, module, shape, cuts)


def network_differs(group: dist.ProcessGroup, name: str, cuts: Any) -> dict[str, Any]:
    """Largest differences of a network over these cuts."""
    from networks import NETWORKS, OUTPUTS, SHAPES, build

    assert name in NETWORKS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = build(name).double()
    return compare(group, module, SHAPES.get(name, (1, 3, 192, 256)), cuts, OUTPUTS.get(name))


def uneven_cuts(height: int, ranks: int) -> tuple[int, ...]:
    """Cuts off every stride."""
    inner = [height * (2 * i + 1) // (2 * ranks) + 3 * i for i in range(1, ranks)]
    return (0, *inner, height)


def compare(
    group: dist.ProcessGroup,
    module: nn.Module,
    shape: Sequence[int],
    cuts: Sequence[int],
    output: str | int | None = None,
    segments: int = 1,
) -> dict[str, Any]:
    """Differences between the whole forward and backward and the sharded ones.

    Every rank computes the whole, from a copy, and compares its own part.
    """
    rank = dist.get_rank(group)
    start, stop = cuts[rank], cuts[rank + 1]
    image = scene(shape)
    plain = copy.deepcopy(module)
    whole = image.clone().requires_grad_()
    expected = plain(whole)
    expected = expected if output is None else _picked(expected, output)
    weights = scene(expected.shape, seed=1)
    (expected * weights).sum().backward()
    rows = image[:, :, start:stop].clone().requires_grad_()
    shard = spatial.Shard(rows, start, shape[2], group)
    found = spatial.run_sharded(module, shard, output=output, segments=segments)
    end = found.start + found.local.shape[2]
    (found.local * weights[:, :, found.start : end]).sum().backward()
    spatial.reduce_gradients(module, group)
    assert rows.grad is not None
    assert whole.grad is not None
    with torch.no_grad():
        quiet = spatial.run_sharded(
            module, spatial.Shard(rows.detach(), start, shape[2], group), output=output
        )
    return {
        "output": _gap(found.local, expected[:, :, found.start : end], expected),
        "no_grad": _gap(quiet.local, expected[:, :, found.start : end], expected),
        "pixels": _gap(rows.grad, whole.grad[:, :, start:stop], whole.grad),
        "parameters": _parameter_gap(module, plain),
        "buffers": _buffer_gap(module, plain),
        "gathered": difference(found.gather().detach(), expected),
    }


def _picked(result: Any, output: str | int) -> Tensor:
    from wholescene.spatial.capture import pick

    return pick(result, output)


def _gap(found: Tensor, expected: Tensor, scale: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    if not found.numel():
        return 0.0
    gap = (found.detach() - expected.detach()).abs().max()
    return float(gap / scale.detach().abs().max().clamp(min=1e-9))


def _parameter_gap(module: nn.Module, plain: nn.Module) -> float:
    pairs = list(zip(module.parameters(), plain.parameters(), strict=True))
    scale = max((float(p.grad.abs().max()) for _, p in pairs if p.grad is not None), default=1.0)
    gaps = [0.0]
    for ours, theirs in pairs:
        if (ours.grad is None) != (theirs.grad is None):
            gaps.append(float("inf") if theirs.grad is not None and theirs.grad.any() else 0.0)
        elif ours.grad is not None and theirs.grad is not None:
            gaps.append(float((ours.grad - theirs.grad).abs().max()) / max(scale, 1e-9))
    return max(gaps)


def _buffer_gap(module: nn.Module, plain: nn.Module) -> float:
    pairs = zip(module.buffers(), plain.buffers(), strict=True)
    gaps = [float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel()]
    return max(gaps, default=0.0)
