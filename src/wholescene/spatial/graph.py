"""A network as a list of tensor operations with concrete shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

__all__ = ["Graph", "Ref", "Value", "mapped", "run_op"]


@dataclass(frozen=True, slots=True)
class Ref:
    """An argument that is another value."""

    index: int


@dataclass(slots=True)
class Value:
    """One tensor of the network.

    Args:
        index: Position in the graph.
        op: Operator; ``None`` for the image and constants.
        args: Positional arguments, with :class:`Ref` in place of tensors.
        kwargs: Keyword arguments, likewise.
        shape: Concrete shape.
        dtype: Type of the elements.
        layer: Dotted name of the module it comes from.
        constant: The tensor itself if it does not depend on the image and is small enough to keep.
        part: Which result it is, of an operator that has several.
    """

    index: int
    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: tuple[int, ...]
    dtype: torch.dtype
    layer: str = ""
    constant: Tensor | None = None
    part: int | None = None

    @property
    def name(self) -> str:
        """Operator without its namespace and overload."""
        if self.op is None:
            return "input"
        return str(getattr(self.op, "__name__", self.op)).removeprefix("aten.").split(".")[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return prod(self.shape) * self.dtype.itemsize

    def refs(self) -> list[int]:
        """Values it is computed from, in argument order, repeated where used twice."""
        return [ref.index for ref in _refs((self.args, self.kwargs))]


@dataclass(slots=True)
class Graph:
    """Values in an order in which they can be computed.

    Args:
        values: The values; ``values[i].index == i``.
        image: Index of the input.
        output: Index of the result.
    """

    values: list[Value] = field(default_factory=list)
    image: int = 0
    output: int = 0

    def add(self, op: Any, args: Sequence[Any], kwargs: dict[str, Any], **facts: Any) -> Value:
        """Append a value."""
        value = Value(len(self.values), op, tuple(args), kwargs, **facts)
        self.values.append(value)
        return value

    def uses(self) -> list[list[int]]:
        """For each value, the values computed from it."""
        found: list[list[int]] = [[] for _ in self.values]
        for value in self.values:
            for ref in dict.fromkeys(value.refs()):
                found[ref].append(value.index)
        return found

    def pruned(self) -> Graph:
        """The same without values that the output does not depend on."""
        needed = {self.output, self.image}
        for value in reversed(self.values):
            if value.index in needed:
                needed.update(value.refs())
        place = {old: new for new, old in enumerate(sorted(needed))}
        kept = Graph(image=place[self.image], output=place[self.output])
        for old in place:
            copied(self.values[old], kept, place)
        return kept


def copied(value: Value, into: Graph, place: dict[int, int]) -> Value:
    """Append a copy of a value, its arguments at their new places."""
    args, kwargs = mapped((value.args, value.kwargs), lambda index: Ref(place[index]))
    return into.add(
        value.op,
        args,
        kwargs,
        shape=value.shape,
        dtype=value.dtype,
        layer=value.layer,
        constant=value.constant,
        part=value.part,
    )


def run_op(value: Value, tensor_of: Callable[[int], Tensor]) -> Tensor:
    """Compute a value from tensors in place of its arguments."""
    args, kwargs = mapped((value.args, value.kwargs), tensor_of)
    result = value.op(*args, **kwargs)
    return result if value.part is None else result[value.part]  # type: ignore[no-any-return]


def mapped(item: Any, of: Callable[[int], Any]) -> Any:
    """Replace every reference in nested arguments."""
    if isinstance(item, Ref):
        return of(item.index)
    if isinstance(item, dict):
        return {key: mapped(part, of) for key, part in item.items()}
    if isinstance(item, list | tuple):
        return type(item)(mapped(part, of) for part in item)
    return item


def _refs(item: Any) -> Iterator[Ref]:
    if isinstance(item, Ref):
        yield item
    elif isinstance(item, dict):
        for part in item.values():
            yield from _refs(part)
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _refs(part)
