"""What is held of a value while a sweep passes over the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.wave import AxisWave

__all__ = ["Rolling", "Whole", "cut_region", "expanded"]

Span = tuple[int, int]


def expanded(layout: Layout, rows: int, cols: int) -> tuple[list[int], int | None, int | None]:
    """Shape with one dimension per atom, and the positions of the row and column atoms."""
    atoms = [atom for dim in layout.dims for atom in dim]
    size = {Axis.ROW: rows, Axis.COL: cols}
    shape = [atom.size if atom.axis is None else size[atom.axis] for atom in atoms]
    at = {atom.axis: i for i, atom in enumerate(atoms) if atom.axis is not None}
    return shape, at.get(Axis.ROW), at.get(Axis.COL)


def cut_region(x: Tensor, layout: Layout, held: Sequence[Span], wanted: Sequence[Span]) -> Tensor:
    """Cut rows and columns ``wanted`` out of a tensor that holds ``held``."""
    if list(held) == list(wanted):
        return x
    sizes = [stop - start for start, stop in held]
    shape, row, col = expanded(layout, *sizes)
    part = x.reshape(shape)
    for at, (start, _), (first, last) in zip((row, col), held, wanted, strict=True):
        if at is not None:
            part = part.narrow(at, first - start, last - first)
    rows, cols = (last - first for first, last in wanted)
    return part.reshape(layout.local_shape(rows, cols))


@dataclass
class Whole:
    """A tensor kept whole, in memory or in a mapped file.

    Args:
        tensor: One dimension per dimension of the layout.
        layout: Where its rows and columns are.
        path: The file, if it is mapped.
    """

    tensor: Tensor
    layout: Layout
    path: Path | None = None

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def region(self, rows: Span, cols: Span, layout: Layout | None = None) -> Tensor:
        """Cut out a region, under another layout of the same shape if one is given."""
        layout = layout or self.layout
        held = [(0, layout.grid(axis) or 1) for axis in Axis]
        return cut_region(self.tensor, layout, held, (rows, cols))

    def put(self, part: Tensor, rows: Span, cols: Span) -> None:
        """Store a region."""
        held = [self.layout.grid(axis) or 1 for axis in Axis]
        shape, row, col = expanded(self.layout, *held)
        target = self.tensor.view(shape)
        sizes = []
        for at, (start, stop) in zip((row, col), (rows, cols), strict=True):
            sizes.append(stop - start)
            if at is not None:
                target = target.narrow(at, start, stop - start)
        target.copy_(part.reshape(expanded(self.layout, *sizes)[0]))


class Rolling:
    """The rows and columns of a streamed value that later steps still read.

    At step ``(i, j)`` the window covers rows ``[keep[i], breaks[i + 1])`` and likewise columns. Its
    upper part comes from a strip as wide as the scene, its left part from the step before.
    """

    def __init__(self, index: int, layout: Layout, rows: AxisWave, cols: AxisWave) -> None:
        self.layout = layout
        self.rows, self.row_keep = rows.breaks[index], rows.keep[index]
        self.cols, self.col_keep = cols.breaks[index], cols.keep[index]
        self.width = layout.grid(Axis.COL) or 1
        self.window: Tensor | None = None
        self.held: tuple[Span, Span] = ((0, 0), (0, 0))
        self._above: Tensor | None = None
        self._above_rows: Span = (0, 0)
        self._below: Tensor | None = None
        self._left: Tensor | None = None
        self._left_cols: Span = (0, 0)

    def start_row(self, i: int) -> None:
        """Begin a row of blocks."""
        self._above, self._below = self._below, None
        self._above_rows = (self.row_keep[i], self.rows[i])
        self._left, self._left_cols = None, (0, 0)

    def put(self, i: int, j: int, fresh: Tensor | None) -> None:
        """Take in the region computed at step ``(i, j)``, ``None`` if it is empty."""
        new_rows, new_cols = self._span(i, j)
        rows = (self.row_keep[i], self.rows[i + 1])
        cols = (self.col_keep[j], self.cols[j + 1])
        self.held = rows, cols
        if fresh is not None and rows == new_rows and cols == new_cols:
            self.window = fresh
        else:
            self.window = self._assemble(i, j, fresh, rows, cols)

    def release(self, i: int, j: int) -> None:
        """Save what later steps will read of the window, and let go of it."""
        self._save(i, j, *self.held)
        self.window = None

    def region(self, rows: Span, cols: Span) -> Tensor:
        """Cut a region out of the current window."""
        assert self.window is not None
        return cut_region(self.window, self.layout, self.held, (rows, cols))

    def _span(self, i: int, j: int) -> tuple[Span, Span]:
        return (self.rows[i], self.rows[i + 1]), (self.cols[j], self.cols[j + 1])

    def _assemble(
        self, i: int, j: int, fresh: Tensor | None, rows: Span, cols: Span
    ) -> Tensor | None:
        sample = next((t for t in (fresh, self._above, self._left) if t is not None), None)
        if sample is None or rows[0] >= rows[1] or cols[0] >= cols[1]:
            return None
        window = self._empty(rows[1] - rows[0], cols[1] - cols[0], sample)
        top, left = self.rows[i] - rows[0], self.cols[j] - cols[0]
        if self._above is not None and top:
            part = cut_region(
                self._above,
                self.layout,
                (self._above_rows, (0, self.width)),
                ((rows[0], self.rows[i]), cols),
            )
            self._place(window, part, rows, cols, (rows[0], self.rows[i]), cols)
        elif top:
            window.zero_()  # an execution that begins here does not read those rows
        new_rows, new_cols = self._span(i, j)
        if self._left is not None and left and new_rows[0] < new_rows[1]:
            wanted = (cols[0], self.cols[j])
            part = cut_region(self._left, self.layout, (rows, self._left_cols), (new_rows, wanted))
            self._place(window, part, rows, cols, new_rows, wanted)
        if fresh is not None:
            self._place(window, fresh, rows, cols, new_rows, new_cols)
        return window

    def _save(self, i: int, j: int, rows: Span, cols: Span) -> None:
        """Save what the next row of blocks and the next step will read."""
        if self.window is None:
            return
        low = self.row_keep[i + 1]
        new_cols = (self.cols[j], self.cols[j + 1])
        if low < rows[1] and i + 2 < len(self.rows) and new_cols[0] < new_cols[1]:
            if self._below is None:
                self._below = self._strip(rows[1] - low, self.window)
            part = self.region((low, rows[1]), new_cols)
            self._place(
                self._below, part, (low, rows[1]), (0, self.width), (low, rows[1]), new_cols
            )
        if j + 2 < len(self.cols):
            first = self.col_keep[j + 1]
            keeps = first < cols[1]
            self._left = self.region(rows, (first, cols[1])).clone() if keeps else None
            self._left_cols = (first, cols[1])

    def _place(
        self, target: Tensor, part: Tensor, rows: Span, cols: Span, to_rows: Span, to_cols: Span
    ) -> None:
        shape, row, col = expanded(self.layout, rows[1] - rows[0], cols[1] - cols[0])
        view = target.view(shape) if target.is_contiguous() else target
        for at, (start, _), (first, last) in zip(
            (row, col), (rows, cols), (to_rows, to_cols), strict=True
        ):
            if at is not None:
                view = view.narrow(at, first - start, last - first)
        sizes = (to_rows[1] - to_rows[0], to_cols[1] - to_cols[0])
        view.copy_(part.reshape(expanded(self.layout, *sizes)[0]))

    def _empty(self, rows: int, cols: int, like: Tensor) -> Tensor:
        shape = self.layout.local_shape(rows, cols)
        count = 1
        for size in shape:
            count *= size
        # Fresh memory each time: results that are views of it may outlive the window.
        flat = torch.empty(count, dtype=like.dtype, device=like.device)
        return _shaped(flat, shape, self.layout)

    def _strip(self, rows: int, like: Tensor) -> Tensor:
        shape = self.layout.local_shape(rows, self.width)
        flat = torch.empty([torch.Size(shape).numel()], dtype=like.dtype, device=like.device)
        return _shaped(flat, shape, self.layout)


def _shaped(flat: Tensor, shape: Sequence[int], layout: Layout) -> Tensor:
    """Images are stored with channels last, everything else as it is."""
    if len(shape) == 4 and layout.is_alone(Axis.ROW) and layout.dim_of(Axis.ROW) == 2:
        batch, channels, height, width = shape
        return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return flat.view(tuple(shape))
