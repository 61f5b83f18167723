"""Attention written out as two products, recognised so that the scores are never held whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from wholescene.spatial.graph import Graph, Ref, Value, copied
from wholescene.spatial.rules.attention import attend_in_chunks

__all__ = ["fuse_attention"]

aten = torch.ops.aten

_PRODUCTS = (aten.matmul.default, aten.bmm.default)
_SOFTMAXES = (aten.softmax.int, aten._softmax.default)
_MANY_KEYS = 2048
"""Scores of fewer keys (windows, reduced keys, channels) are small enough as they are."""


@dataclass(frozen=True)
class _Attention:
    """Softmax of a product, times values.

    Args:
        query: Index of the left side of the first product.
        keys: Index of its right side, tokens last.
        values: Index of the values.
        scale: Factor between product and softmax.
        is_turned: Whether the values are multiplied from the left.
    """

    query: int
    keys: int
    values: int
    scale: float
    is_turned: bool


def fuse_attention(graph: Graph) -> Graph:
    """The same network, with long attention as one operator."""
    uses = graph.uses()
    found = {value.index: _match(value, graph, uses) for value in graph.values}
    if not any(found.values()):
        return graph
    fused = Graph()
    place: dict[int, int] = {}
    for value in graph.values:
        match = found[value.index]
        if match is None:
            place[value.index] = copied(value, fused, place).index
        else:
            place[value.index] = _write(match, value, graph, fused, place)
    fused.image, fused.output = place[graph.image], place[graph.output]
    return fused.pruned()


def _match(value: Value, graph: Graph, uses: list[list[int]]) -> _Attention | None:
    """Recognise the second product of an attention."""
    if value.op not in _PRODUCTS or value.constant is not None:
        return None
    left, right = (graph.values[ref] for ref in value.refs())
    if _is_scores(left, uses):
        scores, values, is_turned = left, right, False
    elif _is_turned(right, uses) and _is_scores(graph.values[right.refs()[0]], uses):
        scores, values, is_turned = graph.values[right.refs()[0]], left, True
    else:
        return None
    product, scale = graph.values[scores.refs()[0]], 1.0
    factor = _factor(product, uses)
    if factor is not None:
        product, scale = graph.values[product.refs()[0]], factor
    if product.op not in _PRODUCTS or len(uses[product.index]) != 1:
        return None
    ranks = {len(item.shape) for item in (value, product, values)}
    if product.shape[-1] < _MANY_KEYS or len(ranks) != 1:
        return None
    query, keys = product.refs()
    return _Attention(query, keys, values.index, scale, is_turned)


def _is_scores(value: Value, uses: list[list[int]]) -> bool:
    once = len(uses[value.index]) == 1
    return once and value.op in _SOFTMAXES and value.args[1] in (-1, len(value.shape) - 1)


def _is_turned(value: Value, uses: list[list[int]]) -> bool:
    """Whether the last two dimensions change places."""
    if value.op is not aten.permute.default or len(uses[value.index]) != 1:
        return False
    rank = len(value.shape)
    return list(value.args[1]) == [*range(rank - 2), rank - 1, rank - 2]


def _factor(value: Value, uses: list[list[int]]) -> float | None:
    """The number a tensor is multiplied by."""
    if value.op not in (aten.mul.Tensor, aten.div.Tensor) or len(uses[value.index]) != 1:
        return None
    factor: Any = value.args[1]
    if not isinstance(factor, int | float):
        return None
    return float(factor) if value.op is aten.mul.Tensor else 1 / factor


def _write(
    match: _Attention, value: Value, graph: Graph, fused: Graph, place: dict[int, int]
) -> int:
    facts: dict[str, Any] = {"dtype": value.dtype, "layer": value.layer}
    query, keys, values = (Ref(place[i]) for i in (match.query, match.keys, match.values))
    if not match.is_turned:
        args = (query, keys, values, match.scale)
        return fused.add(attend_in_chunks, args, {}, shape=value.shape, **facts).index
    rank = len(value.shape)
    order = [*range(rank - 2), rank - 1, rank - 2]

    def turned(shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(shape[i] for i in order)

    shape = turned(graph.values[match.values].shape)
    side = fused.add(aten.permute.default, (values, order), {}, shape=shape, **facts)
    args = (query, keys, Ref(side.index), match.scale)
    mixed = fused.add(attend_in_chunks, args, {}, shape=turned(value.shape), **facts)
    back = (Ref(mixed.index), order)
    return fused.add(aten.permute.default, back, {}, shape=value.shape, **facts).index
