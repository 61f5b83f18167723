"""A picture of a map: image, classes, and one over the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.geometry import Size, Window
from wholescene.labels import ClassTable
from wholescene.raster import LabelReader, SceneReader, read_preview, write_png

__all__ = ["write_preview"]

MAX_PX = 2048
OVERLAY = 0.5
GAP_PX = 8
STRIP_PX = 64


def write_preview(path: Path, reader: SceneReader, label_map: Path, classes: ClassTable) -> None:
    """Write image, classes and overlay side by side, each at most 2048 px.

    Raises:
        OutputError: If it cannot be written.
    """
    image = read_preview(reader, MAX_PX)
    with LabelReader(label_map, classes) as labels:
        index = _read_small(labels, Size(*image.shape[:2]))
    # The last colour serves IGNORE_INDEX, which is -1.
    colors = np.array([*classes.colors, (0, 0, 0)], np.uint8)[index]
    overlay = (OVERLAY * colors + (1 - OVERLAY) * image).round().astype(np.uint8)
    overlay[index < 0] = 0
    gap = np.full((len(image), GAP_PX, 3), 255, np.uint8)
    write_png(path, np.concatenate([image, gap, colors, gap, overlay], axis=1))


def _read_small(labels: LabelReader, size: Size) -> NDArray[np.int16]:
    """Read a whole map at a small size, in strips: the map itself may not fit into memory."""
    height, width = labels.size
    strips = []
    for first in range(0, size.height, STRIP_PX):
        last = min(first + STRIP_PX, size.height)
        rows = slice(first * height // size.height, last * height // size.height)
        window = Window.from_slices(rows, slice(0, width))
        strips.append(labels.read(window, out_size=Size(last - first, size.width)))
    return np.concatenate(strips)
