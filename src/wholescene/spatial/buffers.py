"""What is held of a streamed value while a sweep passes over the scene."""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene.spatial.layout import Layout
from wholescene.spatial.pool import pages
from wholescene.spatial.regions import (
    Source,
    Span,
    copy_region,
    cut_region,
    empty_region,
    inner_part,
    is_inside,
)
from wholescene.spatial.wave import AxisWave

__all__ = ["Rolling"]

Piece = tuple[Tensor, tuple[Span, Span]]


class Rolling(Source):
    """The rows and columns of a value that the step at hand and later ones still read.

    At step ``(i, j)`` they are rows ``[keep[i], breaks[i + 1])`` and likewise columns, in up to
    three pieces: a strip of rows above as wide as the scene, columns left by the step before, and
    the region computed in this one.
    """

    def __init__(
        self,
        index: int,
        layout: Layout,
        rows: AxisWave,
        cols: AxisWave,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(layout, dtype, device)
        self.rows, self.row_keep = rows.breaks[index], rows.keep[index]
        self.cols, self.col_keep = cols.breaks[index], cols.keep[index]
        self._above: Piece | None = None
        self._below: Piece | None = None
        self._left: Piece | None = None
        self._fresh: Piece | None = None
        self._rooms = _Rooms(device)

    def start_row(self, i: int, *, is_first: bool) -> None:
        """Begin a row of blocks.

        The rows above are missing from the first one of an execution that goes on from there; what
        they lead to is not used.
        """
        self._above, self._below = self._below, self._next_strip(i)
        if is_first and self.row_keep[i] < self.rows[i]:
            self._above = self._piece("lead", (self.row_keep[i], self.rows[i]), self.scene[1])
            self._above[0].zero_()
        self._left = None

    def put(self, i: int, j: int, fresh: Tensor | None) -> None:
        """Take in the region computed at step ``(i, j)``, ``None`` if it is empty."""
        self._fresh = None if fresh is None else (fresh, self._computed(i, j))

    def view(self, rows: Span, cols: Span) -> Tensor | None:
        """As for every source."""
        for tensor, held in self._pieces():
            if is_inside((rows, cols), held):
                return cut_region(tensor, self.layout, held, (rows, cols))
        return None

    def place(self, target: Tensor, rows: Span, cols: Span) -> None:
        """As for every source."""
        for tensor, held in self._pieces():
            copy_region(tensor, held, target, (rows, cols), self.layout)

    def pieces(self, rows: Span, cols: Span) -> list[tuple[Tensor, Span, Span]]:
        """As for every source."""
        found = []
        for tensor, held in self._pieces():
            common = inner_part((rows, cols), held)
            if all(first < last for first, last in common):
                part = cut_region(tensor, self.layout, held, common)
                found.append((part, common[0], common[1]))
        return found

    def release(self, i: int, j: int) -> None:
        """Save what later steps will read of the pieces, and let go of them."""
        super().release(i, j)
        rows, cols = self._computed(i, j)
        if self._below is not None:
            strip, into = self._below
            for part, *held in self.pieces(into[0], cols):
                copy_region(part, held, strip, into, self.layout)
        self._left = self._saved_left(j, rows, cols)
        self._fresh = None

    def close(self) -> None:
        """Give all memory back."""
        self._above = self._below = self._left = self._fresh = None
        self._rooms.close()

    def _computed(self, i: int, j: int) -> tuple[Span, Span]:
        return (self.rows[i], self.rows[i + 1]), (self.cols[j], self.cols[j + 1])

    def _pieces(self) -> list[Piece]:
        return [piece for piece in (self._fresh, self._above, self._left) if piece is not None]

    def _next_strip(self, i: int) -> Piece | None:
        """Room for the rows that the next row of blocks reads."""
        low, high = self.row_keep[i + 1], self.rows[i + 1]
        if low >= high or i + 2 >= len(self.rows):
            return None
        return self._piece("rows", (low, high), self.scene[1])

    def _piece(self, kind: str, rows: Span, cols: Span) -> Piece:
        size = (rows[1] - rows[0], cols[1] - cols[0])
        count = torch.Size(self.layout.local_shape(*size)).numel()
        room = self._rooms.next(kind, count * self.dtype.itemsize)
        return empty_region(self.layout, *size, self.dtype, self.device, room), (rows, cols)

    def _saved_left(self, j: int, rows: Span, cols: Span) -> Piece | None:
        if j + 2 >= len(self.cols) or rows[0] >= rows[1]:
            return None
        kept = (self.col_keep[j + 1], cols[1])
        if kept[0] >= kept[1]:
            return None
        left = self._piece("columns", rows, kept)
        for piece, held in self._pieces():
            copy_region(piece, held, left[0], (rows, kept), self.layout)
        return left


class _Rooms:
    """Two rooms of each kind, used in turn: what is written into one may come from the other."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._rooms: dict[str, tuple[Tensor | None, Tensor | None]] = {}

    def next(self, kind: str, num_bytes: int) -> Tensor:
        """The room not used last, or a larger one in its place."""
        older, newer = self._rooms.get(kind, (None, None))
        if older is None or older.numel() < num_bytes:
            older = pages(num_bytes, self.device)
        self._rooms[kind] = newer, older
        return older

    def close(self) -> None:
        """Give all rooms back."""
        self._rooms = {}
