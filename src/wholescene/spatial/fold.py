"""Batch norms folded into convolutions; additions and ReLU joined to the convolution before them.

The function stays the same up to rounding: stored statistics are a scale and a shift per channel,
which the weights and the bias take over in double precision.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wholescene.spatial.graph import Graph, Ref, Value, copied
from wholescene.spatial.rules.base import arguments_of
from wholescene.spatial.rules.pointwise import NORM_ARGUMENTS
from wholescene.spatial.rules.window import CONVOLUTION_ARGUMENTS, convolve

__all__ = ["fold"]

aten = torch.ops.aten

_CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)
_TRANSPOSED = aten.conv_transpose2d.input
_SUMS = (aten.add.Tensor, aten.add_.Tensor)
_RELUS = (aten.relu.default, aten.relu_.default)


def fold(graph: Graph) -> Graph:
    """The same network with fewer operators."""
    return _join_epilogues(_fold_norms(graph))


def _fold_norms(graph: Graph) -> Graph:
    uses = graph.uses()
    found = Graph()
    place: dict[int, int] = {}
    for value in graph.values:
        source = graph.values[value.refs()[0]] if value.op is aten.batch_norm.default else None
        if source is not None and _takes_norm(source, value, uses, graph):
            place[value.index] = _folded(source, value, graph, found, place).index
        else:
            place[value.index] = copied(value, found, place).index
    found.image, found.output = place[graph.image], place[graph.output]
    return found.pruned()


def _takes_norm(source: Value, norm: Value, uses: list[list[int]], graph: Graph) -> bool:
    """Whether a norm follows a convolution that nothing else reads, all weights known."""
    if source.op not in (*_CONVOLUTIONS, _TRANSPOSED) or uses[source.index] != [norm.index]:
        return False
    if source.op is _TRANSPOSED and _groups(source) != 1:
        return False
    weights = [*source.refs()[1:], *norm.refs()[1:]]
    return len(norm.refs()) >= 3 and all(graph.values[i].constant is not None for i in weights)


def _groups(value: Value) -> int:
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups")
    return int(arguments_of(value, names).get("groups", 1))


def _folded(source: Value, norm: Value, graph: Graph, found: Graph, place: dict[int, int]) -> Value:
    """A convolution with the scale and shift of the norm after it."""
    named = arguments_of(norm, NORM_ARGUMENTS)

    def constant(ref: Any) -> Tensor | None:
        if not isinstance(ref, Ref):
            return None
        tensor = graph.values[ref.index].constant
        return None if tensor is None else tensor.double()

    weight, bias = constant(source.args[1]), constant(_at(source.args, 2))
    mean, var = constant(named["mean"]), constant(named["var"])
    assert weight is not None
    assert mean is not None
    assert var is not None
    scale = torch.rsqrt(var + named["eps"])
    gain, shift = constant(named["weight"]), constant(named["bias"])
    scale = scale if gain is None else scale * gain
    shift = -mean * scale + (0.0 if shift is None else shift)
    shift = shift if bias is None else shift + bias * scale
    channels = 1 if source.op is _TRANSPOSED else 0
    shape = [1] * weight.dim()
    shape[channels] = -1
    args = (
        Ref(place[source.refs()[0]]),
        Ref(_constant(weight * scale.view(shape), norm, found)),
        Ref(_constant(shift, norm, found)),
        *source.args[3:],
    )
    kwargs = {key: item for key, item in source.kwargs.items() if key != "bias"}
    return found.add(
        source.op, args, kwargs, shape=norm.shape, dtype=norm.dtype, layer=source.layer
    )


def _at(args: tuple[Any, ...], index: int) -> Any:
    return args[index] if len(args) > index else None


def _constant(tensor: Tensor, like: Value, found: Graph) -> int:
    tensor = tensor.to(like.dtype)
    shape = tuple(tensor.shape)
    value = found.add(None, (), {}, shape=shape, dtype=like.dtype, layer=like.layer)
    value.constant = tensor
    return value.index


def _join_epilogues(graph: Graph) -> Graph:
    """Convolutions with what is added to their result, and the ReLU after it."""
    uses = graph.uses()
    ends = _ends(graph, uses)
    joined = {index for end in ends.values() for index in end.replaced}
    found = Graph()
    place: dict[int, int] = {}
    for value in graph.values:
        if value.index in ends:
            place[value.index] = _joined(value, ends[value.index], graph, found, place).index
        elif value.index not in joined:
            place[value.index] = copied(value, found, place).index
    found.image, found.output = place[graph.image], place[graph.output]
    return found


class _End:
    """The last operator of a convolution with its epilogue.

    Args:
        convolution: Index of the convolution.
        other: What is added to its result.
        is_clipped: Whether negative values become zero.
        replaced: Operators that go into the joined one, besides the last.
    """

    def __init__(
        self, convolution: int, other: int | None, is_clipped: bool, replaced: list[int]
    ) -> None:
        self.convolution, self.other = convolution, other
        self.is_clipped, self.replaced = is_clipped, replaced


def _ends(graph: Graph, uses: list[list[int]]) -> dict[int, _End]:
    ends: dict[int, _End] = {}
    for value in graph.values:
        if value.op in _RELUS:
            source = value.refs()[0]
            if uses[source] != [value.index]:
                continue
            if source in ends and not ends[source].is_clipped:
                inner = ends.pop(source)
                ends[value.index] = _End(
                    inner.convolution, inner.other, True, [*inner.replaced, source]
                )
            elif _is_convolution(graph.values[source]):
                ends[value.index] = _End(source, None, True, [source])
        elif value.op in _SUMS:
            end = _sum_end(value, graph, uses)
            if end is not None:
                ends[value.index] = end
    return ends


def _sum_end(value: Value, graph: Graph, uses: list[list[int]]) -> _End | None:
    refs = value.refs()
    if len(refs) != 2 or refs[0] == refs[1] or value.kwargs.get("alpha", 1) != 1:
        return None
    if any(graph.values[ref].shape != value.shape for ref in refs):
        return None
    if any(graph.values[ref].dtype != value.dtype for ref in refs):
        return None
    # Of two convolutions the later one: the result of the other is there by then.
    for ref in sorted(refs, reverse=True):
        if _is_convolution(graph.values[ref]) and uses[ref] == [value.index]:
            other = refs[0] if ref == refs[1] else refs[1]
            return (
                None if graph.values[other].constant is not None else _End(ref, other, False, [ref])
            )
    return None


def _is_convolution(value: Value) -> bool:
    return value.op in _CONVOLUTIONS


def _joined(value: Value, end: _End, graph: Graph, found: Graph, place: dict[int, int]) -> Value:
    source = graph.values[end.convolution]
    named = arguments_of(source, CONVOLUTION_ARGUMENTS)

    def moved(item: Any) -> Any:
        return Ref(place[item.index]) if isinstance(item, Ref) else item

    defaults = dict(zip(CONVOLUTION_ARGUMENTS[3:], (1, 0, 1, 1), strict=True))
    args = [moved(named.get(name, defaults.get(name))) for name in CONVOLUTION_ARGUMENTS]
    other = None if end.other is None else Ref(place[end.other])
    return found.add(
        convolve,
        (*args, other, end.is_clipped),
        {},
        shape=value.shape,
        dtype=value.dtype,
        layer=source.layer,
    )
