"""Class tokens apart from the tokens of the scene.

A vision transformer puts a few learnt tokens before those of the scene, so that no dimension is a
grid any more. Here such a sequence becomes two values, the few and the grid, and every operator on
it becomes two; attention reads the keys of both. Where an operator cannot be split, the two are
joined again, and it runs as it would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from wholescene.spatial.graph import Graph, Ref, Value, copied, mapped
from wholescene.spatial.rules.attention import attend_both, is_usual_attention
from wholescene.spatial.rules.pointwise import is_elementwise

__all__ = ["split_class_tokens"]

aten = torch.ops.aten

_MOST_TOKENS = 64
"""More tokens than this before the scene's are not class tokens."""


@dataclass(frozen=True)
class _Pair:
    """A sequence in two parts.

    Args:
        few: Index of the tokens before the scene's.
        grid: Index of the scene's.
        dim: Dimension that counts tokens.
        count: How many come before.
        shape: Shape of the whole sequence.
    """

    few: int
    grid: int
    dim: int
    count: int
    shape: tuple[int, ...]


def split_class_tokens(graph: Graph) -> Graph:
    """The same network with class tokens apart."""
    if not any(_starts(value, graph) for value in graph.values):
        return graph
    return _Splitter(graph).run().pruned()


def _starts(value: Value, graph: Graph) -> bool:
    """Whether a concatenation puts a few learnt tokens before the scene's."""
    if value.op is not aten.cat.default or len(value.shape) != 3 or value.constant is not None:
        return False
    if (value.args[1] if len(value.args) > 1 else 0) % 3 != 1:
        return False
    *few, grid = (graph.values[ref.index] for ref in value.args[0])
    learnt = bool(few) and all(_is_learnt(item, graph) for item in few)
    return learnt and sum(v.shape[1] for v in few) <= _MOST_TOKENS and grid.constant is None


def _is_learnt(value: Value, graph: Graph) -> bool:
    """Whether a value follows from parameters alone."""
    refs = value.refs()
    if value.constant is not None or value.index == graph.image:
        return value.constant is not None
    return bool(refs) and all(_is_learnt(graph.values[ref], graph) for ref in refs)


