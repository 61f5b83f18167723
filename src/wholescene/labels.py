"""Class tables: which ids a label raster may hold, and what they mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import LabelError

__all__ = ["IGNORE_INDEX", "ClassTable", "LabelClass"]

IGNORE_INDEX = -1
"""Contiguous class index of pixels that neither train nor score."""

MAX_ID = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelClass:
    """One class of a label raster.

    Args:
        id: Value in the raster, 0 to 65,535; ids need not be contiguous.
        name: Human-readable name.
        color: Red, green, blue, each 0 to 255.
    """

    id: int
    name: str
    color: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not 0 <= self.id <= MAX_ID:
            raise LabelError(f"class id {self.id} ({self.name!r}) is outside 0..{MAX_ID}")
        if not self.name:
            raise LabelError(f"class id {self.id} has an empty name; give every class a name")
        if len(self.color) != 3 or not all(0 <= part <= 255 for part in self.color):
            raise LabelError(
                f"color {self.color} of class {self.name!r} is not three numbers in 0..255"
            )


@dataclass(frozen=True)
class ClassTable:
    """The ordered classes of a dataset, and the id that marks unlabelled pixels.

    Networks see contiguous indices ``0 .. num_classes - 1`` in this order and ``IGNORE_INDEX``;
    rasters hold ids. The two are never mixed.

    Args:
        classes: At least one class; ids and names unique.
        ignore_id: Id of pixels that neither train nor score; ``None`` if there is none. It may not
            be the id of a class.

    Raises:
        LabelError: If ids or names repeat, no class is given, or ``ignore_id`` is a class.

    Examples:
        >>> table = ClassTable.from_names(["land", "water"], ignore_id=255)
        >>> table.to_index(np.array([[0, 1, 255]]))
        array([[ 0,  1, -1]], dtype=int16)
    """

    classes: tuple[LabelClass, ...]
    ignore_id: int | None = None

    def __post_init__(self) -> None:
        if not self.classes:
            raise LabelError("a class table needs at least one class")
        for what, values in (("id", [*map(str, self.ids)]), ("name", [*self.names])):
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise LabelError(f"class {what} {', '.join(repeated)} stands more than once")
        if self.ignore_id is not None and not 0 <= self.ignore_id <= MAX_ID:
            raise LabelError(f"ignore_id {self.ignore_id} is outside 0..{MAX_ID}")
        if self.ignore_id in self.ids:
            raise LabelError(
                f"ignore_id {self.ignore_id} is also the id of class "
                f"{self.names[self.ids.index(self.ignore_id)]!r}; choose an id that is no class"
            )

    @classmethod
    def from_names(cls, names: Iterable[str], *, ignore_id: int | None = None) -> ClassTable:
        """Number ``names`` from 0 and give each a distinct colour."""
        classes = tuple(
            LabelClass(id=i, name=name, color=_spread_color(i)) for i, name in enumerate(names)
        )
        return cls(classes, ignore_id)

    @property
    def num_classes(self) -> int:
        """Number of classes, without the ignore id."""
        return len(self.classes)

    @property
    def ids(self) -> tuple[int, ...]:
        """Raster ids in index order."""
        return tuple(c.id for c in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in index order."""
        return tuple(c.name for c in self.classes)

    @property
    def colors(self) -> tuple[tuple[int, int, int], ...]:
        """Colours in index order."""
        return tuple(c.color for c in self.classes)

    @cached_property
    def nodata_id(self) -> int:
        """Id written where a map has no data: the ignore id, else 255, else the first free id."""
        if self.ignore_id is not None:
            return self.ignore_id
        candidates: tuple[int, ...] = (255, *range(MAX_ID + 1))
        return next(i for i in candidates if i not in self.ids)

    @property
    def map_dtype(self) -> str:
        """``"uint8"`` if every id a map may hold fits, else ``"uint16"``."""
        return "uint8" if max([*self.ids, self.nodata_id]) <= 255 else "uint16"

    def unknown_ids(self, ids: NDArray[np.integer]) -> dict[int, int]:
        """Ids in ``ids`` that are neither a class nor the ignore id, with their pixel counts."""
        values, counts = np.unique(ids, return_counts=True)
        known = {*self.ids, self.ignore_id}
        return {int(v): int(n) for v, n in zip(values, counts, strict=True) if int(v) not in known}

    def to_index(self, ids: NDArray[np.integer], *, where: str = "") -> NDArray[np.int16]:
        """Turn raster ids into contiguous indices, the ignore id into ``IGNORE_INDEX``.

        Args:
            ids: Raster ids, any shape, any integer dtype.
            where: File named in the error.

        Returns:
            Indices, int16, the shape of ``ids``.

        Raises:
            LabelError: If an id is in no class and is not the ignore id.
        """
        if ids.size == 0:
            return np.zeros(ids.shape, np.int16)
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high > MAX_ID:
            raise self._unknown(ids, where)
        indices: NDArray[np.int16] = self._index_of_id[ids]
        if (indices == _UNKNOWN).any():
            raise self._unknown(ids, where)
        return indices

    def to_ids(self, indices: NDArray[np.integer]) -> NDArray[np.unsignedinteger]:
        """Turn contiguous indices into raster ids; ``IGNORE_INDEX`` becomes ``nodata_id``."""
        # The last entry serves index -1.
        ids: NDArray[np.unsignedinteger] = np.array([*self.ids, self.nodata_id], self.map_dtype)
        return np.asarray(ids[indices])

    @cached_property
    def _index_of_id(self) -> NDArray[np.int16]:
        lookup = np.full(MAX_ID + 1, _UNKNOWN, np.int16)
        lookup[list(self.ids)] = np.arange(self.num_classes)
        if self.ignore_id is not None:
            lookup[self.ignore_id] = IGNORE_INDEX
        return lookup

    def _unknown(self, ids: NDArray[np.integer], where: str) -> LabelError:
        found = self.unknown_ids(ids)
        listed = ", ".join(f"{i} ({n} px)" for i, n in list(found.items())[:10])
        return LabelError(
            f"{where or 'labels'}: id {listed} in no class; known are {list(self.ids)} and "
            f"ignore_id {self.ignore_id}. Add the class to 'classes' in dataset.yaml, or set "
            "'ignore_id' if these pixels are unlabelled."
        )


_UNKNOWN = -2


def _spread_color(index: int) -> tuple[int, int, int]:
    """Give a colour far from its neighbours, by bit reversal of the index (as Pascal VOC does)."""
    rgb = [0, 0, 0]
    value = index + 1
    for bit in range(8):
        for channel in range(3):
            rgb[channel] |= ((value >> channel) & 1) << (7 - bit)
        value >>= 3
    return rgb[0], rgb[1], rgb[2]
