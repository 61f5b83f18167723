"""What each sweep computes, and what it leaves for later ones.

A sweep computes what its sums and its results demand, from the image and from what earlier sweeps
kept. What later sweeps read of earlier layers is kept where that takes the fewest bytes: behind an
operator that is expensive, but before one that is cheap to repeat or has not run yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wholescene.spatial.constants import spread_constants
from wholescene.spatial.cut import cheapest_cut
from wholescene.spatial.fold import fold
from wholescene.spatial.fuse import fuse_attention
from wholescene.spatial.graph import Graph
from wholescene.spatial.layout import Axis
from wholescene.spatial.rules import image_axes
from wholescene.spatial.staging import Kind, Stage, Staging, assign
from wholescene.spatial.tokens import split_class_tokens

__all__ = ["Schedule", "Sweep", "schedule", "simplified"]

_EXPENSIVE = {
    "attend_both",
    "attend_in_chunks",
    "bmm",
    "conv2d",
    "conv_transpose2d",
    "convolve",
    "einsum",
    "linear",
    "matmul",
    "scaled_dot_product_attention",
}
"""Operators that are not repeated to save memory."""


@dataclass(frozen=True)
class Sweep:
    """One pass over the scene.

    Args:
        members: Values computed region by region, in order, and the image if it is read.
        keeps: Those of them that are kept whole for later sweeps.
    """

    members: tuple[int, ...]
    keeps: frozenset[int]


@dataclass(frozen=True)
class Schedule:
    """A network ready to be executed.

    Args:
        staging: How each value is computed.
        sweeps: The passes over the scene.
        folded_bytes: Bytes of weights that took over a norm; the module's own stay as they are.
    """

    staging: Staging
    sweeps: tuple[Sweep, ...]
    folded_bytes: int = 0

    @property
    def graph(self) -> Graph:
        """The network."""
        return self.staging.graph

    @property
    def stages(self) -> list[Stage]:
        """How each value is computed."""
        return self.staging.stages

    def read_by(self, index: int) -> Iterator[int]:
        """Values that a value reads, through those that are only put together for it."""
        for ref in self.graph.values[index].refs():
            yield ref
            if self.stages[ref].is_gathered:
                yield from self.read_by(ref)

    def gives_result(self, level: int) -> bool:
        """Whether the result comes out in a sweep, region by region."""
        found = self.stages[self.graph.output]
        streams = found.kind in (Kind.STREAMED, Kind.IMAGE)
        return streams and found.level == level and found.kept_level is None

    def results(self, level: int) -> list[int]:
        """Values for whose sake a sweep is made, besides those it keeps."""
        found = _sums(self.staging, level)
        return [index for index in found if self.stages[index].kept_level is None]


def schedule(graph: Graph) -> Schedule:
    """Decide how a network is executed."""
    given = simplified(graph)
    folded = fold(given)
    staging = assign(folded)
    known = _constants(given)
    added = sum(size for place, size in _constants(folded).items() if place not in known)
    return Schedule(staging, tuple(_sweeps(staging)), added)


def simplified(graph: Graph) -> Graph:
    """The same network, in the operators that have rules."""
    return spread_constants(fuse_attention(split_class_tokens(graph)))


def _constants(graph: Graph) -> dict[int, int]:
    """Bytes of each constant by its place in memory."""
    known = [value.constant for value in graph.values if value.constant is not None]
    return {tensor.data_ptr(): tensor.nbytes for tensor in known}


def _sweeps(staging: Staging) -> list[Sweep]:
    """Decide what each sweep computes and keeps, and until when; notes it in the stages."""
    kept: set[int] = set()
    expensive: set[int] = set()
    sweeps = []
    for level in range(staging.num_sweeps):
        forced = _forced(staging, level)
        demanded = _closure(staging, [*_sums(staging, level), *forced], kept)
        expensive |= {i for i in demanded if staging.graph.values[i].name in _EXPENSIVE}
        chosen = _chosen(staging, level, kept | forced, expensive) | forced
        members = _closure(staging, [*_sums(staging, level), *chosen], kept)
        keeps = (chosen & members) - kept
        sweeps.append(Sweep(tuple(sorted(members)), frozenset(keeps)))
        kept |= keeps
    _note(staging, sweeps)
    return sweeps


def _sums(staging: Staging, level: int) -> list[int]:
    """Sums that end with this sweep, and the result if it comes out in it."""
    found = [i for i, s in enumerate(staging.stages) if s.kind is Kind.REDUCED and s.level == level]
    result = staging.graph.output
    streams = staging.stages[result].kind in (Kind.STREAMED, Kind.IMAGE)
    return [*found, result] if streams and staging.stages[result].level == level else found


def _forced(staging: Staging, level: int) -> set[int]:
    """Streamed values of this sweep that something wants whole."""
    wanted = set()
    for value, ours in zip(staging.graph.values, staging.stages, strict=True):
        for k, ref in enumerate(value.refs()):
            theirs = staging.stages[ref]
            if theirs.kind is Kind.STREAMED and theirs.level == level:
                whole = ours.kind is Kind.WHOLE or (ours.needs and ours.needs[k] is None)
                wanted |= {ref} if whole else set()
    result = staging.stages[staging.graph.output]
    if result.kind is Kind.STREAMED and result.level == level and not _is_image(staging):
        wanted.add(staging.graph.output)
    return wanted


def _is_image(staging: Staging) -> bool:
    layout = staging.stages[staging.graph.output].layout
    return image_axes(layout) == (Axis.ROW, Axis.COL)


def _region_inputs(staging: Staging, index: int) -> list[int]:
    """Arguments that are read region by region and computed so."""
    needs = staging.stages[index].needs
    return [
        ref
        for k, ref in enumerate(staging.graph.values[index].refs())
        if needs
        and needs[k] is not None
        and staging.stages[ref].kind in (Kind.STREAMED, Kind.IMAGE)
    ]


def _closure(staging: Staging, wanted: Iterable[int], kept: set[int]) -> set[int]:
    """What must be computed for some values, given what is kept."""
    found: set[int] = set()
    todo = [index for index in wanted if index not in kept]
    while todo:
        index = todo.pop()
        if index not in found:
            found.add(index)
            todo.extend(ref for ref in _region_inputs(staging, index) if ref not in kept)
    return found


def _chosen(staging: Staging, level: int, kept: set[int], expensive: set[int]) -> set[int]:
    """Cheapest values to keep, so that later sweeps repeat nothing expensive."""
    targets: set[int] = set()
    readers: dict[int, list[int]] = {}
    for value, ours in zip(staging.graph.values, staging.stages, strict=True):
        for ref in _region_inputs(staging, value.index):
            readers.setdefault(ref, []).append(value.index)
            if ours.level > level >= staging.stages[ref].level:
                targets.add(ref)
    costs = {
        value.index: value.num_bytes
        for value, found in zip(staging.graph.values, staging.stages, strict=True)
        if found.kind is Kind.STREAMED and found.level <= level and value.index not in kept
    }
    return cheapest_cut(costs, readers, expensive & costs.keys(), targets & costs.keys())


def _note(staging: Staging, sweeps: list[Sweep]) -> None:
    """Note in the stages what is kept, the last sweep that reads it, and what is never held."""
    for level, sweep in enumerate(sweeps):
        for index in sweep.keeps:
            staging.stages[index].kept_level = level
        for index in sweep.members:
            for ref in staging.graph.values[index].refs():
                staging.stages[ref].last_level = max(staging.stages[ref].last_level, level)
    for value, ours in zip(staging.graph.values, staging.stages, strict=True):
        if ours.kind in (Kind.SMALL, Kind.WHOLE):
            for ref in value.refs():
                staging.stages[ref].last_level = max(staging.stages[ref].last_level, ours.level)
    uses = staging.graph.uses()
    for value, found in zip(staging.graph.values, staging.stages, strict=True):
        found.is_gathered = (
            found.rule is not None
            and found.rule.gather is not None
            and found.kept_level is None
            and value.index != staging.graph.output
            and len(uses[value.index]) == 1
            and staging.stages[uses[value.index][0]].kind is Kind.STREAMED
        )
