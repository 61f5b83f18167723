"""Sizes and windows in pixels of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wholescene.errors import InputError

__all__ = ["Size", "Window"]


class Size(NamedTuple):
    """Rows and columns, in this order."""

    height: int
    width: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.height} x {self.width} px"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Window:
    """A rectangle of pixels, in the vocabulary of rasterio.

    Args:
        row_off: First row; may be negative or beyond the scene.
        col_off: First column; likewise.
        height: Rows, >= 0.
        width: Columns, >= 0.
    """

    row_off: int
    col_off: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise InputError(f"a window of {self.height} x {self.width} px has a negative side")

    @classmethod
    def whole(cls, size: Size) -> Window:
        """Cover a scene of this size."""
        return cls(row_off=0, col_off=0, height=size.height, width=size.width)

    @classmethod
    def from_slices(cls, rows: slice, cols: slice) -> Window:
        """Take the rows ``rows.start:rows.stop`` and columns ``cols.start:cols.stop``."""
        height, width = rows.stop - rows.start, cols.stop - cols.start
        return cls(row_off=rows.start, col_off=cols.start, height=height, width=width)

    @property
    def size(self) -> Size:
        """Height and width."""
        return Size(self.height, self.width)

    @property
    def row_stop(self) -> int:
        """One past the last row."""
        return self.row_off + self.height

    @property
    def col_stop(self) -> int:
        """One past the last column."""
        return self.col_off + self.width

    @property
    def rows(self) -> slice:
        """Rows as a slice."""
        return slice(self.row_off, self.row_stop)

    @property
    def cols(self) -> slice:
        """Columns as a slice."""
        return slice(self.col_off, self.col_stop)

    @property
    def is_empty(self) -> bool:
        """Whether it holds no pixel."""
        return self.height == 0 or self.width == 0

    def intersect(self, other: Window) -> Window:
        """Pixels in both; an empty window where they do not meet."""
        row, col = max(self.row_off, other.row_off), max(self.col_off, other.col_off)
        return Window(
            row_off=row,
            col_off=col,
            height=max(0, min(self.row_stop, other.row_stop) - row),
            width=max(0, min(self.col_stop, other.col_stop) - col),
        )

    def relative_to(self, other: Window) -> Window:
        """Give the same pixels counted from the corner of ``other``."""
        return Window(
            row_off=self.row_off - other.row_off,
            col_off=self.col_off - other.col_off,
            height=self.height,
            width=self.width,
        )

    def grow(self, margin: int) -> Window:
        """Add ``margin`` pixels on every side."""
        return Window(
            row_off=self.row_off - margin,
            col_off=self.col_off - margin,
            height=self.height + 2 * margin,
            width=self.width + 2 * margin,
        )
