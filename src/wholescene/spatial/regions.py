"""Where regions of a value come from: views where possible, one copy where pieces meet.

A source gives a region either as a view of a tensor it holds, or by copying its pieces into a
tensor that someone else made. Concatenation and enlargement are sources too: what reads them gets
their parts copied into place, and they are never held themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.mapped import MappedFile
from wholescene.spatial.pool import Pool

__all__ = [
    "Enlarged",
    "Joined",
    "Source",
    "Span",
    "Whole",
    "copy_region",
    "cut_region",
    "empty_region",
    "fill_border",
    "inner_part",
    "is_inside",
    "narrowed",
    "narrowed_shape",
]

Span = tuple[int, int]


def is_inside(inner: Sequence[Span], outer: Sequence[Span]) -> bool:
    """Whether rows and columns lie within others."""
    return all(a >= c and b <= d for (a, b), (c, d) in zip(inner, outer, strict=True))


def inner_part(wanted: Sequence[Span], held: Sequence[Span]) -> list[Span]:
    """The rows and columns of one region that lie in another; empty ones at its edge if none."""
    inner = []
    for (start, stop), (first, last) in zip(wanted, held, strict=True):
        low = min(max(start, first), last)
        inner.append((low, max(low, min(stop, last))))
    return inner


def fill_border(
    x: Tensor, layout: Layout, held: Sequence[Span], inner: Sequence[Span], fill: float
) -> None:
    """Fill what a region that holds ``held`` has outside of ``inner``."""
    for axis, side in enumerate(held):
        for edge in ((side[0], inner[axis][0]), (inner[axis][1], side[1])):
            if edge[0] < edge[1]:
                strip = list(held)
                strip[axis] = edge
                narrowed(x, layout, held, strip).fill_(fill)


def cut_region(x: Tensor, layout: Layout, held: Sequence[Span], wanted: Sequence[Span]) -> Tensor:
    """Cut rows and columns ``wanted`` out of a tensor that holds ``held``."""
    if list(held) == list(wanted):
        return x
    part = narrowed(x, layout, held, wanted)
    rows, cols = (last - first for first, last in wanted)
    return part.reshape(layout.local_shape(rows, cols))


def copy_region(
    x: Tensor, held: Sequence[Span], target: Tensor, into: Sequence[Span], layout: Layout
) -> None:
    """Copy what two tensors have in common from one that holds ``held`` to one of ``into``."""
    common = inner_part(held, into)
    if any(first >= last for first, last in common):
        return
    source = narrowed(x, layout, held, common)
    narrowed(target, layout, into, common).copy_(source)


def empty_region(
    layout: Layout,
    rows: int,
    cols: int,
    dtype: torch.dtype,
    device: torch.device,
    buffer: Tensor | None = None,
) -> Tensor:
    """Room for a region: images with channels last, everything else in the order it has."""
    shape = layout.local_shape(rows, cols)
    count = torch.Size(shape).numel()
    if buffer is None:
        flat = torch.empty(count, dtype=dtype, device=device)
    else:
        flat = buffer[: count * dtype.itemsize].view(dtype)
    return _shaped(flat, layout, shape)


def _shaped(flat: Tensor, layout: Layout, shape: Sequence[int]) -> Tensor:
    if _is_image(layout):
        batch, channels, height, width = shape
        return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return flat.view(tuple(shape))


@lru_cache(maxsize=1024)
def _is_image(layout: Layout) -> bool:
    return (
        len(layout.dims) == 4
        and layout.is_alone(Axis.ROW)
        and layout.is_alone(Axis.COL)
        and layout.dim_of(Axis.ROW) == 2
        and layout.dim_of(Axis.COL) == 3
    )


def narrowed(x: Tensor, layout: Layout, held: Sequence[Span], wanted: Sequence[Span]) -> Tensor:
    """A region with one dimension per atom, or with the tensor's own where those are the same."""
    if _is_image(layout):
        (top, _), (left, _) = held
        (first, last), (begin, end) = wanted
        return x[:, :, first - top : last - top, begin - left : end - left]
    rows, cols = (stop - start for start, stop in held)
    part = x.reshape(layout.atom_shape(rows, cols))
    for axis, (start, _), (first, last) in zip(Axis, held, wanted, strict=True):
        at = layout.atom_of(axis)
        if at is not None:
            part = part.narrow(at, first - start, last - first)
    return part


