"""The cheapest set of values that separates what is computed from what is still needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["cheapest_cut"]

_START, _END = -1, -2
_ENDLESS = 1 << 62

Flow = dict[int, dict[int, int]]


def cheapest_cut(
    costs: Mapping[int, int],
    readers: Mapping[int, Sequence[int]],
    sources: Iterable[int],
    targets: Iterable[int],
) -> set[int]:
    """Vertices of least total cost on every path from a source to a target.

    Of equally cheap sets the one nearest to the targets is taken.

    Args:
        costs: Cost of each vertex.
        readers: Vertices that follow each vertex.
        sources: Where paths begin; they may be in the cut themselves.
        targets: Where paths end; likewise.
    """
    room: Flow = {_START: {}, _END: {}}
    for vertex, cost in costs.items():
        _edge(room, 2 * vertex, 2 * vertex + 1, cost)
        for reader in readers.get(vertex, ()):
            if reader in costs:
                _edge(room, 2 * vertex + 1, 2 * reader, _ENDLESS)
    for vertex in sources:
        _edge(room, _START, 2 * vertex, _ENDLESS)
    for vertex in targets:
        _edge(room, 2 * vertex + 1, _END, _ENDLESS)
    while path := _path(room):
        amount = min(room[a][b] for a, b in path)
        for a, b in path:
            room[a][b] -= amount
            room[b][a] += amount
    late = _reaching_end(room)
    return {vertex for vertex in costs if 2 * vertex + 1 in late and 2 * vertex not in late}


def _edge(room: Flow, start: int, stop: int, size: int) -> None:
    room.setdefault(start, {})[stop] = size
    room.setdefault(stop, {}).setdefault(start, 0)


def _path(room: Flow) -> list[tuple[int, int]]:
    """A shortest path with room left; empty if there is none."""
    came: dict[int, int] = {_START: _START}
    queue = deque([_START])
    while queue and _END not in came:
        here = queue.popleft()
        for there, left in room[here].items():
            if left > 0 and there not in came:
                came[there] = here
                queue.append(there)
    if _END not in came:
        return []
    path, there = [], _END
    while there != _START:
        path.append((came[there], there))
        there = came[there]
    return path


def _reaching_end(room: Flow) -> set[int]:
    found, queue = {_END}, deque([_END])
    while queue:
        there = queue.popleft()
        for here in room[there]:
            if room[here][there] > 0 and here not in found:
                found.add(here)
                queue.append(here)
    return found
