"""Weights of convolutions in the order that oneDNN computes in, turned once, not at each step."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Axis
from wholescene.spatial.rules.base import arguments_of
from wholescene.spatial.rules.window import CONVOLUTION_ARGUMENTS, as_pair, is_for_onednn
from wholescene.spatial.schedule import Schedule
from wholescene.spatial.staging import Kind
from wholescene.spatial.wave import AxisWave, axis_wave

__all__ = ["pack_weights"]

_NAMES = ("conv2d", "convolve")


def pack_weights(ready: Schedule, block: int) -> None:
    """Replace the weights of streamed convolutions, where they run on a CPU with oneDNN."""
    uses = ready.graph.uses()
    for sweep in ready.sweeps:
        if not sweep.members:
            continue
        waves = {axis: axis_wave(ready.staging, sweep.members, axis, block) for axis in Axis}
        for index in sweep.members:
            value, found = ready.graph.values[index], ready.stages[index]
            if value.name in _NAMES and found.kind is Kind.STREAMED and _is_dense(value):
                weight = ready.graph.values[value.refs()[1]]
                tensor = weight.constant
                if tensor is not None and uses[weight.index] == [index] and is_for_onednn(tensor):
                    size = [_steady(waves[axis], ready, index, axis) for axis in Axis]
                    weight.constant = _packed(value, tensor, ready, size)


def _is_dense(value: Value) -> bool:
    """Whether all channels are mixed; grouped convolutions hardly gain."""
    return int(arguments_of(value, CONVOLUTION_ARGUMENTS).get("groups", 1)) == 1


def _packed(value: Value, weight: Tensor, ready: Schedule, size: list[int]) -> Tensor:
    named = arguments_of(value, CONVOLUTION_ARGUMENTS)
    batch, channels = ready.graph.values[value.refs()[0]].shape[:2]
    steps, spread = as_pair(named.get("stride", 1)), as_pair(named.get("dilation", 1))
    turned: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        weight.contiguous(), (0, 0), steps, spread, 1, (batch, channels, *size)
    )
    return turned


def _steady(wave: AxisWave, ready: Schedule, index: int, axis: Axis) -> int:
    """Entries of the first argument that a step in the middle of the scene reads."""
    spans = list(pairwise(wave.breaks[index]))
    out = spans[len(spans) // 2]
    if out[0] >= out[1]:  # it waits for more of its argument, and then computes much at once
        out = max(spans, key=lambda span: span[1] - span[0])
    needs = ready.stages[index].needs[0]
    need = needs.get(axis) if needs else None
    if need is None:
        return ready.graph.values[ready.graph.values[index].refs()[0]].shape[2 + (axis is Axis.COL)]
    low, high = need.need(*out)
    return high - low
