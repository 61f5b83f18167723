"""Objects of every class by size, as counts that add up over scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.evaluate.objects import (
    check_sizes,
    object_tables,
    score_counts,
    size_counts,
)
from wholescene.labels import ClassTable

__all__ = ["SizeTable", "count_sizes", "group_name", "parse_sizes"]

Json = dict[str, Any]

COUNTS = ("objects", "found_objects", "pixels", "hits", "false")


@dataclass(frozen=True)
class SizeTable:
    """Counts of objects by class and group of sizes.

    Args:
        classes: Classes of truth and map.
        edges: Largest size of each group but the last, rising, px.
        counts: Of each class what :func:`~wholescene.evaluate.objects.size_counts` gives,
            (K, 5, groups).

    Raises:
        InputError: If counts of other classes or sizes are added.
    """

    classes: ClassTable
    edges: tuple[int, ...]
    counts: NDArray[np.int64]

    def __add__(self, other: SizeTable) -> SizeTable:
        if (self.classes, self.edges) != (other.classes, other.edges):
            raise InputError(
                f"objects were counted by sizes {list(self.edges)} and {list(other.edges)}, or of "
                "other classes; score all scenes alike"
            )
        return SizeTable(self.classes, self.edges, self.counts + other.counts)

    def to_json(self) -> Json:
        """Scores and counts of each class and group, as ``scores.json`` has them."""
        per_class = {}
        for name, counts in zip(self.classes.names, self.counts, strict=True):
            groups = zip(score_counts(counts, self.edges), counts.T.tolist(), strict=True)
            per_class[name] = [
                {**dict(zip(COUNTS, numbers, strict=True)), **asdict(scores)}
                for scores, numbers in groups
            ]
        return {"sizes": list(self.edges), "per_class": per_class}

    @classmethod
    def from_json(cls, stored: Json, classes: ClassTable) -> SizeTable:
        """Inverse of :meth:`to_json`."""
        rows = [stored["per_class"][name] for name in classes.names]
        counts = [[[group[key] for group in groups] for key in COUNTS] for groups in rows]
        return cls(classes, tuple(stored["sizes"]), np.array(counts, np.int64))


def count_sizes(
    label: str | Path, label_map: str | Path, classes: ClassTable, edges: Sequence[int]
) -> SizeTable:
    """Count the objects of every class in one scene by size.

    Args:
        label: Label raster.
        label_map: Map of the same size.
        classes: Classes of both.
        edges: Largest size of each group but the last, rising, px.

    Raises:
        InputError: If sizes do not rise, or the rasters differ in size.
        LabelError: If an id is in no class.
        RasterError: If a file cannot be read.
    """
    check_sizes(edges)
    tables = object_tables(label, label_map, classes, classes.names)
    counts = np.stack([size_counts(tables[name], edges) for name in classes.names])
    return SizeTable(classes, tuple(edges), counts)


def parse_sizes(text: str | None) -> tuple[int, ...] | None:
    """Read ``"32,96"``; nothing stays nothing.

    Raises:
        InputError: If a size is no whole number, or sizes do not rise.
    """
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not (word.isascii() and word.isdigit())]
    if wrong:
        raise InputError(
            f"object sizes {text!r}: {wrong[0]!r} is no whole number of pixels; give the largest "
            "size of each group but the last, such as --object-sizes 32,96"
        )
    sizes = tuple(int(word) for word in words)
    check_sizes(sizes)
    return sizes


def group_name(group: Json) -> str:
    """Sizes of a group in words.

    Examples:
        >>> group_name({"smallest": 33, "largest": 96})
        '33-96'
        >>> group_name({"smallest": 97, "largest": None})
        '97+'
    """
    largest = group["largest"]
    return f"{group['smallest']}+" if largest is None else f"{group['smallest']}-{largest}"
