"""Class-balanced windows, from a coarse grid of class counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wholescene.data.class_grid import ClassGrid
from wholescene.data.keyed import Purpose, keyed_generator
from wholescene.data.regions import Patch, SceneArea, place
from wholescene.data.sampler import WindowSize, draw_weighted
from wholescene.errors import DatasetError

__all__ = ["BalancedSampler"]


class BalancedSampler:
    """A class first, then a window that contains some of its pixels.

    The class is drawn by its share of the pixels to ``power`` (0: all alike), among those that
    occur; then a cell of the grid by its pixels of that class; then a window around the cell.

    Args:
        areas: One per scene, in the order of the scenes.
        grids: Class counts of each scene, of cells not larger than the smallest window.
        size: Side of the windows.
        seed: Seed of the run.
        power: 0 to 1.

    Raises:
        DatasetError: If no pixel is labelled.
    """

    def __init__(
        self,
        areas: Sequence[SceneArea],
        grids: Sequence[ClassGrid],
        size: WindowSize,
        *,
        seed: int,
        power: float = 0.0,
    ) -> None:
        assert all(grid.cell_px <= size.smallest_px for grid in grids)
        self._areas, self._grids, self._size, self._seed = tuple(areas), tuple(grids), size, seed
        counts = [grid.counts.reshape(-1, grid.counts.shape[-1]) for grid in grids]
        self._first_cell = np.cumsum([0, *(len(part) for part in counts)])
        pixels = np.sum([part.sum(0, dtype=np.int64) for part in counts], axis=0)
        if not pixels.any():
            raise DatasetError(
                "no pixel of the training labels is of any class, so sampling 'balanced' has "
                "nothing to draw; run 'wholescene data verify', or check ignore_id"
            )
        self._classes = [_cells_of(counts, int(k)) for k in np.flatnonzero(pixels)]
        self._chance = np.cumsum((pixels[pixels > 0] / pixels.sum()) ** power)

    @property
    def patches_per_cover(self) -> int:
        """Samples that have together the usable area."""
        return self._size.patches_in(self._areas)

    def draw(self, index: int, attempt: int = 0) -> Patch:
        """Choose a class, a cell that holds it, and a window around that cell."""
        generator = keyed_generator(self._seed, index, purpose=Purpose.WINDOW, attempt=attempt)
        ticket = generator.uniform(0, self._chance[-1])
        cells, pixels_up_to = self._classes[int(np.searchsorted(self._chance, ticket, "right"))]
        cell = int(cells[draw_weighted(pixels_up_to, generator)])
        scene = int(np.searchsorted(self._first_cell, cell, side="right")) - 1
        target = self._grids[scene].cell(cell - int(self._first_cell[scene]))
        size, whole = self._size.draw(generator), self._areas[scene].size
        return Patch(scene, place(target, size, scene=whole, generator=generator))


def _cells_of(
    counts: Sequence[NDArray[np.integer]], class_index: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells that hold a class, over all scenes, and the running sum of its pixels in them."""
    column = np.concatenate([part[:, class_index] for part in counts])
    cells = np.flatnonzero(column)
    return cells, np.cumsum(column[cells], dtype=np.int64)
