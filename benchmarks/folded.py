"""The fastest plain way to run a network on tiles of one shape: the yardstick of the exact engine.

Norms are folded into convolutions, additions and ReLUs joined to them, weights packed once in the
order that oneDNN wants for this shape, and each result is let go of after its last use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from wholescene.spatial.capture import capture
from wholescene.spatial.fold import fold
from wholescene.spatial.graph import Graph, Value, run_op
from wholescene.spatial.rules.base import arguments_of
from wholescene.spatial.rules.window import CONVOLUTION_ARGUMENTS

__all__ = ["fold_network"]

Step = Callable[[Mapping[int, Tensor]], Tensor]


def fold_network(module: nn.Module, shape: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """A network for tiles of one shape, as a list of operators.

    Args:
        module: Evaluated network.
        shape: Shape of a tile.
    """
    dtype = next(module.parameters()).dtype
    graph = fold(capture(module, shape, dtype=dtype)).pruned()
    constants = {v.index: _lasting(v.constant) for v in graph.values if v.constant is not None}
    steps = {
        value.index: _packed(value, graph, constants) or _plain(value)
        for value in graph.values
        if value.index not in constants and value.index != graph.image
    }
    ends = _ends(graph, constants)

    def run(image: Tensor) -> Tensor:
        held = {**constants, graph.image: image}
        for index, step in steps.items():
            held[index] = step(held)
            for ref in ends.get(index, ()):
                del held[ref]
        return held[graph.output]

    return run


def _ends(graph: Graph, constants: Mapping[int, Tensor]) -> dict[int, list[int]]:
    """For each value, those that nothing reads after it."""
    ends: dict[int, list[int]] = {}
    for ref, users in enumerate(graph.uses()):
        if users and ref not in constants:
            ends.setdefault(max(users), []).append(ref)
    return ends


def _lasting(tensor: Tensor) -> Tensor:
    last = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
    return tensor.detach().contiguous(memory_format=last)


def _plain(value: Value) -> Step:
    return lambda held: run_op(value, held.__getitem__)


def _packed(value: Value, graph: Graph, constants: Mapping[int, Tensor]) -> Step | None:
    """A convolution with its weight packed; nothing for what is none."""
    if value.name not in ("convolve", "conv2d") or not torch.backends.mkldnn.is_available():
        return None
    named = arguments_of(value, CONVOLUTION_ARGUMENTS)
    pads = named.get("padding", 0)
    weight, bias = named["weight"].index, named.get("bias")
    if weight not in constants or isinstance(pads, str):
        return None
    other, is_clipped = value.args[len(CONVOLUTION_ARGUMENTS) :] or (None, False)
    settings = (_pair(pads), _pair(named.get("stride", 1)), _pair(named.get("dilation", 1)))
    groups, image = named.get("groups", 1), named["input"].index
    packed = torch._C._nn.mkldnn_reorder_conv2d_weight(
        constants[weight].to_mkldnn(), *settings, groups, graph.values[image].shape
    )
    shift = None if bias is None else constants[bias.index]
    plain = (packed, shift, *settings, groups)
    pointwise = torch.ops.mkldnn._convolution_pointwise
    if other is None:
        end = "relu" if is_clipped else "none"
        return lambda held: pointwise(held[image], *plain, end, [], "")
    last = "relu" if is_clipped else None
    return lambda held: pointwise.binary(
        held[image], held[other.index], *plain, "add", 1.0, last, [], ""
    )


def _pair(item: int | Sequence[int]) -> tuple[int, int]:
    pair = (item, item) if isinstance(item, int) else (*item, *item)[:2]
    return pair[0], pair[1]
