"""Large values that follow from the scene's size, not its pixels, computed region by region.

The mask of shifted windows has an entry for every two pixels of every window, more than the map
it belongs to. It is made from something of one entry per pixel; told where that has the windows,
the rules cut everything made from it like the scene itself.
"""

from __future__ import annotations

from wholescene.spatial.graph import Graph, Ref, copied
from wholescene.spatial.layout import Atom, Dim, Layout
from wholescene.spatial.rules.base import is_spatial
from wholescene.spatial.rules.shape import lay_out
from wholescene.spatial.staging import Staging, assign

__all__ = ["spread_constants"]


def spread_constants(graph: Graph) -> Graph:
    """The same network, constants too large to be computed beforehand cut like the scene."""
    unknown = _unknown_constants(graph)
    if not unknown:
        return graph
    before = assign(graph)
    chains = _chains(before)
    if not chains:
        return graph
    spread = _rewritten(before.graph, chains)
    return spread if _num_fallbacks(assign(spread)) <= _num_fallbacks(before) else graph


def _unknown_constants(graph: Graph) -> set[int]:
    """Values that do not depend on the image and were too large to be computed."""
    static: set[int] = set()
    for value in graph.values:
        if value.index != graph.image and all(ref in static for ref in value.refs()):
            static.add(value.index)
    return {index for index in static if graph.values[index].constant is None}


def _chains(staging: Staging) -> dict[int, Layout]:
    """Values to be cut, and how what reads them is."""
    graph = staging.graph
    unknown = _unknown_constants(graph)
    found: dict[int, Layout] = {}
    for value, stage in zip(graph.values, staging.stages, strict=True):
        refs = value.refs()
        adopted = stage.rule.adopted if stage.rule is not None else {}
        found |= {refs[k]: layout for k, layout in adopted.items() if refs[k] in unknown}
    for value in reversed(graph.values):
        if value.index in found:
            for ref in value.refs():
                if ref in unknown:
                    found.setdefault(ref, found[value.index])
    return found


def _rewritten(graph: Graph, chains: dict[int, Layout]) -> Graph:
    made = Graph()
    place: dict[int, int] = {}
    cut: dict[int, int] = {}
    for value in graph.values:
        if value.index in chains:
            for ref in value.refs():
                layout = _like(graph.values[ref].shape, chains[value.index])
                if ref not in chains and ref not in cut and layout.is_spatial:
                    facts = {"shape": layout.shape, "dtype": graph.values[ref].dtype}
                    args = (Ref(place[ref]), layout)
                    cut[ref] = made.add(lay_out, args, {}, layer=value.layer, **facts).index
        sources = {**place, **cut} if value.index in chains else place
        place[value.index] = copied(value, made, sources).index
    made.image, made.output = place[graph.image], place[graph.output]
    return made.pruned()


def _like(shape: tuple[int, ...], layout: Layout) -> Layout:
    """Dimensions as long as a dimension of the scene's count the same."""
    known = dict(zip(layout.shape, layout.dims, strict=True))
    dims: list[Dim] = []
    for size in shape:
        dim = known.pop(size, None)
        dims.append(dim if dim is not None and is_spatial(dim) else (Atom(size),))
    return Layout(tuple(dims))


def _num_fallbacks(staging: Staging) -> int:
    return sum(stage.is_fallback for stage in staging.stages)
