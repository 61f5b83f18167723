"""Scores by size of object: connected pixels of one class, small ones apart from large ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.geometry import Size, Window
from wholescene.labels import ClassTable
from wholescene.raster.read import LabelReader

__all__ = [
    "ObjectTable",
    "SizeBin",
    "check_sizes",
    "object_table",
    "object_tables",
    "score_counts",
    "score_sizes",
    "size_counts",
    "size_terciles",
]

STRIP_PIXELS = 1 << 24
FOUND_SHARE = 0.5

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ObjectTable:
    """Objects of one class in one or more scenes.

    Args:
        sizes: Pixels of each true object.
        hits: Of these, those mapped as the class.
        mapped_sizes: Labelled pixels of each mapped object.
        false: Of these, those of another class.
    """

    sizes: Ints
    hits: Ints
    mapped_sizes: Ints
    false: Ints

    def __add__(self, other: ObjectTable) -> ObjectTable:
        return ObjectTable(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in ("sizes", "hits", "mapped_sizes", "false")
            )
        )


@dataclass(frozen=True)
class SizeBin:
    """Scores of objects of some sizes.

    Args:
        smallest: Smallest size that counts, px.
        largest: Largest; ``None`` for no limit.
        objects: True objects.
        found: Share of them of which at least half was mapped as the class; ``None`` without any.
        recall: Share of their pixels that was; ``None`` without any.
        iou: Their pixels that were mapped as the class, divided by these, those that were not, and
            the false pixels of mapped objects of these sizes; ``None`` if all are none.
    """

    smallest: int
    largest: int | None
    objects: int
    found: float | None
    recall: float | None
    iou: float | None


def object_table(
    label: str | Path, label_map: str | Path, classes: ClassTable, name: str
) -> ObjectTable:
    """Find the objects of one class in a scene; as :func:`object_tables`."""
    return object_tables(label, label_map, classes, (name,))[name]


def object_tables(
    label: str | Path, label_map: str | Path, classes: ClassTable, names: Sequence[str]
) -> dict[str, ObjectTable]:
    """Find the objects of some classes in one scene.

    Objects are pixels that touch by sides or corners. Pixels that are ignored in the label are in
    no object, neither true nor mapped.

    Args:
        label: Label raster.
        label_map: Map of the same size.
        classes: Classes of both.
        names: The classes to find.

    Returns:
        The objects by class.

    Raises:
        InputError: If a class is unknown, or the rasters differ in size.
        LabelError: If an id is in no class.
        RasterError: If a file cannot be read.
    """
    for name in names:
        if name not in classes.names:
            raise InputError(f"no class {name!r}; the classes are {', '.join(classes.names)}")
    # What a map leaves empty is no object.
    with LabelReader(label, classes) as truth, LabelReader(label_map, classes) as found:
        if truth.size != found.size:
            raise InputError(
                f"{label} has {truth.size}, its map {label_map} has {found.size}; objects can be "
                "compared on one grid only"
            )
        runs = {name: (_Runs(truth.size), _Runs(truth.size)) for name in names}
        for window in _strips(truth.size):
            labels, maps = truth.read(window), found.read(window)
            for name, (true, mapped) in runs.items():
                index = classes.names.index(name)
                is_true, is_mapped = labels == index, (maps == index) & (labels >= 0)
                true.add(window.row_off, is_true, is_mapped)
                mapped.add(window.row_off, is_mapped, ~is_true)
    return {
        name: ObjectTable(*true.objects(), *mapped.objects())
        for name, (true, mapped) in runs.items()
    }


def size_terciles(sizes: Ints) -> tuple[int, int]:
    """Largest sizes of the smallest and of the middle third of objects.

    Raises:
        InputError: If there are fewer than three objects.
    """
    if sizes.size < 3:
        raise InputError(f"{sizes.size} objects are too few for three groups by size")
    low, high = np.quantile(sizes, (1 / 3, 2 / 3), method="inverted_cdf")
    return int(low), int(high)


def score_sizes(table: ObjectTable, edges: Sequence[int]) -> list[SizeBin]:
    """Scores of groups of objects by size.

    Args:
        table: Objects of one class.
        edges: Largest size of each group but the last, rising, px.

    Raises:
        InputError: If the edges do not rise.
    """
    return score_counts(size_counts(table, edges), edges)


def size_counts(table: ObjectTable, edges: Sequence[int]) -> Ints:
    """Counts that the scores of groups follow from; those of scenes add up.

    Args:
        table: Objects of one class.
        edges: As for :func:`score_sizes`.

    Returns:
        (5, groups): objects, those found, their pixels, those mapped as the class, and false
        pixels of mapped objects of these sizes.

    Raises:
        InputError: If the edges do not rise.
    """
    check_sizes(edges)
    true, mapped = (
        np.searchsorted(np.array(edges, np.int64), sizes, side="left")
        for sizes in (table.sizes, table.mapped_sizes)
    )
    is_found = table.hits >= FOUND_SHARE * table.sizes
    counts = np.zeros((5, len(edges) + 1), np.int64)
    for row, values in enumerate((np.ones_like(true), is_found, table.sizes, table.hits)):
        np.add.at(counts[row], true, values)
    np.add.at(counts[4], mapped, table.false)
    return counts


def score_counts(counts: Ints, edges: Sequence[int]) -> list[SizeBin]:
    """Scores of groups of objects from :func:`size_counts`."""
    bounds = zip([1, *(edge + 1 for edge in edges)], [*edges, None], strict=True)
    return [
        SizeBin(
            smallest=smallest,
            largest=largest,
            objects=objects,
            found=found / objects if objects else None,
            recall=hits / pixels if pixels else None,
            iou=hits / (pixels + false) if pixels + false else None,
        )
        for (smallest, largest), (objects, found, pixels, hits, false) in zip(
            bounds, counts.T.tolist(), strict=True
        )
    ]


def check_sizes(edges: Sequence[int]) -> None:
    """Refuse sizes that do not separate groups.

    Raises:
        InputError: If they do not rise from above 0.
    """
    if any(a >= b for a, b in zip((0, *edges), edges, strict=False)):
        raise InputError(
            f"object sizes {', '.join(map(str, edges))} do not rise from above 0; give the largest "
            "size of each group but the last, in pixels, the smallest first, such as "
            "--object-sizes 32,96"
        )


def _strips(size: Size) -> Iterator[Window]:
    rows = max(1, STRIP_PIXELS // size.width)
    for top in range(0, size.height, rows):
        height = min(rows, size.height - top)
        yield Window(row_off=top, col_off=0, height=height, width=size.width)


class _Runs:
    """Runs of pixels along rows, joined into objects; memory grows with runs, not with pixels."""

    def __init__(self, size: Size) -> None:
        self._width = size.width
        self._rows: list[Ints] = []
        self._starts: list[Ints] = []
        self._stops: list[Ints] = []
        self._marked: list[Ints] = []

    def add(self, first_row: int, mask: NDArray[np.bool_], marks: NDArray[np.bool_]) -> None:
        """Take in rows of a mask, and count marked pixels in its runs."""
        padded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
        steps = np.diff(padded, axis=1)
        rows, starts = np.nonzero(steps == 1)
        stops = np.nonzero(steps == -1)[1]
        sums = np.zeros((mask.shape[0], self._width + 1), np.int64)
        np.cumsum(marks & mask, axis=1, out=sums[:, 1:])
        self._rows.append(rows + first_row)
        self._starts.append(starts)
        self._stops.append(stops)
        self._marked.append(sums[rows, stops] - sums[rows, starts])

    def objects(self) -> tuple[Ints, Ints]:
        """Pixels and marked pixels of each object."""
        rows, starts, stops, marked = (
            np.concatenate(parts) if parts else np.zeros(0, np.int64)
            for parts in (self._rows, self._starts, self._stops, self._marked)
        )
        roots = _join(rows.size, *self._touching(rows, starts, stops))
        _, numbers = np.unique(roots, return_inverse=True)
        count = int(numbers.max()) + 1 if numbers.size else 0
        sizes, hits = np.zeros(count, np.int64), np.zeros(count, np.int64)
        np.add.at(sizes, numbers, stops - starts)
        np.add.at(hits, numbers, marked)
        return sizes, hits

    def _touching(self, rows: Ints, starts: Ints, stops: Ints) -> tuple[Ints, Ints]:
        """Pairs of runs in neighbouring rows that touch by sides or corners."""
        span = self._width + 2
        here = rows * span
        # Runs of the row above that end at or behind this one's start, and start at or before its
        # end; runs are in order, so these follow each other.
        low = np.searchsorted(here + span + stops, here + starts, side="left")
        high = np.searchsorted(here + span + starts, here + stops, side="right")
        counts = np.maximum(high - low, 0)
        below = np.repeat(np.arange(rows.size), counts)
        before = np.concatenate([[0], np.cumsum(counts)[:-1]]) if counts.size else counts
        above = np.arange(below.size) - np.repeat(before, counts) + np.repeat(low, counts)
        return above, below


def _join(count: int, one: Ints, other: Ints) -> Ints:
    """Smallest member of each connected set: each takes its neighbours' smallest, then jumps."""
    roots = np.arange(count)
    while one.size:
        low = np.minimum(roots[one], roots[other])
        before = roots.copy()
        np.minimum.at(roots, one, low)
        np.minimum.at(roots, other, low)
        np.minimum.at(roots, before[one], low)
        np.minimum.at(roots, before[other], low)
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]
        if np.array_equal(roots, before):
            break
    return roots
