"""Which scenes show the same ground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wholescene.raster.footprint import Footprint, shared_area

__all__ = ["overlapping_pairs"]

Bounds = NDArray[np.float64]
"""West, south, east, north in degrees, shape (N, 4)."""


def overlapping_pairs(
    footprints: Sequence[Footprint], splits: Sequence[str]
) -> Iterator[tuple[int, int, float]]:
    """Find the pairs of scenes from different splits that show common ground.

    Bounding boxes are swept from west to east, so that thousands of scenes cost little; what
    remains is clipped exactly.

    Args:
        footprints: One per scene; those without a CRS are left out.
        splits: Split of each scene.

    Yields:
        Two positions, the lower first, and the share of the smaller scene they have in common.
    """
    kept = [i for i, each in enumerate(footprints) if each.lonlat is not None]
    if not kept:
        return
    bounds = np.array([_bounds(footprints[i]) for i in kept])
    _, codes = np.unique([splits[i] for i in kept], return_inverse=True)
    for a, b in _box_pairs(bounds, codes):
        first, second = sorted((kept[a], kept[b]))
        share = shared_area(footprints[first], footprints[second])
        if share > 0:
            yield first, second, share


def _bounds(footprint: Footprint) -> list[float]:
    outline = footprint.lonlat
    assert outline is not None
    return [*outline.min(axis=0).tolist(), *outline.max(axis=0).tolist()]


def _box_pairs(bounds: Bounds, codes: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Give pairs of boxes that meet and differ in code, each once."""
    owner = np.arange(len(bounds))
    wrapped = np.flatnonzero((bounds[:, 2] > 180) | (bounds[:, 0] < -180))
    # A scene beyond the antimeridian stands on both ends of the sweep.
    turn = np.where(bounds[wrapped, 2] > 180, -360.0, 360.0)[:, None] * np.array([1, 0, 1, 0])
    bounds = np.concatenate([bounds, bounds[wrapped] + turn])
    owner = np.concatenate([owner, wrapped])
    order = np.argsort(bounds[:, 0], kind="stable")
    bounds, owner = bounds[order], owner[order]
    stops = np.searchsorted(bounds[:, 0], bounds[:, 2], side="left")
    seen: set[tuple[int, int]] = set()
    for i, stop in enumerate(stops):
        later = slice(i + 1, max(i + 1, int(stop)))
        meets = (bounds[later, 1] < bounds[i, 3]) & (bounds[later, 3] > bounds[i, 1])
        meets &= codes[owner[later]] != codes[owner[i]]
        for j in owner[later][meets]:
            pair = (min(int(owner[i]), int(j)), max(int(owner[i]), int(j)))
            if pair not in seen:
                seen.add(pair)
                yield pair
