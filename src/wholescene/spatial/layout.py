"""Where rows and columns of the scene are inside a tensor.

Each dimension is a row-major product of atoms. At most one atom counts rows of the scene (at some
resolution) and one counts columns; the others are plain. A region of a tensor is an interval of
its row atom and one of its column atom, with all plain atoms whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod

__all__ = ["Atom", "Axis", "Dim", "Layout", "adopt", "reshaped"]


class Axis(StrEnum):
    """A direction of the scene."""

    ROW = "row"
    COL = "col"


@dataclass(frozen=True, slots=True)
class Atom:
    """A factor of a dimension.

    Args:
        size: Entries.
        axis: Direction it counts along; ``None`` if it is plain.
    """

    size: int
    axis: Axis | None = None


Dim = tuple[Atom, ...]


@dataclass(frozen=True)
class Layout:
    """The dimensions of a tensor.

    Args:
        dims: One product of atoms per dimension; an empty product has size 1.
    """

    dims: tuple[Dim, ...]

    @classmethod
    def plain(cls, shape: Sequence[int]) -> Layout:
        """No dimension is spatial."""
        return cls(tuple((Atom(int(size)),) for size in shape))

    @classmethod
    def image(cls, shape: Sequence[int]) -> Layout:
        """Rows and columns are the last two dimensions."""
        *lead, height, width = (int(size) for size in shape)
        rows, cols = Atom(height, Axis.ROW), Atom(width, Axis.COL)
        return cls((*((Atom(size),) for size in lead), (rows,), (cols,)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return tuple(prod(atom.size for atom in dim) for dim in self.dims)

    @property
    def is_spatial(self) -> bool:
        """Whether it has rows or columns of the scene."""
        return any(atom.axis is not None for dim in self.dims for atom in dim)

    def grid(self, axis: Axis) -> int | None:
        """Entries along an axis of the scene; ``None`` if the tensor does not have it."""
        for dim in self.dims:
            for atom in dim:
                if atom.axis is axis:
                    return atom.size
        return None

    def dim_of(self, axis: Axis) -> int | None:
        """Dimension that holds the axis."""
        for index, dim in enumerate(self.dims):
            if any(atom.axis is axis for atom in dim):
                return index
        return None

    def is_alone(self, axis: Axis) -> bool:
        """Whether the axis has a dimension of its own."""
        index = self.dim_of(axis)
        return index is not None and _essential(self.dims[index]) == (
            Atom(self.grid(axis) or 0, axis),
        )

    def local_shape(self, rows: int, cols: int) -> tuple[int, ...]:
        """Shape of a region of so many rows and columns of this tensor's grids."""
        size = {Axis.ROW: rows, Axis.COL: cols}
        return tuple(
            prod(atom.size if atom.axis is None else size[atom.axis] for atom in dim)
            for dim in self.dims
        )

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """The factors of all dimensions, in order."""
        return tuple(atom for dim in self.dims for atom in dim)

    def atom_shape(self, rows: int, cols: int) -> tuple[int, ...]:
        """Shape of such a region with a dimension for every factor."""
        size = {Axis.ROW: rows, Axis.COL: cols}
        return tuple(a.size if a.axis is None else size[a.axis] for a in self.atoms)

    def atom_of(self, axis: Axis) -> int | None:
        """Which factor counts along an axis."""
        return next((i for i, atom in enumerate(self.atoms) if atom.axis is axis), None)

    def permuted(self, order: Sequence[int]) -> Layout:
        """Reorder the dimensions."""
        return Layout(tuple(self.dims[i] for i in order))


def reshaped(layout: Layout, shape: Sequence[int]) -> Layout | None:
    """Layout after a row-major reshape; ``None`` where rows or columns would be torn apart.

    An axis atom may be split into a coarser grid and the pixels of one tile, and joined again. An
    axis of one pixel stays one where dimensions of one entry only come and go.
    """
    same = _spread_out(layout, shape)
    if same is not None:
        return same
    rest = [atom for dim in layout.dims for atom in dim if atom.size != 1]
    rest.reverse()
    dims: list[Dim] = []
    for size in shape:
        dim = _take(rest, int(size))
        if dim is None:
            return None
        dims.append(_joined(dim))
    if rest:
        return None
    grids = [atom.axis for dim in dims for atom in dim if atom.axis is not None]
    return Layout(tuple(dims)) if len(grids) == len(set(grids)) else None


def _spread_out(layout: Layout, shape: Sequence[int]) -> Layout | None:
    """The same dimensions with others of one entry between them."""
    rest = [dim for dim in layout.dims if _essential(dim)]
    dims: list[Dim] = []
    for size in reversed(shape):
        fits = bool(rest) and prod(atom.size for atom in rest[-1]) == size
        if not fits and size != 1:
            return None
        dims.append(rest.pop() if fits else (Atom(1),))
    return None if rest else Layout(tuple(reversed(dims)))


def adopt(shape: Sequence[int], like: Layout) -> Layout:
    """Give a constant the layout of the tensor it is broadcast with, where sizes agree."""
    dims: list[Dim] = []
    offset = len(like.dims) - len(shape)
    for index, size in enumerate(int(s) for s in shape):
        other = like.dims[index + offset] if index + offset >= 0 else ()
        same = size != 1 and prod(atom.size for atom in other) == size
        dims.append(other if same else (Atom(size),))
    return Layout(tuple(dims))


def _essential(dim: Dim) -> Dim:
    return tuple(atom for atom in dim if atom.size != 1 or atom.axis is not None)


def _take(rest: list[Atom], size: int) -> list[Atom] | None:
    """Take atoms from the front (the list is reversed) until they make up ``size``."""
    taken: list[Atom] = []
    left = size
    while left > 1:
        if not rest:
            return None
        atom = rest.pop()
        if left % atom.size == 0:
            taken.append(atom)
            left //= atom.size
        elif atom.size % left == 0:
            taken.append(Atom(left, atom.axis))
            rest.append(Atom(atom.size // left))
            left = 1
        else:
            return None
    return taken


def _joined(dim: list[Atom]) -> Dim:
    """Join a grid of tiles and the pixels of a tile into a grid of pixels."""
    atoms: list[Atom] = []
    for atom in dim:
        previous = atoms[-1] if atoms else None
        if previous is not None and atom.axis is None:
            atoms[-1] = Atom(previous.size * atom.size, previous.axis)
        else:
            atoms.append(atom)
    return tuple(atoms) or (Atom(1),)
