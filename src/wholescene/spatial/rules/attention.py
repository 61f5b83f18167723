"""Matrix products and attention: local inside windows, whole keys and values over the scene."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Atom, Axis, Dim, Layout, adopt
from wholescene.spatial.rules.base import (
    Built,
    Input,
    Local,
    Needs,
    Reduction,
    Rule,
    accumulator_dtype,
    identities,
    is_spatial,
    same_op,
)

__all__ = [
    "attend_in_chunks",
    "attention_in_chunks",
    "attend_both",
    "attention",
    "attention_over_both",
    "einsum",
    "matrix_product",
]


def matrix_product(value: Value, inputs: Sequence[Input]) -> Built:
    """Product of the last two dimensions; one side may be needed whole."""
    left, right = (item.layout for item in inputs)
    if min(len(left.dims), len(right.dims)) < 2:
        return None
    batch = _batch_dims(inputs[0], inputs[1], value.shape)
    if batch is None:
        return None
    rows, cols = left.dims[-2], right.dims[-1]
    inner = is_spatial(left.dims[-1]), is_spatial(right.dims[-2])
    if all(inner):
        return _token_product(value, inputs)
    whole = 0 if inner[0] else 1 if inner[1] or (is_spatial(rows) and is_spatial(cols)) else None
    if whole is not None and any(is_spatial(dim) for dim in (left, right)[whole].dims[:-2]):
        return None
    if whole == 0:
        rows = (Atom(value.shape[-2]),)
    if whole == 1:
        cols = (Atom(value.shape[-1]),)
    return _rule(
        value, inputs, Layout((*batch, rows, cols)), whole=() if whole is None else (whole,)
    )


def einsum(value: Value, inputs: Sequence[Input]) -> Built:
    """Products named by letters; at most one side is needed whole."""
    if len(inputs) != 2 or "." in value.args[0]:
        return None
    sides, result = value.args[0].replace(" ", "").split("->")
    letters = sides.split(",")
    dims: dict[str, Dim] = {}
    where: dict[str, set[int]] = {}
    for k, (names, item) in enumerate(zip(letters, inputs, strict=True)):
        for letter, dim in zip(names, item.layout.dims, strict=True):
            if is_spatial(dim):
                dims.setdefault(letter, dim)
                where.setdefault(letter, set()).add(k)
            if dims.get(letter, dim) != dim:
                return None
    summed = set(dims) - set(result)
    if summed == set(dims):
        both = all(len(where[letter]) == 2 for letter in summed)
        return _TokenProduct(value, inputs) if both and summed else None
    whole = {k for letter in summed for k in where[letter]}
    apart = [letter for letter in dims if letter in result and len(where[letter]) == 1]
    if not whole and len({k for letter in apart for k in where[letter]}) == 2:
        whole = {1}
    if len(whole) > 1:
        return None
    cut = {letter for letter in dims if letter in result and not where[letter] & whole}
    sizes = dict(zip(result, value.shape, strict=True))
    layout = Layout(tuple(dims[x] if x in cut else (Atom(sizes[x]),) for x in result))
    needs = tuple(
        None if k in whole or not item.layout.is_spatial else identities(item.layout)
        for k, item in enumerate(inputs)
    )
    return Rule(layout, needs, same_op(value))


def attention(value: Value, inputs: Sequence[Input]) -> Built:
    """Scaled dot-product attention of query, key, value and an optional mask."""
    query, key = inputs[0], inputs[1]
    if is_spatial(query.layout.dims[-1]) or value.kwargs.get("is_causal"):
        return None
    if is_spatial(key.layout.dims[-2]):
        if any(is_spatial(dim) for item in inputs[:3] for dim in item.layout.dims[:-2]):
            return None
        if len(inputs) > 3:
            return None
        layout = Layout((*query.layout.dims[:-1], (Atom(value.shape[-1]),)))
        return _rule(value, inputs, layout, whole=(1, 2))
    layout = Layout((*query.layout.dims[:-1], (Atom(value.shape[-1]),)))
    return _rule(value, inputs, layout, whole=())


def _rule(value: Value, inputs: Sequence[Input], layout: Layout, *, whole: Sequence[int]) -> Built:
    ours = {axis: layout.grid(axis) for axis in Axis}
    needs: list[Needs | None] = []
    adopted: dict[int, Layout] = {}
    for k, item in enumerate(inputs):
        found = item.layout
        if k in whole:
            needs.append(None)
            continue
        if item.is_complete and not found.is_spatial:
            lead = adopt(item.shape, layout)
            if lead.is_spatial and len(item.shape) == len(layout.dims):
                # Only batch dimensions of a constant are cut.
                dims = [*lead.dims[:-2], *found.dims[-2:]]
                found = Layout(tuple(dims))
                if found.is_spatial:
                    adopted[k] = found
        if any(found.grid(axis) not in (None, ours[axis]) for axis in Axis):
            return None
        needs.append(identities(found) if found.is_spatial else None)
    return Rule(layout, tuple(needs), same_op(value), adopted)


def _batch_dims(left: Input, right: Input, shape: tuple[int, ...]) -> tuple[Dim, ...] | None:
    """Dimensions before the last two, broadcast."""
    dims: list[Dim] = []
    for position in range(-len(shape), -2):
        found = []
        for item in (left, right):
            if len(item.layout.dims) >= -position:
                dim = item.layout.dims[position]
                if prod(atom.size for atom in dim) == shape[position]:
                    found.append((item, dim))
        spatial = {dim for _, dim in found if is_spatial(dim)}
        plain = [item for item, dim in found if not is_spatial(dim) and shape[position] != 1]
        if len(spatial) > 1 or (spatial and any(not item.is_complete for item in plain)):
            return None
        dims.append(next(iter(spatial)) if spatial else (Atom(shape[position]),))
    return tuple(dims)


def attend_both(
    query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], scale: float | None
) -> Tensor:
    """Attention over keys and values in two parts."""
    return F.scaled_dot_product_attention(
        query, torch.cat(list(keys), -2), torch.cat(list(values), -2), scale=scale
    )


_CHUNK_SCORES = 1 << 24
"""Scores computed at once."""


def attend_in_chunks(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Softmax of ``query @ keys * scale``, times values, for a few queries at a time."""
    batch = query[..., 0, 0].numel()
    count = max(1, _CHUNK_SCORES // max(1, batch * keys.shape[-1]))
    parts = []
    for start in range(0, query.shape[-2], count):
        some = query[..., start : start + count, :]
        scores = torch.matmul(some, keys) * scale
        parts.append(torch.matmul(torch.softmax(scores, -1), values))
    return torch.cat(parts, -2)


def attention_in_chunks(value: Value, inputs: Sequence[Input]) -> Built:
    """Queries by region, keys and values whole."""
    query, keys, values = (item.layout for item in inputs)
    batch = [dim for layout in (query, keys, values) for dim in layout.dims[:-2]]
    if any(is_spatial(dim) for dim in (*batch, query.dims[-1], keys.dims[-2], values.dims[-1])):
        return None
    layout = Layout((*query.dims[:-1], (Atom(value.shape[-1]),)))
    return Rule(
        layout, (identities(query) if query.is_spatial else None, None, None), same_op(value)
    )


def attention_over_both(value: Value, inputs: Sequence[Input]) -> Built:
    """Queries by region, or a few of them at once; keys and values in two parts, each whole."""
    layout = inputs[0].layout
    if is_spatial(layout.dims[-1]):
        return None
    needs = (identities(layout) if layout.is_spatial else None, *(None for _ in inputs[1:]))
    return Rule(layout, needs, same_op(value))


class _TokenProduct(Reduction):
    """Product whose inner dimension is the scene: ``sum over tokens of k^T v``."""

    def __init__(self, value: Value, inputs: Sequence[Input]) -> None:
        self.value, self.domain = value, inputs[0].layout
        self.layout = Layout.plain(value.shape)
        self.needs = tuple(identities(item.layout) for item in inputs)
        self.product = same_op(value)

    def add(self, local: Local) -> None:
        exact = [tensor.to(accumulator_dtype(tensor.dtype)) for tensor in local.tensors]
        part = self.product(Local(exact, local.out, local.needs))
        self.total = part if self.total is None else self.total + part

    def finish(self) -> Tensor:
        assert self.total is not None
        return self.total.to(self.value.dtype)


def _token_product(value: Value, inputs: Sequence[Input]) -> Built:
    """Sum over all tokens of products, where both sides hold them in the inner dimension."""
    left, right = (item.layout for item in inputs)
    inner = left.dims[-1]
    others = [*left.dims[:-1], *right.dims[:-2], right.dims[-1]]
    if inner != right.dims[-2] or any(is_spatial(dim) for dim in others):
        return None
    return _TokenProduct(value, inputs)
