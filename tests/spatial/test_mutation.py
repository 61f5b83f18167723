"""A halo that is one pixel short is seen, for every family of operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from comparison import difference, scene, streamed
from compute import Compute
from torch import Tensor, nn

from wholescene.spatial.axis import AxisNeed
from wholescene.spatial.capture import capture
from wholescene.spatial.rules.base import Rule
from wholescene.spatial.schedule import Schedule, schedule

KERNEL = torch.randn(1, 1, 3, 3, 3, dtype=torch.float64)

FAMILIES: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "convolution": ("conv2d", nn.Conv2d(2, 2, 3, padding=1).double()),
    "dilated": ("conv2d", nn.Conv2d(2, 2, 3, padding=2, dilation=2).double()),
    "transposed": ("conv_transpose2d", nn.ConvTranspose2d(2, 2, 4, 2, 1).double()),
    "max_pool": ("max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1)),
    "average_pool": ("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 1, 1)),
    "nearest": ("upsample_nearest2d", lambda x: F.interpolate(x, scale_factor=2.5)),
    "bilinear": (
        "upsample_bilinear2d",
        lambda x: F.interpolate(x, (31, 43), mode="bilinear", align_corners=True),
    ),
    "bilinear_by_a_whole_factor": (
        "upsample_bilinear2d",
        lambda x: F.interpolate(x, scale_factor=3, mode="bilinear"),
    ),
    "bicubic": ("upsample_bicubic2d", lambda x: F.interpolate(x, (31, 43), mode="bicubic")),
    "pad": ("pad", lambda x: F.pad(x, (3, 2, 1, 4), mode="reflect")),
    "roll": ("roll", lambda x: x.roll((3, 2), (2, 3))),
    "pixel_shuffle": ("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2)),
    "adaptive_pool": ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (65, 66))),
    "pointwise": ("relu", F.relu),
    "volume": ("conv3d", lambda x: F.conv3d(x[:, None], KERNEL, padding=1).flatten(1, 2)),
    "windows_as_channels": ("im2col", lambda x: F.unfold(x, 3, padding=1).reshape(1, 18, 24, 36)),
    "overlapping": ("col2im", lambda x: F.fold(F.unfold(x, 3), (24, 36), 3)),
    "sliding": ("unfold", lambda x: x.unfold(2, 3, 1).amax(-1)),
    "repeated": ("repeat_interleave", lambda x: x.repeat_interleave(2, 2)),
    "overwritten": ("slice_scatter", lambda x: torch.slice_scatter(x, x[:, :, :-1], 2, 1, None, 1)),
    "windows": (
        "reshape",
        lambda x: x.reshape(1, 2, 6, 4, 9, 4).permute(0, 1, 2, 4, 3, 5).amax((4, 5)),
    ),
}


def _staged(function: Callable[[Tensor], Tensor], shape: Sequence[int]) -> Schedule:
    return schedule(capture(Compute(function).eval(), shape, dtype=torch.float64))


def _shorten(ready: Schedule, name: str, axis: str, side: str) -> None:
    """Take one pixel off what the operator of that name needs."""
    index = next(v.index for v in ready.graph.values if v.name == name)
    rule = ready.stages[index].rule
    assert isinstance(rule, Rule)
    needs = dict(rule.needs[0] or {})
    need = needs[axis]
    if side == "before":
        needs[axis] = AxisNeed(need.lo + 1, np.maximum(need.hi, need.lo + 2), need.num_in)
    else:
        needs[axis] = AxisNeed(np.minimum(need.lo, need.hi - 2), need.hi - 1, need.num_in)
    ready.stages[index].rule = replace(rule, needs=(needs, *rule.needs[1:]))


def _is_right(ready: Schedule, image: Tensor, expected: Tensor) -> bool:
    try:
        return all(difference(streamed(ready, image, b), expected) < 1e-9 for b in (5, 9))
    except (RuntimeError, IndexError, AssertionError, ValueError):
        return False


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("axis", ["row", "col"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_short_halo_is_seen(family: str, axis: str, side: str) -> None:
    name, function = FAMILIES[family]
    shape = (1, 2, 90, 83) if family == "adaptive_pool" else (1, 2, 24, 36)
    image: Any = scene(shape)
    with torch.no_grad():
        expected = function(image)
    ready = _staged(function, shape)
    assert _is_right(ready, image, expected)
    _shorten(ready, name, axis, side)
    assert not _is_right(ready, image, expected)
