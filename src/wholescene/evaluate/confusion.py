"""The one state behind every score: how often a true class was mapped as which class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError, LabelError
from wholescene.labels import IGNORE_INDEX, ClassTable

__all__ = ["ConfusionTable"]

Counts = NDArray[np.int64]

# Pixels counted at once: bounds the int64 copy that bincount makes to 32 MiB.
_PIXELS_AT_ONCE = 1 << 22


class ConfusionTable:
    """Counts of pixels by true class (rows) and mapped class (columns), exact in int64.

    A pixel whose truth is ``IGNORE_INDEX`` counts only in ``ignored_pixels``. A pixel with a true
    class but no mapped one (map nodata) counts in ``unmapped`` of its true class: it belongs to
    the support, so it lowers recall, IoU and overall accuracy as any wrong pixel does.

    Args:
        classes: Classes of truth and map; index i is row i and column i.
        table: Counts to start from, (K, K); zeros if not given. Copied.
        unmapped: Pixels of each true class the map left empty, (K,); zeros if not given. Copied.
        ignored_pixels: Pixels without truth.

    Raises:
        InputError: If shapes do not fit the classes or a count is negative.

    Examples:
        >>> table = ConfusionTable(ClassTable.from_names(["land", "water"]))
        >>> table.add(np.array([0, 0, 1, -1]), np.array([0, 1, -1, 0]))
        >>> table.table.tolist(), table.unmapped.tolist(), table.ignored_pixels
        ([[1, 1], [0, 0]], [0, 1], 1)
    """

    __slots__ = ("classes", "ignored_pixels", "table", "unmapped")

    def __init__(
        self,
        classes: ClassTable,
        table: NDArray[np.integer] | None = None,
        *,
        unmapped: NDArray[np.integer] | None = None,
        ignored_pixels: int = 0,
    ) -> None:
        k = classes.num_classes
        self.classes = classes
        self.table = _counts(table, (k, k), "table")
        self.unmapped = _counts(unmapped, (k,), "unmapped")
        self.ignored_pixels = ignored_pixels
        if ignored_pixels < 0:
            raise InputError(f"ignored_pixels {ignored_pixels} is negative; counts start at 0")

    def add(self, truth: NDArray[np.integer], guess: NDArray[np.integer]) -> None:
        """Count the pixels of a block.

        Args:
            truth: True class indices, any shape; ``IGNORE_INDEX`` where unlabelled.
            guess: Mapped class indices, same shape; ``IGNORE_INDEX`` where the map has no data.

        Raises:
            InputError: If shapes differ.
            LabelError: If an index is no class.
        """
        if truth.shape != guess.shape:
            raise InputError(
                f"truth of shape {truth.shape} and map of shape {guess.shape} do not pair up; "
                "score windows of the same pixels"
            )
        truth, guess = truth.reshape(-1), guess.reshape(-1)
        for start in range(0, truth.size, _PIXELS_AT_ONCE):
            part = slice(start, start + _PIXELS_AT_ONCE)
            self._add_part(truth[part], guess[part])

    def _add_part(self, truth: NDArray[np.integer], guess: NDArray[np.integer]) -> None:
        k = self.classes.num_classes
        _check_indices(truth, k, "truth")
        _check_indices(guess, k, "map")
        # Row and column 0 take IGNORE_INDEX, which is -1.
        cell = (truth.astype(np.int64) + 1) * (k + 1) + (guess.astype(np.int64) + 1)
        counts = np.bincount(cell, minlength=(k + 1) ** 2).reshape(k + 1, k + 1)
        self.table += counts[1:, 1:]
        self.unmapped += counts[1:, 0]
        self.ignored_pixels += int(counts[0].sum())

    def __add__(self, other: ConfusionTable) -> ConfusionTable:
        if not isinstance(other, ConfusionTable):
            return NotImplemented
        if self.classes.ids != other.classes.ids or self.classes.names != other.classes.names:
            raise InputError(
                f"cannot add tables of classes {list(self.classes.names)} "
                f"and {list(other.classes.names)}; score all scenes with one class table"
            )
        return ConfusionTable(
            self.classes,
            self.table + other.table,
            unmapped=self.unmapped + other.unmapped,
            ignored_pixels=self.ignored_pixels + other.ignored_pixels,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConfusionTable):
            return NotImplemented
        return (
            self.classes == other.classes
            and np.array_equal(self.table, other.table)
            and np.array_equal(self.unmapped, other.unmapped)
            and self.ignored_pixels == other.ignored_pixels
        )

    __hash__ = None  # type: ignore[assignment]  # it is filled in place

    def __repr__(self) -> str:
        return (
            f"ConfusionTable({list(self.classes.names)}, {self.table.tolist()}, "
            f"unmapped={self.unmapped.tolist()}, ignored_pixels={self.ignored_pixels})"
        )

    @property
    def hits(self) -> Counts:
        """Pixels of each class mapped as that class, (K,)."""
        return self.table.diagonal().copy()

    @property
    def support(self) -> Counts:
        """True pixels of each class, unmapped ones included, (K,)."""
        return np.asarray(self.table.sum(axis=1) + self.unmapped)

    @property
    def mapped(self) -> Counts:
        """Pixels with a true class that were mapped as each class, (K,)."""
        return np.asarray(self.table.sum(axis=0))

    @property
    def scored_pixels(self) -> int:
        """Pixels with a true class, mapped or not."""
        return int(self.support.sum())

    @property
    def unmapped_pixels(self) -> int:
        """Pixels with a true class the map left empty."""
        return int(self.unmapped.sum())

    def index(self, name: str) -> int:
        """Row of the class called ``name``.

        Raises:
            LabelError: If no class has this name.
        """
        if name not in self.classes.names:
            raise LabelError(f"no class is called {name!r}; classes are {list(self.classes.names)}")
        return self.classes.names.index(name)

    def without(self, *names: str) -> ConfusionTable:
        """Table as if the pixels of these true classes were unlabelled.

        The classes leave the table. Their pixels become ignored; pixels of other classes that
        were mapped as them stay wrong, so they join ``unmapped``.

        Raises:
            LabelError: If a name is no class, or no class would be left.
        """
        dropped = {self.index(name) for name in names}
        kept = [i for i in range(self.classes.num_classes) if i not in dropped]
        if not kept:
            raise LabelError(
                f"leaving out {list(names)} leaves no class to score; keep at least one"
            )
        lost = sorted(dropped)
        left = ClassTable(tuple(self.classes.classes[i] for i in kept), self.classes.ignore_id)
        return ConfusionTable(
            left,
            self.table[np.ix_(kept, kept)],
            unmapped=self.unmapped[kept] + self.table[np.ix_(kept, lost)].sum(axis=1),
            ignored_pixels=self.ignored_pixels + int(self.support[lost].sum()),
        )


def _counts(given: NDArray[np.integer] | None, shape: tuple[int, ...], what: str) -> Counts:
    if given is None:
        return np.zeros(shape, np.int64)
    counts = np.array(given, dtype=np.int64)
    if counts.shape != shape:
        raise InputError(
            f"{what} of shape {counts.shape} does not fit the classes; expected {shape}"
        )
    if (counts < 0).any():
        raise InputError(f"{what} holds a negative count {int(counts.min())}; counts start at 0")
    return counts


def _check_indices(indices: NDArray[np.integer], num_classes: int, what: str) -> None:
    low, high = int(indices.min()), int(indices.max())
    if low < IGNORE_INDEX or high >= num_classes:
        wrong = low if low < IGNORE_INDEX else high
        raise LabelError(
            f"{what} holds index {wrong}, but the {num_classes} classes have indices "
            f"0..{num_classes - 1} and {IGNORE_INDEX} is 'none'; turn raster ids into indices "
            "with ClassTable.to_index first"
        )
