"""What the values of label masks stand for, looked up once for each run of equal pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import LabelError
from wholescene.labels import MAX_ID, ClassTable

__all__ = [
    "Color",
    "MaskCoding",
    "color_codes",
    "color_of",
    "count_runs",
    "find_runs",
]

Color = tuple[int, int, int]

_SHOWN = 5
_PIECE_PIXELS = 1 << 17


def find_runs(stored: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Neighbours of equal value, in the order of rows; a run may go on in the next row.

    Args:
        stored: At least one pixel, (bands, h, w).

    Returns:
        The value of each run, (bands, runs), and its number of pixels, (runs,).
    """
    flat = stored.reshape(len(stored), -1)
    changes = np.empty(flat.shape[1] - 1, bool)
    # Pieces that stay in the cache of a core; longer ones would wait for memory.
    for start in range(0, len(changes), _PIECE_PIXELS):
        part = changes[start : start + _PIECE_PIXELS]
        first, second = (flat[:, start + k : start + k + len(part)] for k in (0, 1))
        np.not_equal(first[0], second[0], out=part)
        for band in range(1, len(flat)):
            part |= first[band] != second[band]
    starts = np.concatenate(([0], np.flatnonzero(changes) + 1))
    return flat[:, starts], np.diff(starts, append=flat.shape[1])


def color_codes(colors: NDArray[np.uint8]) -> NDArray[np.int64]:
    """One number for red, green and blue, (3, n) to (n,)."""
    codes: NDArray[np.int64] = colors[0].astype(np.int64)
    for band in colors[1:]:
        codes <<= 8
        codes |= band
    return codes


def color_of(code: int) -> Color:
    """Red, green and blue of a number of ``color_codes``."""
    return code >> 16, code >> 8 & 255, code & 255


@dataclass(frozen=True)
class MaskCoding:
    """What the values of a mask stand for.

    Args:
        classes: Classes, and the id of ignored pixels.
        colors: Class id of every colour a mask of three bands may hold.
        ids: Class id of every value a mask of one band may hold; ``None`` takes values as ids.
        tolerance: How far each of red, green and blue may be off, for masks saved with loss.
    """

    classes: ClassTable
    colors: Mapping[Color, int]
    ids: Mapping[int, int] | None = None
    tolerance: int = 0

    @property
    def unknown(self) -> int:
        """Place of a value that stands for nothing: one behind that of ignored pixels."""
        return self.classes.num_classes + 1

    @cached_property
    def id_of_place(self) -> NDArray[np.unsignedinteger]:
        """What is written for each place: ids of the classes, the ignore id, anything."""
        ignored = self.classes.nodata_id
        return np.array([*self.classes.ids, ignored, ignored], self.classes.map_dtype)

    def places(self, numbers: NDArray[np.integer], *, are_colors: bool) -> NDArray[np.uint16]:
        """Index of the class of each value, behind them ignored, behind that ``unknown``.

        Args:
            numbers: Values of a mask, or numbers of ``color_codes``, (n,).
            are_colors: Which of the two.
        """
        if are_colors:
            return np.take(self._place_of_code, numbers)
        inside = (numbers >= 0) & (numbers <= MAX_ID)
        return np.where(inside, self._place_of_value[np.where(inside, numbers, 0)], self.unknown)

    def knows(self, values: set[int]) -> bool:
        """Whether every value of a one-band mask is known."""
        return values <= set(self._id_of_value)

    def refusal(self, found: Mapping[int, int], where: str, *, are_colors: bool) -> LabelError:
        """What to say of values that stand for nothing.

        Args:
            found: Pixels of each value, or of each number of ``color_codes``.
            where: File named in the error.
            are_colors: Which of the two.
        """
        common = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
        shown = [(color_of(v) if are_colors else v, count) for v, count in common]
        listed = ", ".join(f"{value} ({count} px)" for value, count in shown)
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        if are_colors:
            known = ", ".join(f"{color} {value}" for color, value in self.colors.items())
            return LabelError(
                f"{where}: colour {listed}{more} is in no class; known are (colour id) {known}. "
                "The file may be another kind of mask (instances, another dataset), or was saved "
                "with loss (JPEG) or resized"
            )
        return LabelError(
            f"{where}: value {listed}{more} stands for no class; known are "
            f"{sorted(self._id_of_value)}. The file may be another kind of mask, or follow the "
            "ids of another tool: see --layout"
        )

    @cached_property
    def _place_of_id(self) -> dict[int, int]:
        places = {value: place for place, value in enumerate(self.classes.ids)}
        if self.classes.ignore_id is not None:
            places[self.classes.ignore_id] = self.classes.num_classes
        return places

    @cached_property
    def _id_of_value(self) -> Mapping[int, int]:
        return {i: i for i in self._place_of_id} if self.ids is None else self.ids

    @cached_property
    def _place_of_value(self) -> NDArray[np.uint16]:
        lookup = np.full(MAX_ID + 1, self.unknown, np.uint16)
        for value, id_ in self._id_of_value.items():
            lookup[value] = self._place_of_id[id_]
        return lookup

    @cached_property
    def _place_of_code(self) -> NDArray[np.uint16]:
        lookup = np.full((256, 256, 256), self.unknown, np.uint16)
        for color, id_ in self.colors.items():
            off = self.tolerance
            near = tuple(slice(max(0, part - off), part + off + 1) for part in color)
            lookup[near] = self._place_of_id[id_]
        return lookup.ravel()


def count_runs(values: NDArray[Any], lengths: NDArray[np.intp]) -> Counter[int]:
    """Pixels of each value.

    Args:
        values: One number a run, (runs,).
        lengths: Pixels of each run, (runs,).
    """
    found, run_of = np.unique(values, return_inverse=True)
    pixels = np.bincount(run_of, weights=lengths).astype(int)
    return Counter(dict(zip(found.tolist(), pixels.tolist(), strict=True)))
