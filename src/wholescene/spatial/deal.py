"""How a network is dealt out to ranks: which rows of every value each computes and must be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from wholescene.errors import UnsupportedError
from wholescene.spatial.chance import is_random, scene_dropout
from wholescene.spatial.cuts import (
    Cuts,
    Route,
    Span,
    follow,
    pieces,
    proportional,
    rows_of,
    unlikeness,
)
from wholescene.spatial.graph import Value
from wholescene.spatial.halo import CONVOLUTIONS, Edges, find_edges
from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.rules import Needs, image_axes
from wholescene.spatial.staging import Kind, Stage, Staging

__all__ = ["Argument", "Deal", "Task", "deal"]


@dataclass(frozen=True)
class Argument:
    """A tensor a task takes.

    Args:
        ref: Index of the value.
        route: How its rows come to the ranks; ``None`` where all of it is on each rank.
        is_gathered: Whether the route brings all rows to every rank.
        layout: Where rows and columns of a whole tensor are, if it is cut here.
        rows: Per piece, rows of the whole tensor that are cut out.
        cols: Columns, likewise.
        fill: What lies beyond the scene.
    """

    ref: int
    route: Route | None = None
    is_gathered: bool = False
    layout: Layout | None = None
    rows: tuple[Span, ...] = ()
    cols: Span = (0, 1)
    fill: float = 0.0


@dataclass(frozen=True)
class Task:
    """One value, on one rank.

    Args:
        value: The operator.
        stage: Its rule.
        cuts: How its rows are dealt out; ``None`` where every rank computes all of it.
        pieces: This rank's rows, in parts that are computed one by one.
        arguments: What it takes.
        edges: Of a convolution whose inner rows this rank's own rows give.
    """

    value: Value
    stage: Stage
    cuts: Cuts | None
    pieces: tuple[Span, ...]
    arguments: tuple[Argument, ...]
    edges: Edges | None = None


@dataclass
class Deal:
    """A network, dealt out.

    Args:
        staging: The network.
        tasks: What is computed, in order.
        cuts: Per value, how its rows are dealt out; ``None`` where all of it is on each rank.
        by_height: Per number of rows, how the first value of that many is dealt out.
        learns: Per value, whether gradients go back through it.
        gathered: Values of which every rank is sent all.
        result: How the rows of the result come to be cut like the scene; ``None`` where all of it
            is on each rank.
    """

    staging: Staging
    tasks: list[Task] = field(default_factory=list)
    cuts: list[Cuts | None] = field(default_factory=list)
    by_height: dict[int, Cuts] = field(default_factory=dict)
    learns: list[bool] = field(default_factory=list)
    gathered: set[int] = field(default_factory=set)
    result: Route | None = None


def deal(staging: Staging, scene: Cuts, rank: int, *, learns_image: bool = False) -> Deal:
    """Deal a network out.

    Args:
        staging: The network.
        scene: How the rows of the scene are dealt out.
        rank: This one.
        learns_image: Whether gradients go back to the pixels.

    Raises:
        UnsupportedError: If an operator draws random numbers pixel by pixel.
    """
    found = Deal(staging)
    for value, stage in zip(staging.graph.values, staging.stages, strict=True):
        if stage.kind is Kind.CONSTANT:
            found.learns.append(value.constant is not None and value.constant.requires_grad)
            found.cuts.append(None)
        elif stage.kind is Kind.IMAGE:
            found.learns.append(learns_image)
            found.cuts.append(scene)
            found.by_height[scene[-1]] = scene
        else:
            _refuse_chance(value, found)
            found.learns.append(any(found.learns[ref] for ref in value.refs()))
            task = _task(value, stage, scene, rank, found)
            found.tasks.append(task)
            found.cuts.append(task.cuts if stage.kind is Kind.STREAMED else None)
            if task.cuts is not None:
                found.by_height.setdefault(task.cuts[-1], task.cuts)
    found.result = _result(scene, found)
    return found


def _result(scene: Cuts, found: Deal) -> Route | None:
    index = found.staging.graph.output
    cuts, layout = found.cuts[index], found.staging.stages[index].layout
    if cuts is None:
        return None
    width = layout.grid(Axis.COL) or 1
    if image_axes(layout) != (Axis.ROW, Axis.COL):
        return _everything(index, found)
    goal = proportional(scene, cuts[-1])
    wanted = tuple(((span,) if span[0] < span[1] else ()) for span in pairwise(goal))
    return Route(layout, cuts, wanted, (0, width))


def _refuse_chance(value: Value, found: Deal) -> None:
    spread = any(found.cuts[ref] is not None for ref in value.refs())
    random = is_random(value.op, value.args, value.kwargs)
    if random and value.op is not scene_dropout and spread:
        raise UnsupportedError(
            f"layer {value.layer!r}: {value.name} draws a random number for every pixel, which "
            "would depend on the ranks; use dropout or stochastic depth, or evaluate the module"
        )


def _task(value: Value, stage: Stage, scene: Cuts, rank: int, found: Deal) -> Task:
    size = stage.domain.grid(Axis.ROW)
    by_rule = stage.kind in (Kind.STREAMED, Kind.REDUCED)
    if not by_rule or size is None:
        arguments = [_whole(ref, k, stage, found, by_rule=by_rule) for k, ref in _numbered(value)]
        return Task(value, stage, None, ((0, 1),), tuple(arguments))
    needs = [
        needed[Axis.ROW]
        for needed, ref in zip(stage.needs, value.refs(), strict=True)
        if needed is not None and Axis.ROW in needed
    ]
    cuts = _cuts(value, stage, scene, found)
    parts = tuple(tuple(pieces(rows_of(cuts, r), needs)) for r in range(len(cuts) - 1))
    arguments = [_cut(ref, k, stage, found, parts, rank) for k, ref in _numbered(value)]
    edges = None
    if value.op in CONVOLUTIONS:
        edges = _edges(value, arguments, parts[rank], rank, found)
    return Task(value, stage, cuts, parts[rank], tuple(arguments), edges)


def _edges(
    value: Value, arguments: Sequence[Argument], spans: Sequence[Span], rank: int, found: Deal
) -> Edges | None:
    first, *rest = arguments
    sent_for = [argument for argument in rest if argument.route and not argument.route.is_idle]
    if first.route is None or first.is_gathered or first.route.is_idle or sent_for:
        return None
    if len(spans) != 1 or len(first.route.wanted[rank]) != 1:
        return None
    weight = found.staging.graph.values[value.refs()[1]].shape
    return find_edges(value, weight, first.route, spans[0], rank)


def _numbered(value: Value) -> list[tuple[int, int]]:
    return list(enumerate(value.refs()))


def _cuts(value: Value, stage: Stage, scene: Cuts, found: Deal) -> Cuts:
    """Cut like the argument whose cut is nearest to the scene's, the one computed last if in doubt.

    Windows are cut between windows, and what follows them would stay that uneven, up to the largest
    map. So what enlarges a map may be cut like an earlier one of that height instead: few rows
    are sent for it, and none for what both are joined in.
    """
    size = stage.grid(Axis.ROW)
    even = proportional(scene, size)
    dealt: list[tuple[int, Cuts]] = []
    enlarges = True
    for needed, ref in zip(stage.needs, value.refs(), strict=True):
        cuts = found.cuts[ref]
        if cuts is not None and needed is not None and Axis.ROW in needed:
            need = needed[Axis.ROW]
            enlarges &= need.num_out > need.num_in
            dealt.append((ref, follow(cuts, need)))
    options = [cuts for _, cuts in sorted(dealt, reverse=True)]
    if enlarges:
        options.append(found.by_height.get(size, even))
    return min(options, key=lambda cuts: unlikeness(cuts, even))


def _layout(ref: int, k: int, stage: Stage, found: Deal) -> Layout:
    adopted = stage.rule.adopted if stage.rule is not None else {}
    return adopted.get(k, found.staging.stages[ref].layout)


def _interval(needs: Needs, axis: Axis, span: Span, *, has_border: bool) -> Span:
    need = needs[axis]
    return need.need(*span) if has_border else need.clamped(*span)


def _fill(k: int, stage: Stage) -> float | None:
    return stage.rule.border.get(k) if stage.rule is not None else None


def _columns(layout: Layout, k: int, stage: Stage) -> Span:
    """Columns of an argument that all columns of the result need."""
    needs, width = stage.needs[k], layout.grid(Axis.COL) or 1
    if needs is None or Axis.COL not in needs:
        return 0, width
    full = (0, stage.grid(Axis.COL))
    return _interval(needs, Axis.COL, full, has_border=_fill(k, stage) is not None)


def _whole(ref: int, k: int, stage: Stage, found: Deal, *, by_rule: bool) -> Argument:
    """An argument of something that every rank computes."""
    layout = _layout(ref, k, stage, found)
    cols = _columns(layout, k, stage) if by_rule else (0, layout.grid(Axis.COL) or 1)
    fill = (_fill(k, stage) if by_rule else None) or 0.0
    rows = (0, layout.grid(Axis.ROW) or 1)
    return Argument(ref, _everything(ref, found), True, layout, (rows,), cols, fill)


def _everything(ref: int, found: Deal) -> Route | None:
    """Send all rows to every rank."""
    cuts = found.cuts[ref]
    if cuts is None:
        return None
    found.gathered.add(ref)
    layout = found.staging.stages[ref].layout
    wanted = (((0, cuts[-1]),),) * (len(cuts) - 1)
    return Route(layout, cuts, wanted, (0, layout.grid(Axis.COL) or 1))


def _cut(
    ref: int, k: int, stage: Stage, found: Deal, parts: Sequence[tuple[Span, ...]], rank: int
) -> Argument:
    """An argument of something whose rows are dealt out."""
    needs, layout = stage.needs[k], _layout(ref, k, stage, found)
    if needs is None:
        return Argument(ref, _everything(ref, found), is_gathered=True)
    fill = _fill(k, stage)
    cols = _columns(layout, k, stage)
    if Axis.ROW not in needs:
        rows = ((0, layout.grid(Axis.ROW) or 1),) * len(parts[rank])
        return Argument(ref, _everything(ref, found), True, layout, rows, cols, fill or 0.0)
    wanted = tuple(
        tuple(_interval(needs, Axis.ROW, span, has_border=fill is not None) for span in spans)
        for spans in parts
    )
    cuts = found.cuts[ref]
    if cuts is None:
        return Argument(ref, None, False, layout, wanted[rank], cols, fill or 0.0)
    return Argument(ref, Route(layout, cuts, wanted, cols, fill or 0.0))
