"""Matrix products and attention: local inside windows, whole keys and values over the scene."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.spatial.graph import Ref, Value
from wholescene.spatial.layout import Atom, Dim, Layout, adopt
from wholescene.spatial.precise import accumulator_dtype
from wholescene.spatial.rules.base import (
    Built,
    Expansion,
    Input,
    Local,
    Needs,
    Operation,
    Reduction,
    Rule,
    arguments_of,
    identities,
    is_spatial,
    same_op,
)

__all__ = [
    "added_product",
    "attend_in_chunks",
    "attention_in_chunks",
    "attend_both",
    "attention",
    "attention_over_both",
    "einsum",
    "holds_scores",
    "is_usual_attention",
    "matrix_product",
    "scaled_sum",
]

aten = torch.ops.aten


def matrix_product(value: Value, inputs: Sequence[Input]) -> Built:
    """Product of the last two dimensions; one side may be needed whole.

    Whole means all rows and columns but those that count windows in a batch dimension.
    """
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
    if whole == 0:
        rows = (Atom(value.shape[-2]),)
    if whole == 1:
        cols = (Atom(value.shape[-1]),)
    return _rule(
        value, inputs, Layout((*batch, rows, cols)), whole=() if whole is None else (whole,)
    )


def added_product(value: Value, inputs: Sequence[Input]) -> Built:
    """A matrix product and something added to it (``addmm``, ``baddbmm``)."""
    added, left, right = value.args[:3]
    product = aten.mm.default if value.op is aten.addmm.default else aten.bmm.default
    factors = value.kwargs.get("beta", 1), value.kwargs.get("alpha", 1)
    return Expansion(
        (
            Operation(product, (left, right), value.shape, value.dtype),
            Operation(scaled_sum, (added, Ref(-1), *factors), value.shape, value.dtype),
        )
    )


def scaled_sum(first: Tensor, second: Tensor, beta: float, alpha: float) -> Tensor:
    """``beta * first + alpha * second``; nothing of the first if ``beta`` is 0."""
    return alpha * second if beta == 0 else beta * first + alpha * second


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
    query, key = inputs[0].layout, inputs[1].layout
    if is_spatial(query.dims[-1]) or not is_usual_attention(value):
        return None
    layout = Layout((*query.dims[:-1], (Atom(value.shape[-1]),)))
    is_global = is_spatial(key.dims[-2])
    return _rule(value, inputs, layout, whole=(1, 2) if is_global else (), mask=3)


def is_usual_attention(value: Value) -> bool:
    """Whether queries ask all keys, heads in pairs, without chance."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    named = arguments_of(value, names)
    return not any(named.get(name) for name in ("dropout_p", "is_causal", "enable_gqa"))


def _rule(
    value: Value,
    inputs: Sequence[Input],
    layout: Layout,
    *,
    whole: Sequence[int],
    mask: int | None = None,
) -> Built:
    needs: list[Needs | None] = []
    adopted: dict[int, Layout] = {}
    for k, item in enumerate(inputs):
        found = item.layout
        if k in whole:
            found = Layout(found.dims[:-2])
            if not _is_cut_alike(found, Layout(layout.dims[:-2])):
                return None
            needs.append(identities(found) if found.is_spatial else None)
            continue
        if item.is_complete and not found.is_spatial:
            found = _as_result(item, layout, is_mask=k == mask)
            adopted |= {k: found} if found.is_spatial else {}
        if not _is_cut_alike(found, layout):
            return None
        needs.append(identities(found) if found.is_spatial else None)
    return Rule(layout, tuple(needs), same_op(value), adopted)


def _as_result(item: Input, layout: Layout, *, is_mask: bool) -> Layout:
    """Layout of a constant whose batch dimensions, and queries if it is a mask, are cut."""
    count = 1 if is_mask else 2
    alike = adopt(item.shape, layout).dims[:-count]
    return Layout((*alike, *item.layout.dims[-count:]))


