"""Which window of which scene is sample number ``i``: random, grid or class-balanced.

Each sampler is a pure function of its seed and the number of the sample, so that the patches of a
run do not depend on workers, on processes, or on where the run was resumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wholescene.data.keyed import Purpose, keyed_generator
from wholescene.data.regions import Patch, SceneArea, place
from wholescene.geometry import Size, Window, grid_windows

__all__ = [
    "FixedPatches",
    "GridSampler",
    "PatchSampler",
    "RandomSampler",
    "WholeScenes",
    "WindowSize",
    "draw_weighted",
]


class PatchSampler(Protocol):
    """Chooses the window of every sample of a run."""

    @property
    def patches_per_cover(self) -> int:
        """Samples it takes to cover the usable area once."""
        ...

    def draw(self, index: int, attempt: int = 0) -> Patch:
        """Choose the window of sample ``index``; every ``attempt`` gives another one."""
        ...


@dataclass(frozen=True, slots=True)
class WindowSize:
    """Side of the window a patch is cut from.

    Args:
        patch_px: Side of the patch.
        scale: Smallest and largest factor from patch to window.
        zooms: Factors from window to patch, drawn alike, in the place of ``scale``.
    """

    patch_px: int
    scale: tuple[float, float] = (1.0, 1.0)
    zooms: tuple[float, ...] | None = None

    @property
    def smallest_px(self) -> int:
        """Smallest side that is ever drawn."""
        return self._side(1 / max(self.zooms) if self.zooms else self.scale[0])

    def draw(self, generator: np.random.Generator) -> Size:
        """Draw one size, evenly in the logarithm of the scale, or one of the zooms."""
        if self.zooms:
            side = self._side(1 / self.zooms[int(generator.integers(len(self.zooms)))])
        else:
            low, high = (math.log(factor) for factor in self.scale)
            side = self._side(math.exp(generator.uniform(low, high)))
        return Size(side, side)

    def _side(self, factor: float) -> int:
        return max(1, round(self.patch_px * factor))

    def patches_in(self, areas: Sequence[SceneArea]) -> int:
        """Patches that have together the usable area."""
        pixels = sum(window.size.area for area in areas for window in area.windows)
        return math.ceil(pixels / self.patch_px**2)


class RandomSampler:
    """Windows anywhere in the usable parts, each part as often as its area.

    Args:
        areas: One per scene, in the order of the scenes.
        size: Side of the windows.
        seed: Seed of the run.
    """

    def __init__(self, areas: Sequence[SceneArea], size: WindowSize, *, seed: int) -> None:
        self._areas, self._size, self._seed = tuple(areas), size, seed
        self._parts = [Patch(i, window) for i, area in enumerate(areas) for window in area.windows]
        self._area_up_to = np.cumsum([part.window.size.area for part in self._parts])

    @property
    def patches_per_cover(self) -> int:
        """Samples that have together the usable area."""
        return self._size.patches_in(self._areas)

    def draw(self, index: int, attempt: int = 0) -> Patch:
        """Choose a part by its area, then a place in it."""
        generator = keyed_generator(self._seed, index, purpose=Purpose.WINDOW, attempt=attempt)
        part = self._parts[draw_weighted(self._area_up_to, generator)]
        size, scene = self._size.draw(generator), self._areas[part.scene].size
        return Patch(part.scene, place(part.window, size, scene=scene, generator=generator))


class GridSampler:
    """The places of a grid; each comes once per round, in an order drawn for the round.

    The last places of a row or column are shifted back inside. A redraw takes any other place. With
    a jitter of scale, windows keep their middle and so overlap or leave gaps.

    Args:
        areas: One per scene, in the order of the scenes.
        size: Side of the windows.
        seed: Seed of the run.
    """

    def __init__(self, areas: Sequence[SceneArea], size: WindowSize, *, seed: int) -> None:
        self._size, self._seed = size, seed
        patch = Size(size.patch_px, size.patch_px)
        self._places = [
            Patch(i, _moved(window, part))
            for i, area in enumerate(areas)
            for part in area.windows
            for window in grid_windows(part.size, patch, patch)
        ]
        self._order = _Order(len(self._places), seed)

    @property
    def patches_per_cover(self) -> int:
        """Places of the grid."""
        return len(self._places)

    def draw(self, index: int, attempt: int = 0) -> Patch:
        """Take the next place in the order of the round ``index`` falls into."""
        generator = keyed_generator(self._seed, index, purpose=Purpose.WINDOW, attempt=attempt)
        side = self._size.draw(generator).height
        if attempt:
            chosen = self._places[int(generator.integers(len(self._places)))]
        else:
            chosen = self._places[self._order.place(index)]
        return Patch(chosen.scene, _resized(chosen.window, side))


class WholeScenes:
    """Every usable part of every scene, whole; each once per round, in an order drawn for it.

    Args:
        areas: One per scene, in the order of the scenes.
        seed: Seed of the run.
    """

    def __init__(self, areas: Sequence[SceneArea], *, seed: int) -> None:
        self._places = [Patch(i, part) for i, area in enumerate(areas) for part in area.windows]
        self._order = _Order(len(self._places), seed)

    @property
    def patches_per_cover(self) -> int:
        """Parts of all scenes."""
        return len(self._places)

    def draw(self, index: int, attempt: int = 0) -> Patch:
        """Take the next part; one without a label gives way to the one after it."""
        return self._places[self._order.place(index + attempt)]


class _Order:
    """Places in an order drawn anew for every round.

    Args:
        count: Number of places.
        seed: Seed of the run.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._round, self._order = -1, np.zeros(0, np.int64)

    def place(self, index: int) -> int:
        """Place of sample ``index``."""
        number, position = divmod(index, self._count)
        if number != self._round:
            generator = keyed_generator(self._seed, number, purpose=Purpose.ORDER)
            self._round, self._order = number, generator.permutation(self._count)
        return int(self._order[position])


class FixedPatches:
    """Windows side by side, scene by scene: each pixel of the scenes once.

    The last windows of a row or column reach beyond the border.

    Args:
        areas: One per scene, in the order of the scenes.
        patch_px: Side of the windows.
    """

    def __init__(self, areas: Sequence[SceneArea], patch_px: int) -> None:
        self._places = [
            Patch(i, Window(row_off=row, col_off=col, height=patch_px, width=patch_px))
            for i, area in enumerate(areas)
            for row in range(0, area.size.height, patch_px)
            for col in range(0, area.size.width, patch_px)
        ]

    @property
    def patches_per_cover(self) -> int:
        """Windows of all scenes."""
        return len(self._places)

    def draw(self, index: int, attempt: int = 0) -> Patch:
        """Give window ``index``; there is no other try."""
        return self._places[index]


def draw_weighted(weight_up_to: NDArray[np.integer], generator: np.random.Generator) -> int:
    """Draw a place of a list by its whole-number weight, given the running sum of the weights."""
    ticket = generator.integers(int(weight_up_to[-1]))
    return int(np.searchsorted(weight_up_to, ticket, side="right"))


def _moved(window: Window, part: Window) -> Window:
    """Count the pixels of a window inside ``part`` from the corner of the scene."""
    return Window(
        row_off=window.row_off + part.row_off,
        col_off=window.col_off + part.col_off,
        height=window.height,
        width=window.width,
    )


def _resized(window: Window, side: int) -> Window:
    """Give a square window another side around the same middle."""
    shift = (window.height - side) // 2
    return Window(
        row_off=window.row_off + shift, col_off=window.col_off + shift, height=side, width=side
    )