class _Splitter:
    """Copies a graph, following sequences in two parts."""

    def __init__(self, graph: Graph) -> None:
        self.old, self.new = graph, Graph()
        self.place: dict[int, int] = {}
        self.pairs: dict[int, _Pair] = {}

    def run(self) -> Graph:
        for value in self.old.values:
            pair = self._start(value) if _starts(value, self.old) else self._split(value)
            if pair is None and value.index not in self.place:
                for ref in value.refs():
                    self._join(ref)
                self.place[value.index] = copied(value, self.new, self.place).index
            elif pair is not None:
                self.pairs[value.index] = pair
        self._join(self.old.output)
        self.new.image, self.new.output = self.place[self.old.image], self.place[self.old.output]
        return self.new

    def _start(self, value: Value) -> _Pair | None:
        *few, grid = (ref.index for ref in value.args[0])
        if grid in self.pairs:
            return None
        count = sum(self.old.values[i].shape[1] for i in few)
        return _Pair(self._learnt(few, value, count), self.place[grid], 1, count, value.shape)

    def _learnt(self, few: Sequence[int], value: Value, count: int) -> int:
        """The tokens before the scene's as one value."""
        tensors = [self.old.values[i].constant for i in few]
        known = [t for t in tensors if t is not None and not t.requires_grad]
        if len(known) == len(few):
            return self._constant(torch.cat(known, 1), value.layer)
        shape = (value.shape[0], count, value.shape[2])
        return self._add(aten.cat.default, ([Ref(self.place[i]) for i in few], 1), value, shape)

    def _restart(self, value: Value) -> _Pair | None:
        """The two parts of a sequence, put together again after each went its own way."""
        refs = value.refs()
        if value.op is not aten.cat.default or len(refs) != 2:
            return None
        dim = (value.args[1] if len(value.args) > 1 else 0) % len(value.shape)
        count, size = self.old.values[refs[0]].shape[dim], value.shape[dim]
        known = {(pair.count, pair.shape[pair.dim]) for pair in self.pairs.values()}
        if (count, size) not in known or any(ref in self.pairs for ref in refs):
            return None
        return _Pair(self.place[refs[0]], self.place[refs[1]], dim, count, value.shape)

    def _constant(self, tensor: Tensor, layer: str) -> int:
        value = self.new.add(
            None, (), {}, shape=tuple(tensor.shape), dtype=tensor.dtype, layer=layer
        )
        value.constant = tensor
        return value.index

    def _join(self, index: int) -> None:
        """Make the whole sequence again, once."""
        pair = self.pairs.get(index)
        if pair is not None and index not in self.place:
            value = self.old.values[index]
            both = [Ref(pair.few), Ref(pair.grid)]
            self.place[index] = self._add(aten.cat.default, (both, pair.dim), value, value.shape)

    def _add(self, op: Any, args: Sequence[Any], like: Value, shape: Sequence[int]) -> int:
        return self.new.add(
            op, tuple(args), {}, shape=tuple(shape), dtype=like.dtype, layer=like.layer
        ).index

    def _split(self, value: Value) -> _Pair | None:
        refs = value.refs()
        if value.constant is not None or not any(ref in self.pairs for ref in refs):
            return self._restart(value)
        if value.op in (aten.slice.Tensor, aten.select.int) and self._takes_part(value):
            return None
        if value.op is aten.scaled_dot_product_attention.default:
            return self._attention(value)
        dim = self._dim_after(value)
        return self._both(value, dim) if dim is not None else None

    def _dim_after(self, value: Value) -> int | None:
        """Where the tokens are in the result of an operator that treats them alike."""
        first = self.pairs.get(value.refs()[0])
        rank = len(value.shape)
        if is_elementwise(value.op):
            pairs = [self.pairs[ref] for ref in value.refs() if ref in self.pairs]
            ends = {len(pair.shape) - pair.dim for pair in pairs}
            return rank - ends.pop() if len(ends) == 1 else None
        if first is None or any(ref in self.pairs for ref in value.refs()[1:]):
            return None
        dim, size = first.dim, first.shape[first.dim]
        if value.op in (aten.layer_norm.default, aten.rms_norm.default):
            return dim if dim < rank - len(value.args[1]) else None
        if value.op is aten.linear.default:
            return dim if dim < rank - 1 else None
        if value.op is aten.permute.default:
            return list(value.args[1]).index(dim)
        if value.op is aten.select.int:
            gone = value.args[1] % len(first.shape)
            return None if gone == dim else dim - (gone < dim)
        if value.op is aten.slice.Tensor:
            return None if value.args[1] % rank == dim else dim
        if value.op is aten.reshape.default:
            before = prod(first.shape[:dim])
            found = [
                i for i in range(rank) if value.shape[i] == size and prod(value.shape[:i]) == before
            ]
            return found[0] if found else None
        return None

    def _both(self, value: Value, dim: int) -> _Pair:
        """The operator on each part."""
        pair = next(self.pairs[ref] for ref in value.refs() if ref in self.pairs)
        places = []
        for start, stop in ((0, pair.count), (pair.count, value.shape[dim])):
            args, kwargs = self._arguments(value, dim, start, stop)
            shape = [*value.shape]
            shape[dim] = stop - start
            if value.op is aten.reshape.default:
                args = (args[0], shape)
            made = self.new.add(
                value.op,
                args,
                kwargs,
                shape=tuple(shape),
                dtype=value.dtype,
                layer=value.layer,
                part=value.part,
            )
            places.append(made.index)
        return _Pair(places[0], places[1], dim, pair.count, value.shape)

    def _arguments(self, value: Value, dim: int, start: int, stop: int) -> Any:
        """Arguments of one part."""

        def part(index: int) -> Ref:
            pair = self.pairs.get(index)
            if pair is not None:
                return Ref(pair.few if start == 0 else pair.grid)
            item = self.old.values[index]
            at = len(item.shape) - (len(value.shape) - dim)
            if not is_elementwise(value.op) or at < 0 or item.shape[at] == 1:
                return Ref(self.place[index])
            return self._cut(item, at, start, stop)

        return mapped((value.args, value.kwargs), part)

    def _cut(self, item: Value, dim: int, start: int, stop: int) -> Ref:
        """Some entries of a value that has no parts."""
        if item.constant is not None and not item.constant.requires_grad:
            return Ref(self._constant(item.constant.narrow(dim, start, stop - start), item.layer))
        shape = [*item.shape]
        shape[dim] = stop - start
        args = (Ref(self.place[item.index]), dim, start, stop, 1)
        return Ref(self._add(aten.slice.Tensor, args, item, shape))

    def _takes_part(self, value: Value) -> bool:
        """A slice or an entry of only one part is taken from that part."""
        pair = self.pairs[value.refs()[0]]
        size = pair.shape[pair.dim]
        span = _span(value, size)
        if value.args[1] % len(pair.shape) != pair.dim or span is None:
            return False
        start, stop = span
        if start < pair.count < stop:
            return False
        source, shift = (pair.few, 0) if stop <= pair.count else (pair.grid, pair.count)
        if value.op is aten.select.int:
            args: tuple[Any, ...] = (Ref(source), pair.dim, start - shift)
        elif stop - start == self.new.values[source].shape[pair.dim]:
            self.place[value.index] = source
            return True
        else:
            args = (Ref(source), pair.dim, start - shift, stop - shift, 1)
        self.place[value.index] = self._add(value.op, args, value, value.shape)
        return True

    def _attention(self, value: Value) -> _Pair | None:
        """Each part asks the keys of both."""
        refs, rank = value.refs(), len(value.shape)
        query, key, val = (self.pairs.get(ref) for ref in refs[:3])
        if query is None or key is None or val is None or not is_usual_attention(value):
            return None
        if any(pair.dim != rank - 2 for pair in (query, key, val)):
            return None
        both = [[Ref(pair.few), Ref(pair.grid)] for pair in (key, val)]
        ends = (query.few, 0, query.count), (query.grid, query.count, value.shape[-2])
        places = []
        for part, start, stop in ends:
            args = [Ref(part), *both, value.kwargs.get("scale"), *self._mask(refs[3:], start, stop)]
            shape = (*value.shape[:-2], stop - start, value.shape[-1])
            places.append(self._add(attend_both, args, value, shape))
        return _Pair(places[0], places[1], rank - 2, query.count, value.shape)

    def _mask(self, refs: Sequence[int], start: int, stop: int) -> list[Ref]:
        """What the mask, if there is one, says to some of the queries."""
        masks = [self.old.values[ref] for ref in refs]
        return [
            Ref(self.place[mask.index])
            if mask.shape[-2] == 1
            else self._cut(mask, len(mask.shape) - 2, start, stop)
            for mask in masks
        ]


def _span(value: Value, size: int) -> tuple[int, int] | None:
    """First and one past the last entry that a slice or selection takes; none if it has steps."""
    if value.op is aten.select.int:
        start = value.args[2] % size
        return start, start + 1
    named = dict(zip(("input", "dim", "start", "end", "step"), value.args, strict=False))
    start, stop, step = named.get("start") or 0, named.get("end"), named.get("step", 1)
    stop = size if stop is None else min(size, stop)
    return (start, stop) if step == 1 and min(start, stop) >= 0 else None
