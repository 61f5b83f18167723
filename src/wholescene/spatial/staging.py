"""Which operators run region by region, and in which sweep over the scene they can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from wholescene.spatial.axis import AxisNeed, whole_need
from wholescene.spatial.graph import Graph, Ref, Value, copied, mapped
from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.rules import (
    Built,
    Expansion,
    Input,
    Needs,
    Reduction,
    Rule,
    build_rule,
)

__all__ = ["Kind", "Stage", "Staging", "assign"]


class Kind(StrEnum):
    """How a value comes about.

    Streamed and reduced values are computed region by region; small ones at once because they
    have no rows or columns; whole ones at once because their operator reads all of an input, for
    want of a rule or by its rule.
    """

    CONSTANT = "constant"
    IMAGE = "image"
    STREAMED = "streamed"
    REDUCED = "reduced"
    SMALL = "small"
    WHOLE = "whole"


@dataclass
class Stage:
    """How one value is computed.

    Args:
        kind: Region by region, summed over regions, or at once.
        layout: Where its rows and columns are.
        level: First sweep in which it can be computed (or completed); -1 before the first.
        rule: Rule of a streamed value.
        reduction: Reduction of a reduced value.
        kept_level: Sweep after which all of it is kept; ``None`` if it never is.
        last_level: Last sweep that reads it.
        is_gathered: Whether it is never held, but put together for its reader from its arguments.
    """

    kind: Kind
    layout: Layout
    level: int = 0
    rule: Rule | None = None
    reduction: Reduction | None = None
    kept_level: int | None = None
    last_level: int = 0
    is_gathered: bool = False

    @property
    def domain(self) -> Layout:
        """Layout whose regions are passed over to compute it."""
        return self.layout if self.reduction is None else self.reduction.domain

    @property
    def needs(self) -> tuple[Needs | None, ...]:
        """Rule of each argument."""
        return (self.rule or self.reduction).needs if self.rule or self.reduction else ()  # type: ignore[union-attr]

    @property
    def is_fallback(self) -> bool:
        """Whether it runs whole for want of a rule."""
        return self.kind is Kind.WHOLE and self.rule is None

    def grid(self, axis: Axis) -> int:
        """Entries passed over along an axis; 1 where it has none."""
        return self.domain.grid(axis) or 1


@dataclass
class Staging:
    """How all values are computed.

    Args:
        graph: The network, operators with statistics split into a sum and the rest.
        stages: One per value of the graph.
        num_sweeps: Passes over the scene.
    """

    graph: Graph = field(default_factory=Graph)
    stages: list[Stage] = field(default_factory=list)
    num_sweeps: int = 1

    def need(self, index: int, argument: int, ref: int, axis: Axis) -> AxisNeed | None:
        """What a value needs of an argument along an axis; ``None`` for all of it, complete."""
        ours, theirs = self.stages[index], self.stages[ref]
        needs = ours.needs[argument]
        if needs is None:
            return None
        if axis in needs:
            return needs[axis]
        return whole_need(theirs.layout.grid(axis) or 1, ours.grid(axis))


def assign(graph: Graph) -> Staging:
    """Assign every value a way to be computed and a sweep."""
    staging = Staging()
    place: dict[int, int] = {}
    for value in graph.values:
        is_image = value.index == graph.image
        ours = copied(value, staging.graph, place)
        place[value.index] = _lower(ours, staging, is_image=is_image)
    staging.graph.image, staging.graph.output = place[graph.image], place[graph.output]
    staging.num_sweeps = 1 + max(0, *(found.level for found in staging.stages))
    return staging


def _lower(value: Value, staging: Staging, *, is_image: bool = False) -> int:
    """Stage the last value of the graph, or what it expands to; gives the result's index."""
    if value.constant is not None:
        staging.stages.append(Stage(Kind.CONSTANT, Layout.plain(value.shape), level=-1))
        return value.index
    if is_image:
        staging.stages.append(Stage(Kind.IMAGE, Layout.image(value.shape)))
        return value.index
    inputs = [_input(ref, staging) for ref in value.refs()]
    built = build_rule(value, inputs)
    if isinstance(built, Expansion) and any(item.layout.is_spatial for item in inputs):
        return _expand(value, built, staging)
    staging.stages.append(_stage(value, built, inputs, staging))
    return value.index


def _input(ref: int, staging: Staging) -> Input:
    value, found = staging.graph.values[ref], staging.stages[ref]
    complete = found.kind not in (Kind.STREAMED, Kind.IMAGE)
    return Input(value.shape, found.layout, complete, value.dtype)


def _expand(value: Value, expansion: Expansion, staging: Staging) -> int:
    """Put simpler operators in the place of one."""
    staging.graph.values.pop()
    places: list[int] = []
    for operation in expansion.operations:
        args = mapped(operation.args, lambda i: Ref(i if i >= 0 else places[-1 - i]))
        ours = staging.graph.add(
            operation.op, args, {}, shape=operation.shape, dtype=operation.dtype, layer=value.layer
        )
        places.append(_lower(ours, staging))
    return places[-1]


def _stage(value: Value, built: Built, inputs: Sequence[Input], staging: Staging) -> Stage:
    found = [staging.stages[ref] for ref in value.refs()]
    if isinstance(built, Rule) and built.layout.is_spatial:
        level = max(_level_for(item) for item in _matched(found, built.needs))
        return Stage(Kind.STREAMED, built.layout, level, rule=built)
    spatial = any(item.layout.is_spatial for item in inputs)
    if isinstance(built, Reduction) and spatial:
        level = max(_level_for(item) for item in _matched(found, built.needs))
        return Stage(Kind.REDUCED, built.layout, level, reduction=built)
    level = max((item.level for item in found), default=-1)
    if not spatial:
        return Stage(Kind.SMALL, Layout.plain(value.shape), level)
    if isinstance(built, Rule) and not any(built.needs):
        return Stage(Kind.WHOLE, built.layout, max(level, 0), rule=built)
    return Stage(Kind.WHOLE, _cuttable(value.shape), max(level, 0))


def _matched(
    stages: Sequence[Stage], needs: Sequence[Needs | None]
) -> list[tuple[Stage, Needs | None]]:
    return list(zip(stages, needs, strict=True))


def _level_for(argument: tuple[Stage, Needs | None]) -> int:
    """First sweep in which a consumer that goes region by region can run."""
    found, needs = argument
    if found.kind is Kind.IMAGE or (found.kind is Kind.STREAMED and needs is not None):
        return found.level
    return found.level + 1


def _cuttable(shape: tuple[int, ...]) -> Layout:
    """Rows and columns of something computed whole: any cut is right, this one is usual."""
    return Layout.image(shape) if len(shape) == 4 else Layout.plain(shape)
