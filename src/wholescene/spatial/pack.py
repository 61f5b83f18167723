"""Weights of convolutions in the order that oneDNN computes in, turned once, not at each step.

The order depends on the size of the image. Most steps read as much as those in the middle of the
scene; those at its border read a little more or less, and where they take another order, the
weights are held in that one too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
from wholescene.spatial.staging import Kind, Stage
from wholescene.spatial.wave import AxisWave, axis_wave

__all__ = ["pack_weights"]

_NAMES = ("conv2d", "convolve")
_MOST_SIZES = 4
_SHARE = 16

Size = tuple[int, ...]


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
            weight = _own_weight(ready, index, uses)
            if weight is not None:
                sizes = [_sizes(waves[axis], ready, index, axis) for axis in Axis]
                others = packer.pack(ready.graph.values[index], weight, ready, sizes)
                if others:
                    ready.stages[index] = _choosing(ready.stages[index], others)


def _own_weight(ready: Schedule, index: int, uses: Sequence[Sequence[int]]) -> Value | None:
    """The weight of a streamed convolution that oneDNN computes and nothing else reads."""
    value = ready.graph.values[index]
    if value.name not in _NAMES or ready.stages[index].kind is not Kind.STREAMED:
        return None
    weight = ready.graph.values[value.refs()[1]]
    if weight.constant is None or uses[weight.index] != [index]:
        return None
    return weight if is_for_onednn(weight.constant) and _is_dense(value) else None


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
        self, value: Value, weight: Value, ready: Schedule, sizes: list[list[int]]
    ) -> Mapping[Size, Tensor]:
        """Turn a weight into the order of the usual size; gives those that have another."""
        plain = weight.constant
        assert plain is not None
        usual, *rest = product(*sizes)
        weight.constant = first = _turned(value, plain, ready, usual)
        known = {_order_of(first): first}
        others = {}
        for size in rest:
            turned = _turned(value, plain, ready, size)
            order = _order_of(turned)
            if order not in known:
                if self.spare < plain.nbytes:
                    continue
                self.spare -= plain.nbytes
                known[order] = turned
            if known[order] is not first:
                others[size] = known[order]
        return others


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


def _choosing(stage: Stage, weights: Mapping[Size, Tensor]) -> Stage:
    """Convolve with the weights for the size of the image, where it has its own."""
    rule = stage.rule
    assert rule is not None

    def choose(local: Local) -> Tensor:
        image, weight, *rest = local.tensors
        weight = weights.get(tuple(image.shape[2:]), weight)
        return rule.run(replace(local, tensors=[image, weight, *rest]))

    return replace(stage, rule=replace(rule, run=choose))


def _sizes(wave: AxisWave, ready: Schedule, index: int, axis: Axis) -> list[int]:
    """Entries of the first argument that steps read: in the middle of the scene, and others."""
    spans = list(pairwise(wave.breaks[index]))
    busy = [span for span in spans if span[0] < span[1]]
    middle = spans[len(spans) // 2]
    if middle not in busy:  # it waits for more of its argument, and then computes much at once
        middle = max(busy, key=lambda span: span[1] - span[0])
    needs = ready.stages[index].needs[0]
    need = needs.get(axis) if needs else None
    if need is None:
        first = ready.graph.values[ready.graph.values[index].refs()[0]]
        return [first.shape[2 + (axis is Axis.COL)]]
    ends = [need.need(*span) for span in (middle, *busy)]
    usual, *others = [high - low for low, high in ends]
    often = Counter(size for size in others if size != usual).most_common(_MOST_SIZES - 1)
    return [usual, *(size for size, _ in often)]
