"""Coarse per-scene class counts: one pass over the labels, kept beside the dataset."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.data.regions import SceneArea, ignore_outside
from wholescene.geometry import Size, Window
from wholescene.labels import ClassTable
from wholescene.raster.read import LabelReader

__all__ = ["CACHE_FOLDER", "ClassGrid", "ClassGridCache", "cell_px_for", "count_classes"]

CACHE_FOLDER = ".wholescene"
"""Folder beside ``dataset.yaml`` for what can be computed again; safe to delete."""

MAX_CELL_PX = 128  # a cell's count fits uint16, and the grid of a huge scene stays small

STRIP_PIXELS = 1 << 23


@dataclass(frozen=True)
class ClassGrid:
    """Pixels of each class in the cells of a scene.

    Args:
        size: Rows and columns of the scene.
        cell_px: Side of a cell; the last ones are cut off at the border.
        counts: Pixels, uint16, shape (cell rows, cell columns, classes).
    """

    size: Size
    cell_px: int
    counts: NDArray[np.uint16]

    def cell(self, number: int) -> Window:
        """Pixels of a cell, counted row by row."""
        row, col = divmod(number, self.counts.shape[1])
        whole = Window.whole(self.size)
        side = self.cell_px
        return Window(row_off=row * side, col_off=col * side, height=side, width=side).intersect(
            whole
        )


def cell_px_for(smallest_window_px: int) -> int:
    """Side of the cells, so that a window of this side holds any cell with room to spare."""
    return max(1, min(MAX_CELL_PX, smallest_window_px // 2))


def count_classes(
    labels: LabelReader, area: SceneArea, *, num_classes: int, cell_px: int
) -> ClassGrid:
    """Count the classes of every cell in one streamed pass.

    Args:
        labels: Label raster of the scene.
        area: Parts of the scene that count.
        num_classes: Classes of the labels.
        cell_px: Side of a cell, 1 to 255.
    """
    assert 1 <= cell_px <= 255, "a count must fit uint16"
    size = labels.size
    cell_rows, cell_cols = -(-size.height // cell_px), -(-size.width // cell_px)
    counts = np.zeros((cell_rows, cell_cols, num_classes), np.uint16)
    # Whole rows of cells at a time, so that no cell is split between strips.
    step = max(1, STRIP_PIXELS // (cell_px * size.width))
    for first in range(0, cell_rows, step):
        row, stop = first * cell_px, min((first + step) * cell_px, size.height)
        window = Window(row_off=row, col_off=0, height=stop - row, width=size.width)
        label = ignore_outside(labels.read(window), window, area)
        strip = _count_strip(label, cell_px=cell_px, num_classes=num_classes)
        counts[first : first + len(strip)] = strip
    return ClassGrid(size, cell_px, counts)


@dataclass(frozen=True)
class ClassGridCache:
    """Class counts of label rasters, kept in a folder.

    Where the folder cannot be written, counts live in memory only.

    Args:
        folder: Made if missing, in a folder that exists.
        classes: Classes of the labels.
        cell_px: Side of a cell, 1 to 255.
    """

    folder: Path
    classes: ClassTable
    cell_px: int

    def get(self, path: Path, labels: LabelReader, area: SceneArea) -> ClassGrid:
        """Take the counts kept of this very file, or count and keep them.

        Args:
            path: Label raster.
            labels: Its reader.
            area: Parts of the scene that count.
        """
        file = self.folder / f"class-grid-{self._fingerprint(path, area)}.npz"
        stored = _load(file)
        if stored is not None:
            return ClassGrid(labels.size, self.cell_px, stored)
        num_classes = self.classes.num_classes
        grid = count_classes(labels, area, num_classes=num_classes, cell_px=self.cell_px)
        _keep(file, grid.counts)
        return grid

    def _fingerprint(self, path: Path, area: SceneArea) -> str:
        """Hash of everything the counts depend on; the file by name, size and time."""
        stat = path.stat()
        parts = None
        if area.parts is not None:
            parts = [(w.row_off, w.col_off, w.height, w.width) for w in area.parts]
        file = [path.name, stat.st_size, stat.st_mtime_ns]
        key = [file, self.classes.ids, self.classes.ignore_id, self.cell_px, parts]
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]


def _load(file: Path) -> NDArray[np.uint16] | None:
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as stored:
            counts: NDArray[np.uint16] = stored["counts"]
            return counts
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # missing, or damaged: count again


def _keep(file: Path, counts: NDArray[np.uint16]) -> None:
    aside = file.with_name(f"{file.name}.{os.getpid()}.part")
    # A read-only or full disk costs the pass over the labels at the next start, nothing else.
    with contextlib.suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        try:
            with aside.open("wb") as out:
                np.savez_compressed(out, counts=counts)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)


def _count_strip(label: NDArray[np.int16], *, cell_px: int, num_classes: int) -> NDArray[np.int64]:
    """Count the classes in the cells of a strip of whole cell rows."""
    height, width = label.shape
    rows, cols = -(-height // cell_px), -(-width // cell_px)
    cell = (np.arange(height) // cell_px)[:, None] * cols + np.arange(width) // cell_px
    # Ignored pixels are index -1; they go to a column of their own, which is dropped.
    keys = cell * (num_classes + 1) + label + 1
    found = np.bincount(keys.ravel(), minlength=rows * cols * (num_classes + 1))
    return found.reshape(rows, cols, num_classes + 1)[..., 1:]