def narrowed_shape(layout: Layout, wanted: Sequence[Span]) -> tuple[int, ...]:
    """Shape that :func:`narrowed` gives."""
    rows, cols = (stop - start for start, stop in wanted)
    return tuple((layout.local_shape if _is_image(layout) else layout.atom_shape)(rows, cols))


class Source(ABC):
    """Something that regions of a value can be had from, during one step.

    Args:
        layout: Where rows and columns are.
        dtype: Type of the elements.
        device: Where they are.

    Attributes:
        pool: Where memory for what is put together comes from, and goes back to after the step;
            only where no reader's result may share it.
    """

    def __init__(self, layout: Layout, dtype: torch.dtype, device: torch.device) -> None:
        self.layout, self.dtype, self.device = layout, dtype, device
        self.scene = tuple((0, layout.grid(axis) or 1) for axis in Axis)
        self.pool: Pool | None = None
        self._made: tuple[Tensor, tuple[Span, Span], float] | None = None
        self._lent: list[Tensor] = []
        self._idle: list[Tensor] = []

    @abstractmethod
    def view(self, rows: Span, cols: Span) -> Tensor | None:
        """A region inside the scene as it lies in memory; ``None`` if it is in several pieces."""

    @abstractmethod
    def place(self, target: Tensor, rows: Span, cols: Span) -> None:
        """Copy a region inside the scene into a tensor of its shape."""

    def pieces(self, rows: Span, cols: Span) -> list[tuple[Tensor, Span, Span]]:
        """A region inside the scene in one or more pieces, each with its rows and columns."""
        return [(self.region(rows, cols), rows, cols)]

    def region(self, rows: Span, cols: Span, fill: float = 0.0) -> Tensor:
        """A region; what lies beyond the scene is ``fill``."""
        wanted = (rows, cols)
        is_within = is_inside(wanted, self.scene)
        found = self.view(rows, cols) if is_within else None
        if found is not None:
            return found
        if self._made is not None:
            made, held, filled = self._made
            if is_inside(wanted, held) and (is_within or filled == fill):
                self._lent, self._idle = [*self._lent, *self._idle], []
                return cut_region(made, self.layout, held, wanted)
        self._give_back()
        made = self._assembled(rows, cols, fill)
        self._made = made, wanted, fill
        return made

    def begin(self) -> None:
        """Say that another reader comes: what earlier ones got may make room for its region."""
        self._lent, self._idle = [], [*self._lent, *self._idle]

    def release(self, i: int, j: int) -> None:
        """Let go of what was put together at step ``(i, j)``."""
        self._made = None
        self.begin()
        self._give_back()

    def _give_back(self) -> None:
        if self.pool is not None:
            for buffer in self._idle:
                self.pool.give(buffer)
        self._idle = []

    def _room(self, rows: int, cols: int) -> Tensor:
        buffer = None
        if self.pool is not None:
            shape = torch.Size(self.layout.local_shape(rows, cols))
            buffer = self.pool.take(shape.numel() * self.dtype.itemsize)
            self._lent.append(buffer)
        return empty_region(self.layout, rows, cols, self.dtype, self.device, buffer)

    def _assembled(self, rows: Span, cols: Span, fill: float) -> Tensor:
        made = self._room(rows[1] - rows[0], cols[1] - cols[0])
        inner = inner_part((rows, cols), self.scene)
        if any(first >= last for first, last in inner):
            return made.fill_(fill)
        fill_border(made, self.layout, (rows, cols), inner, fill)
        if _is_image(self.layout):
            part = narrowed(made, self.layout, (rows, cols), inner)
            self.place(part, inner[0], inner[1])
        elif inner == [rows, cols]:
            self.place(made, rows, cols)
        else:
            part = self._assembled(inner[0], inner[1], fill)
            copy_region(part, inner, made, (rows, cols), self.layout)
        return made


