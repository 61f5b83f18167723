"""What a network costs, from shapes alone."""

from __future__ import annotations

from math import prod

from wholescene.spatial.graph import Graph, Value
from wholescene.spatial.rules.attention import holds_scores

__all__ = ["VIEWS", "multiply_adds", "whole_bytes"]

VIEWS = frozenset({"reshape", "permute", "select", "slice", "expand"})
"""Operators whose result shares memory with their argument, when run whole."""


def multiply_adds(value: Value, graph: Graph) -> int:
    """Multiplications of one operator over the whole scene."""
    shapes = [graph.values[ref].shape for ref in value.refs()]
    if value.name in ("conv1d", "conv2d", "conv3d", "convolve"):
        return prod(value.shape) * prod(shapes[1][1:])
    if value.name == "conv_transpose2d":
        return prod(shapes[0]) * prod(shapes[1][1:])
    if value.name == "linear":
        return prod(value.shape) * shapes[1][1]
    if value.name in ("matmul", "mm", "bmm"):
        return prod(value.shape) * shapes[0][-1]
    if value.name == "scaled_dot_product_attention":
        return prod(value.shape) * 2 * shapes[1][-2]
    if value.name == "attend_both":
        return prod(value.shape) * 2 * (shapes[1][-2] + shapes[2][-2])
    if value.name == "attend_in_chunks":
        return prod(value.shape[:-1]) * shapes[1][-1] * (shapes[0][-1] + value.shape[-1])
    return 0


def whole_bytes(graph: Graph) -> int:
    """Peak of a plain forward: what is alive at once, views counted once."""
    last: dict[int, int] = {}
    owner: dict[int, int] = {}
    for value in graph.values:
        refs = value.refs()
        is_view = value.name in VIEWS and refs
        owner[value.index] = owner[refs[0]] if is_view else value.index
        for ref in refs:
            last[owner[ref]] = value.index
    now = peak = 0
    ends: dict[int, list[int]] = {}
    for index, user in last.items():
        ends.setdefault(user, []).append(index)
    for value in graph.values:
        counts = value.constant is None and owner[value.index] == value.index
        if counts and value.index not in (graph.image, graph.output):
            now += value.num_bytes
        peak = max(peak, now + _scores_bytes(value, graph))
        for index in ends.get(value.index, ()):
            if graph.values[index].constant is None and index not in (graph.image, graph.output):
                now -= graph.values[index].num_bytes
    return peak


def _scores_bytes(value: Value, graph: Graph) -> int:
    """Bytes that torch's attention holds of scores and their softmax, if it has no kernel."""
    if value.name != "scaled_dot_product_attention":
        return 0
    query, keys, values = (graph.values[ref].shape for ref in value.refs()[:3])
    if not holds_scores(query, keys, values):
        return 0
    return 2 * prod(query[:-1]) * keys[-2] * value.dtype.itemsize
