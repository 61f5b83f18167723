"""Weights of convolutions in the order that oneDNN computes in, turned once, not at each step.

The order depends on the size of the image. Most steps read as much as those in the middle of the
scene; those at its border read a little more or less, and where they take another order, the
weights are held in that one too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, product

import torch
from torch import Tensor

from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Axis
from wholescene.spatial.memory import Footprint
from wholescene.spatial.rules.base import Local, arguments_of
from wholescene.spatial.rules.window import CONVOLUTION_ARGUMENTS, as_pair, is_for_onednn
from wholescene.spatial.schedule import Schedule
from wholescene.spatial.staging import Kind
from wholescene.spatial.wave import AxisWave, axis_wave

__all__ = ["pack_weights"]

_NAMES = ("conv2d", "convolve")
_MOST_SIZES = 4
_SHARE = 16

Size = tuple[int, ...]
Run = Callable[[Local], Tensor]


def pack_weights(ready: Schedule, footprint: Footprint) -> None:
    """Replace the weights of streamed convolutions, where they run on a CPU with oneDNN.

    Args:
        ready: The network; its weights and rules change.
        footprint: Block, and bytes that are spare: up to a sixteenth of them is taken for weights
            in a second order.
    """
    uses = ready.graph.uses()
    packer = _Packer(footprint.spare // _SHARE)
    for sweep in ready.sweeps:
        if not sweep.members:
            continue
        block = footprint.block
        waves = {axis: axis_wave(ready.staging, sweep.members, axis, block) for axis in Axis}
        for index in sweep.members:
            value, found = ready.graph.values[index], ready.stages[index]
            if value.name in _NAMES and found.kind is Kind.STREAMED and _is_dense(value):
                weight = ready.graph.values[value.refs()[1]]
                tensor = weight.constant
                if tensor is not None and uses[weight.index] == [index] and is_for_onednn(tensor):
                    sizes = [_sizes(waves[axis], ready, index, axis) for axis in Axis]
                    weight.constant, others = packer.pack(value, tensor, ready, sizes)
                    rule = found.rule
                    if others and rule is not None:
                        rule = replace(rule, run=_choosing(rule.run, others))
                        ready.stages[index] = replace(found, rule=rule)


def _is_dense(value: Value) -> bool:
    """Whether all channels are mixed; grouped convolutions hardly gain."""
    return int(arguments_of(value, CONVOLUTION_ARGUMENTS).get("groups", 1)) == 1


@dataclass
class _Packer:
    """Turns weights.

    Args:
        spare: Bytes that there are for weights in a second order.
    """

    spare: int

    def pack(
        self, value: Value, weight: Tensor, ready: Schedule, sizes: list[list[int]]
    ) -> tuple[Tensor, Mapping[Size, Tensor]]:
        """Weights in the order of the usual size, and those of sizes that have another."""
        usual, *rest = product(*sizes)
        first = _turned(value, weight, ready, usual)
        known = {_order_of(first): first}
        others = {}
        for size in rest:
            turned = _turned(value, weight, ready, size)
            order = _order_of(turned)
            if order not in known:
                if self.spare < weight.nbytes:
                    continue
                self.spare -= weight.nbytes
                known[order] = turned
            if known[order] is not first:
                others[size] = known[order]
        return first, others


def _turned(value: Value, weight: Tensor, ready: Schedule, size: Size) -> Tensor:
    named = arguments_of(value, CONVOLUTION_ARGUMENTS)
    batch, channels = ready.graph.values[value.refs()[0]].shape[:2]
    steps, spread = as_pair(named.get("stride", 1)), as_pair(named.get("dilation", 1))
    turned: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        weight.contiguous(), (0, 0), steps, spread, 1, (batch, channels, *size)
    )
    return turned


def _order_of(turned: Tensor) -> bytes:
    """Says in which order oneDNN holds weights."""
    order: Tensor = torch.ops.mkldnn._get_mkldnn_serialized_md(turned)
    return order.numpy().tobytes()


def _choosing(run: Run, weights: Mapping[Size, Tensor]) -> Run:
    """Convolve with the weights for the size of the image, where it has its own."""

    def choose(local: Local) -> Tensor:
        image, weight, *rest = local.tensors
        weight = weights.get(tuple(image.shape[2:]), weight)
        return run(replace(local, tensors=[image, weight, *rest]))

    return choose


def _sizes(wave: AxisWave, ready: Schedule, index: int, axis: Axis) -> list[int]:
    """Entries of the first argument that steps read: in the middle of the scene, and others."""
    spans = [span for span in pairwise(wave.breaks[index]) if span[0] < span[1]]
    middle = wave.breaks[index][(len(wave.breaks[index]) - 1) // 2 :][:2]
    if middle[0] >= middle[1]:  # it waits for more of its argument, and then computes much at once
        middle = max(spans, key=lambda span: span[1] - span[0])
    needs = ready.stages[index].needs[0]
    need = needs.get(axis) if needs else None
    if need is None:
        first = ready.graph.values[ready.graph.values[index].refs()[0]]
        return [first.shape[2 + (axis is Axis.COL)]]
    ends = [need.need(*span) for span in (middle, *spans)]
    usual, *others = [high - low for low, high in ends]
    often = Counter(size for size in others if size != usual).most_common(_MOST_SIZES - 1)
    return [usual, *(size for size, _ in often)]