def _is_cut_alike(found: Layout, layout: Layout) -> bool:
    """Whether what an argument has of the scene is in the same dimensions of the result."""
    pairs = zip(reversed(found.dims), reversed(layout.dims), strict=False)
    return all(ours == theirs for ours, theirs in pairs if is_spatial(ours))


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
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    scale: float | None,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention over keys and values in two parts."""
    both = torch.cat(list(keys), -2), torch.cat(list(values), -2)
    return F.scaled_dot_product_attention(query, *both, mask, scale=scale)


_CHUNK_SCORES = {"cpu": 1 << 21}
"""Scores computed at once: on CPUs as many as fit into their caches."""

_MANY_SCORES = 1 << 24
"""The same on devices that work on many things at a time."""

_FEWEST_QUERIES = 32
"""Queries at once at least, so that keys and values are not read too often."""


def holds_scores(query: Sequence[int], keys: Sequence[int], values: Sequence[int]) -> bool:
    """Whether torch's attention holds all scores, having no kernel for these shapes.

    Keys have their tokens in the last dimension but one.
    """
    return len(query) != 4 or not query[-1] == keys[-1] == values[-1]


def attend_in_chunks(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Softmax of ``query @ keys * scale``, times values, never with all scores."""
    if query.dim() == 3:
        query, keys, values = query.unsqueeze(1), keys.unsqueeze(1), values.unsqueeze(1)
        return attend_in_chunks(query, keys, values, scale).squeeze(1)
    turned = keys.transpose(-1, -2)
    if not holds_scores(query.shape, turned.shape, values.shape) and (
        query.is_cpu or query.dtype != torch.float64
    ):
        # Its kernels are three times as fast, but want features side by side.
        query, turned, values = (
            x if x.stride(-1) == 1 else x.contiguous() for x in (query, turned, values)
        )
        return F.scaled_dot_product_attention(query, turned, values, scale=scale)
    scores = _CHUNK_SCORES.get(query.device.type, _MANY_SCORES)
    count = max(_FEWEST_QUERIES, scores // keys.shape[-1])
    if torch.is_grad_enabled():
        parts = [_attend(some, keys, values, scale) for some in torch.split(query, count, -2)]
        return torch.cat(parts, -2)
    # Results that are kept one by one would lie where scores have been, and keep the heap from
    # using that place again.
    result = query.new_empty((*query.shape[:-1], values.shape[-1]))
    for at in product(*map(range, query.shape[:-2])):
        for some, into in zip(
            torch.split(query[at], count), torch.split(result[at], count), strict=True
        ):
            into.copy_(_attend(some, keys[at], values[at], scale))
    return result


def _attend(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    scores = torch.matmul(query, keys).mul_(scale)
    return torch.matmul(torch.softmax(scores, -1), values)


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
    query = inputs[0].layout
    batch = [dim for item in inputs for dim in item.layout.dims[:-2]]
    if any(is_spatial(dim) for dim in (*batch, query.dims[-1])):
        return None
    layout = Layout((*query.dims[:-1], (Atom(value.shape[-1]),)))
    return _rule(value, inputs, layout, whole=(1, 2, 3, 4), mask=5)


class _TokenProduct(Reduction):
    """Product whose inner dimension is the scene: ``sum over tokens of k^T v``."""

    def __init__(self, value: Value, inputs: Sequence[Input]) -> None:
        self.value, self.domain = value, inputs[0].layout
        self.layout = Layout.plain(value.shape)
        self.needs = tuple(identities(item.layout) for item in inputs)
        self.product = same_op(value)

    def add(self, local: Local) -> None:
        exact = [tensor.to(accumulator_dtype(tensor.dtype)) for tensor in local.tensors]
        self.absorb(self.product(Local(exact, local.out, local.needs)))

    def joined(self, total: Tensor, part: Tensor, count: int) -> Tensor:
        return total + part

    def finish(self) -> Tensor:
        assert self.total is not None
        return self.total.to(self.value.dtype)


def _token_product(value: Value, inputs: Sequence[Input]) -> Built:
    """Sum over all tokens of products, where both sides hold them in the inner dimension."""
    left, right = (item.layout for item in inputs)
    inner, batch = left.dims[-1], left.dims[:-2]
    if inner != right.dims[-2] or is_spatial(left.dims[-2]) or is_spatial(right.dims[-1]):
        return None
    if any(is_spatial(dim) for dim in (*batch, *right.dims[:-2])):
        rows, cols = (Atom(value.shape[-2]),), (Atom(value.shape[-1]),)
        return _rule(value, inputs, Layout((*batch, rows, cols)), whole=(0, 1))
    return _TokenProduct(value, inputs)
