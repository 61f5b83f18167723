"""Where a split may be sampled: whole scenes, or the parts a fraction table leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wholescene.geometry import Size, Window
from wholescene.labels import IGNORE_INDEX
from wholescene.raster.resize import nearest_pixels

__all__ = ["Patch", "SceneArea", "ignore_outside", "place"]


@dataclass(frozen=True)
class SceneArea:
    """Size of one scene, and the parts of it whose labels may be used.

    Args:
        size: Rows and columns.
        parts: Windows inside the scene; ``None`` for all of it.
    """

    size: Size
    parts: tuple[Window, ...] | None = None

    @property
    def windows(self) -> tuple[Window, ...]:
        """The usable parts; one window for a whole scene."""
        return (Window.whole(self.size),) if self.parts is None else self.parts

    def parts_touching(self, window: Window) -> NDArray[np.int64]:
        """Usable parts that meet ``window``: first row, stop row, first column, stop column."""
        top, bottom, left, right = self._bounds.T
        touches = (top < window.row_stop) & (bottom > window.row_off)
        touches &= (left < window.col_stop) & (right > window.col_off)
        found: NDArray[np.int64] = self._bounds[touches]
        return found

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        bounds = [(w.row_off, w.row_stop, w.col_off, w.col_stop) for w in self.windows]
        return np.array(bounds, np.int64).reshape(-1, 4)


@dataclass(frozen=True, slots=True)
class Patch:
    """Where one sample is read.

    Args:
        scene: Place of the scene in its list.
        window: Pixels of the scene; they may reach beyond it.
    """

    scene: int
    window: Window


def place(target: Window, size: Size, *, scene: Size, generator: np.random.Generator) -> Window:
    """Put a window of ``size`` at random: inside ``target`` if it fits there, else around it.

    A window around its target stays inside the scene if it fits there.
    """
    row = _place(target.row_off, target.height, size.height, scene.height, generator)
    col = _place(target.col_off, target.width, size.width, scene.width, generator)
    return Window(row_off=row, col_off=col, height=size.height, width=size.width)


def _place(start: int, length: int, window: int, scene: int, generator: np.random.Generator) -> int:
    """Place one axis."""
    low, high = sorted((start, start + length - window))
    if window > length:
        lowest, highest = sorted((0, scene - window))
        low, high = max(low, lowest), min(high, highest)
    return int(generator.integers(low, high, endpoint=True))


def ignore_outside(label: NDArray[np.int16], window: Window, area: SceneArea) -> NDArray[np.int16]:
    """Ignore the labels of a window that lie outside the usable parts of the scene.

    Args:
        label: Class indices of ``window``, possibly resampled by nearest, shape (h, w).
        window: Where they were read.
        area: The scene and its usable parts.

    Returns:
        ``label`` itself where nothing is excluded, else a copy.
    """
    if area.parts is None:
        return label
    rows = window.row_off + nearest_pixels(window.height, label.shape[0])
    cols = window.col_off + nearest_pixels(window.width, label.shape[1])
    usable = np.zeros(label.shape, np.bool_)
    for top, bottom, left, right in area.parts_touching(window):
        inside_rows = (rows >= top) & (rows < bottom)
        inside_cols = (cols >= left) & (cols < right)
        usable |= inside_rows[:, None] & inside_cols
    return np.where(usable, label, np.int16(IGNORE_INDEX))
