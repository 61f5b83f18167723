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
from wholescene.spatial.rules.attention import attend_both
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
    learnt = bool(few) and all(item.constant is not None for item in few)
    return learnt and sum(v.shape[1] for v in few) <= _MOST_TOKENS and grid.constant is None


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
        tensors = [self.old.values[i].constant for i in few]
        joined = torch.cat([t for t in tensors if t is not None], 1)
        head = self._constant(joined, value.layer)
        return _Pair(head, self.place[grid], 1, joined.shape[1], value.shape)

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
            return None
        if value.op is aten.slice.Tensor and refs[0] in self.pairs and self._slice(value):
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

    def _both(self, value: Value, dim: int) -> _Pair | None:
        """The operator on each part."""
        pair = next(self.pairs[ref] for ref in value.refs() if ref in self.pairs)
        total = value.shape[dim]
        places = []
        for start, stop in ((0, pair.count), (pair.count, total)):
            args = self._arguments(value, dim, start, stop)
            if args is None:
                return None
            shape = [*value.shape]
            shape[dim] = stop - start
            if value.op is aten.reshape.default:
                args = ((args[0][0], shape), args[1])
            made = self.new.add(
                value.op,
                args[0],
                args[1],
                shape=tuple(shape),
                dtype=value.dtype,
                layer=value.layer,
                part=value.part,
            )
            places.append(made.index)
        return _Pair(places[0], places[1], dim, pair.count, value.shape)

    def _arguments(self, value: Value, dim: int, start: int, stop: int) -> Any:
        """Arguments of one part; ``None`` if one cannot be cut."""
        fails: list[int] = []

        def part(index: int) -> Ref:
            pair = self.pairs.get(index)
            if pair is not None:
                return Ref(pair.few if start == 0 else pair.grid)
            item = self.old.values[index]
            at = len(item.shape) - (len(value.shape) - dim)
            if not is_elementwise(value.op) or at < 0 or item.shape[at] == 1:
                return Ref(self.place[index])
            if item.constant is None:
                fails.append(index)
                return Ref(0)
            return Ref(self._constant(item.constant.narrow(at, start, stop - start), item.layer))

        found = mapped((value.args, value.kwargs), part)
        return None if fails else found

    def _slice(self, value: Value) -> bool:
        """A slice that takes only one part is that part."""
        pair = self.pairs[value.refs()[0]]
        dim, start, stop = (*value.args[1:4], *(0, 0, 1 << 62)[len(value.args) - 1 :])[:3]
        step = value.args[4] if len(value.args) > 4 else 1
        size = pair.shape[pair.dim]
        if dim % len(pair.shape) != pair.dim or step != 1:
            return False
        start, stop = start or 0, min(size, size if stop is None else stop)
        if min(start, stop) < 0 or start < pair.count < stop:
            return False
        source, shift = (pair.few, 0) if stop <= pair.count else (pair.grid, pair.count)
        if stop - start == self.new.values[source].shape[pair.dim]:
            self.place[value.index] = source
            return True
        args = (Ref(source), pair.dim, start - shift, stop - shift, 1)
        self.place[value.index] = self._add(aten.slice.Tensor, args, value, value.shape)
        return True

    def _attention(self, value: Value) -> _Pair | None:
        """Each part asks the keys of both."""
        refs = value.refs()
        pairs = [self.pairs[ref] for ref in refs if ref in self.pairs]
        rank = len(value.shape)
        usual = len(refs) == len(pairs) == 3 and all(pair.dim == rank - 2 for pair in pairs)
        if not usual or value.kwargs.get("is_causal") or len(value.args) > 3:
            return None
        query, key, val = pairs
        scale = value.kwargs.get("scale")
        places = []
        for part, size in ((query.few, query.count), (query.grid, value.shape[-2] - query.count)):
            shape = (*value.shape[:-2], size, value.shape[-1])
            args = (Ref(part), [Ref(key.few), Ref(key.grid)], [Ref(val.few), Ref(val.grid)], scale)
            places.append(self._add(attend_both, args, value, shape))
        return _Pair(places[0], places[1], rank - 2, query.count, value.shape)