class Whole(Source):
    """A tensor kept whole, in memory or in a mapped file.

    Args:
        tensor: One dimension per dimension of the layout.
        layout: Where its rows and columns are.
        device: Where regions are wanted; the tensor's own by default.
        file: Where it is, unless in memory.
    """

    def __init__(
        self,
        tensor: Tensor,
        layout: Layout,
        device: torch.device | None = None,
        file: MappedFile | None = None,
    ) -> None:
        super().__init__(layout, tensor.dtype, device or tensor.device)
        self.tensor, self.file = tensor, file

    @classmethod
    def empty(
        cls, layout: Layout, dtype: torch.dtype, device: torch.device, path: Path | None
    ) -> Whole:
        """Room for a value in the host's memory, or in a file, which may exist."""
        shape = layout.shape
        count = torch.Size(shape).numel()
        if path is None:
            return cls(_shaped(torch.empty(count, dtype=dtype), layout, shape), layout, device)
        file = MappedFile(path, count * dtype.itemsize)
        return cls(_shaped(file.tensor.view(dtype), layout, shape), layout, device, file)

    @property
    def whole(self) -> Tensor:
        """All of it."""
        return self.tensor.to(self.device)

    def adopted(self, layout: Layout) -> Whole:
        """The same under another layout of the same shape."""
        return Whole(self.tensor, layout, self.device)

    def unload(self) -> None:
        """Hold nothing in memory of what is in a file."""
        if self.file is not None:
            self.file.unload()

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if self.file is not None:
            self.file.remove()

    def view(self, rows: Span, cols: Span) -> Tensor:
        """As for every source."""
        return cut_region(self.tensor, self.layout, self.scene, (rows, cols)).to(self.device)

    def place(self, target: Tensor, rows: Span, cols: Span) -> None:
        """As for every source."""
        copy_region(self.tensor, self.scene, target, (rows, cols), self.layout)

    def put(self, part: Tensor, rows: Span, cols: Span) -> None:
        """Store a region."""
        copy_region(part, (rows, cols), self.tensor, self.scene, self.layout)


class Joined(Source):
    """Images one after the other in the channels.

    Args:
        layout: Layout of all together.
        parts: The images.
    """

    def __init__(self, layout: Layout, parts: Sequence[Source]) -> None:
        super().__init__(layout, parts[0].dtype, parts[0].device)
        self.parts = parts

    def view(self, rows: Span, cols: Span) -> None:
        """In several pieces."""
        return None

    def place(self, target: Tensor, rows: Span, cols: Span) -> None:
        """As for every source."""
        first = 0
        for part in self.parts:
            count = part.layout.shape[1]
            part.place(target.narrow(1, first, count), rows, cols)
            first += count


class Enlarged(Source):
    """An image whose pixels are repeated a whole number of times.

    Args:
        layout: Layout of the enlarged image.
        given: The image.
        factors: Repetitions of rows and of columns.
    """

    def __init__(self, layout: Layout, given: Source, factors: tuple[int, int]) -> None:
        super().__init__(layout, given.dtype, given.device)
        self.given, self.factors = given, factors

    def view(self, rows: Span, cols: Span) -> None:
        """In several pieces."""
        return None

    def place(self, target: Tensor, rows: Span, cols: Span) -> None:
        """As for every source."""
        for down, from_rows, times_down in _repeats(rows, self.factors[0]):
            for across, from_cols, times_across in _repeats(cols, self.factors[1]):
                part = target[:, :, down, across]
                sizes = (down.stop - down.start) // times_down, (across.stop - across.start)
                part = part.view(
                    *part.shape[:2], sizes[0], times_down, sizes[1] // times_across, times_across
                )
                for piece, (top, _), (left, _) in self.given.pieces(from_rows, from_cols):
                    height, width = piece.shape[2:]
                    into = part.narrow(2, top - from_rows[0], height)
                    into = into.narrow(4, left - from_cols[0], width)
                    into.copy_(piece[:, :, :, None, :, None])


def _repeats(span: Span, factor: int) -> list[tuple[slice, Span, int]]:
    """Where inputs go in a region, which they are, and how often each is repeated.

    The first and the last may be cut off by the region.
    """
    start, stop = span
    inner = {-(-start // factor) * factor, stop // factor * factor}
    cuts = sorted({start, stop, *(cut for cut in inner if start < cut < stop)})
    found = []
    for first, last in pairwise(cuts):
        inputs = (first // factor, -(-last // factor))
        times = (last - first) // (inputs[1] - inputs[0])
        found.append((slice(first - start, last - start), inputs, times))
    return found


@dataclass(frozen=True)
class Joining:
    """A rule's word that its operator is a :class:`Joined` of its arguments."""

    layout: Layout

    def source(self, parts: Sequence[Source]) -> Source:
        """Put the arguments together."""
        return Joined(self.layout, parts)


@dataclass(frozen=True)
class Enlarging:
    """A rule's word that its operator is an :class:`Enlarged` first argument."""

    layout: Layout
    factors: tuple[int, int]

    def source(self, parts: Sequence[Source]) -> Source:
        """Enlarge the argument."""
        return Enlarged(self.layout, parts[0], self.factors)
