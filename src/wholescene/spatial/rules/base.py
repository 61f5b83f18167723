"""What a rule is: which inputs a region of the output needs, and how to compute it from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wholescene.spatial.axis import AxisNeed, identity_need
from wholescene.spatial.graph import Value, run_op
from wholescene.spatial.layout import Atom, Axis, Dim, Layout
from wholescene.spatial.regions import Enlarging, Joining

__all__ = [
    "Built",
    "Builder",
    "Expansion",
    "Input",
    "Local",
    "Needs",
    "Operation",
    "Reduction",
    "Rule",
    "arguments_of",
    "identities",
    "image_axes",
    "is_spatial",
    "same_op",
    "schema_arguments",
]

Needs = Mapping[Axis, AxisNeed]
Span = tuple[int, int]


@dataclass(frozen=True)
class Input:
    """A tensor an operator takes.

    Args:
        shape: Its whole shape.
        layout: Where its rows and columns are.
        is_complete: Whether all of it is known before the sweep: a constant, or a result of an
            earlier sweep.
        dtype: Type of its elements.
    """

    shape: tuple[int, ...]
    layout: Layout
    is_complete: bool = False
    dtype: torch.dtype = torch.float32


@dataclass
class Local:
    """One region of an operator's work.

    Args:
        tensors: Inputs in argument order: regions, or whole where the rule asks for that.
        out: Interval of the output along both axes; ``(0, 1)`` along one it does not have.
        needs: Rule of each input.
    """

    tensors: Sequence[Tensor]
    out: Mapping[Axis, Span]
    needs: Sequence[Needs | None]

    def span(self, which: int, axis: Axis) -> Span:
        """Interval of an input that is in ``tensors``."""
        needs = self.needs[which]
        assert needs is not None
        return needs[axis].clamped(*self.out[axis])


@dataclass(frozen=True)
class Rule:
    """An operator that can be computed region by region.

    Args:
        layout: Where rows and columns of the output are.
        needs: Per tensor argument, what an interval needs along each axis the argument shares with
            the output; ``None`` needs the whole tensor. Along an axis that only one of them has,
            all of it is needed.
        run: Computes exactly the region ``local.out``.
        adopted: Layouts of complete arguments that are cut like the others.
        border: What lies beyond the scene, for arguments that come with it.
        gather: How regions are put together from the arguments', if the operator only moves
            values; ``run`` gives the same.
    """

    layout: Layout
    needs: tuple[Needs | None, ...]
    run: Callable[[Local], Tensor]
    adopted: Mapping[int, Layout] = field(default_factory=dict)
    border: Mapping[int, float] = field(default_factory=dict)
    gather: Joining | Enlarging | None = None


class Reduction(ABC):
    """An operator that sums over the scene: regions come in, one small tensor comes out.

    Attributes:
        domain: Layout whose rows and columns are passed over.
        layout: Layout of the result.
        needs: Per tensor argument, what an interval of the domain needs; ``None`` for the whole.
        total: What the regions so far come to; ``None`` before the first.
        count: Entries so far, where that matters.
    """

    domain: Layout
    layout: Layout
    needs: tuple[Needs | None, ...]
    total: Tensor | None = None
    count: int = 0

    def start(self, total: Tensor | None = None, count: int = 0) -> None:
        """Forget all regions, or go on from where an earlier execution stopped."""
        self.total, self.count = total, count

    @abstractmethod
    def add(self, local: Local) -> None:
        """Take in the region ``local.out`` of the domain; each element comes exactly once."""

    def absorb(self, part: Tensor, count: int = 0) -> None:
        """Take in what other regions come to."""
        self.total = part if self.total is None else self.joined(self.total, part, count)
        self.count += count

    @abstractmethod
    def joined(self, total: Tensor, part: Tensor, count: int) -> Tensor:
        """What two sets of regions come to, as a new tensor; ``count`` is that of ``part``."""

    @abstractmethod
    def finish(self) -> Tensor:
        """Give the result over all regions."""


@dataclass(frozen=True)
class Operation:
    """One operator of an expansion.

    Args:
        op: Any callable on tensors.
        args: Arguments; ``Ref(-1 - k)`` is the k-th operator of the same expansion.
        shape: Shape of the result.
        dtype: Type of the result.
    """

    op: Any
    args: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Expansion:
    """An operator that is the same as several simpler ones; the last gives the result."""

    operations: tuple[Operation, ...]


Built = Rule | Reduction | Expansion | None
Builder = Callable[[Value, Sequence[Input]], Built]


def identities(layout: Layout) -> dict[Axis, AxisNeed]:
    """Each axis of a layout needs itself."""
    grids = {axis: layout.grid(axis) for axis in Axis}
    return {axis: identity_need(size) for axis, size in grids.items() if size is not None}


def is_spatial(dim: Dim) -> bool:
    """Whether a dimension holds rows or columns of the scene."""
    return any(atom.axis is not None for atom in dim)


def image_axes(layout: Layout, rank: int = 4) -> tuple[Axis | None, Axis | None] | None:
    """Axes that the last two of so many dimensions count along; ``None`` for a plain one.

    Gives nothing where the other dimensions are spatial, or an axis shares its dimension.
    """
    if len(layout.dims) != rank or any(is_spatial(dim) for dim in layout.dims[:-2]):
        return None
    found: list[Axis | None] = []
    for dim in layout.dims[-2:]:
        axis = next((atom.axis for atom in dim if atom.axis is not None), None)
        if axis is not None and not layout.is_alone(axis):
            return None
        found.append(axis)
    return found[0], found[1]


def image_layout(value: Value, layout: Layout, axes: Sequence[Axis | None]) -> Layout:
    """Layout of an image, or a stack of them, of another size with the same axes."""
    height, width = ((Atom(size, axis),) for size, axis in zip(value.shape[-2:], axes, strict=True))
    lead = ((Atom(size),) for size in value.shape[1:-2])
    return Layout((layout.dims[0], *lead, height, width))


def same_op(value: Value) -> Callable[[Local], Tensor]:
    """Run the operator itself on the local tensors."""
    refs = value.refs()

    def run(local: Local) -> Tensor:
        of = dict(zip(refs, local.tensors, strict=True))
        return run_op(value, of.__getitem__)

    return run


def arguments_of(value: Value, names: Sequence[str]) -> dict[str, Any]:
    """Arguments by name."""
    return {**dict(zip(names, value.args, strict=False)), **value.kwargs}


def schema_arguments(value: Value) -> dict[str, Any]:
    """All arguments of one of torch's operators by name, also those that were left out."""
    expected = value.op._schema.arguments
    left_out = {a.name: a.default_value for a in expected if a.has_default_value()}
    given = zip((a.name for a in expected), value.args, strict=False)
    return {**left_out, **dict(given), **value.kwargs}
