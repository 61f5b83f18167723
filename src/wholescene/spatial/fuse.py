"""Attention that would hold all scores: two products written out, or torch's without a kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from wholescene.spatial.graph import Graph, Ref, Value, copied
from wholescene.spatial.rules.attention import (
    attend_in_chunks,
    holds_scores,
    is_usual_attention,
)

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
        keys: Index of its right side.
        values: Index of the values.
        scale: Factor between product and softmax.
        is_turned: Whether the values are multiplied from the left.
        has_turned_keys: Whether the keys' tokens are in the last dimension but one, not the last.
    """

    query: int
    keys: int
    values: int
    scale: float
    is_turned: bool = False
    has_turned_keys: bool = False


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
            place[value.index] = _write(match, value, fused, place)
    fused.image, fused.output = place[graph.image], place[graph.output]
    return fused.pruned()


def _match(value: Value, graph: Graph, uses: list[list[int]]) -> _Attention | None:
    """Recognise an attention by its last operator."""
    if value.op is aten.scaled_dot_product_attention.default:
        return _match_operator(value, graph)
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
    return _Attention(query, keys, values.index, scale, is_turned=is_turned)


def _match_operator(value: Value, graph: Graph) -> _Attention | None:
    """Recognise torch's attention where it has no kernel."""
    query, keys, values, *mask = value.refs()
    shapes = [graph.values[ref].shape for ref in (query, keys, values)]
    if mask or not is_usual_attention(value) or not holds_scores(*shapes):
        return None
    if shapes[1][-2] < _MANY_KEYS or len({shape[:-2] for shape in shapes}) != 1:
        return None
    scale = value.kwargs.get("scale")
    scale = shapes[0][-1] ** -0.5 if scale is None else scale
    return _Attention(query, keys, values, scale, has_turned_keys=True)


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


def _write(match: _Attention, value: Value, fused: Graph, place: dict[int, int]) -> int:
    """Add the operator, and what turns its arguments and its result."""

    def turned(ref: Ref) -> Ref:
        shape = fused.values[ref.index].shape
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        return add(aten.permute.default, (ref, order), tuple(shape[i] for i in order))

    def add(op: Any, args: tuple[Any, ...], shape: tuple[int, ...]) -> Ref:
        made = fused.add(op, args, {}, shape=shape, dtype=value.dtype, layer=value.layer)
        return Ref(made.index)

    query, keys, values = (Ref(place[i]) for i in (match.query, match.keys, match.values))
    keys = turned(keys) if match.has_turned_keys else keys
    values = turned(values) if match.is_turned else values
    shape = (*fused.values[query.index].shape[:-1], fused.values[values.index].shape[-1])
    mixed = add(attend_in_chunks, (query, keys, values, match.scale), shape)
    return (turned(mixed) if match.is_turned else mixed).index
