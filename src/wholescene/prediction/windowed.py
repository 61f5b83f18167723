"""The windowed engine: overlapping windows, blended smoothly, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from wholescene.geometry import Size, Window, cover_starts
from wholescene.heap import HeapWatch
from wholescene.prediction.ahead import Ahead
from wholescene.prediction.blend import RowBlender, axis_weights
from wholescene.prediction.engine import Band, Forward, check_finite, float_bytes
from wholescene.raster import Pixels, SceneReader

__all__ = ["WindowedEngine"]

READ_AHEAD = 1
"""Batches that wait, read, besides the one being read and the one the network works on."""

Batch = tuple[list[Window], Tensor]


@dataclass(frozen=True)
class WindowedEngine:
    """Cover the scene with windows and average probabilities where they overlap.

    The result depends on window and overlap; that is the nature of the method.

    Args:
        size: Scene.
        block: Window.
        overlap: Pixels neighbouring windows share.
        batch: Windows per forward pass; never across rows of windows, so that work can resume at
            any row with the same batches.
    """

    size: Size
    block: Size
    overlap: Size
    batch: int
    name: ClassVar[str] = "windowed"
    disk_bytes: ClassVar[int] = 0
    file_bytes: ClassVar[int] = 0

    @property
    def settings(self) -> dict[str, int]:
        """What the numbers depend on besides the network."""
        return {
            "block": max(self.block),
            "overlap": max(self.overlap),
            "batch": self.batch,
        }

    @property
    def row_starts(self) -> list[int]:
        """First row of each row of windows."""
        stride = self.block.height - self.overlap.height
        return cover_starts(self.size.height, self.block.height, stride)

    @property
    def col_starts(self) -> list[int]:
        """First column of each column of windows."""
        stride = self.block.width - self.overlap.width
        return cover_starts(self.size.width, self.block.width, stride)

    @property
    def num_blocks(self) -> int:
        """Windows over the whole scene."""
        return len(self.row_starts) * len(self.col_starts)

    def working_bytes(self, num_bands: int, num_classes: int) -> int:
        """Row buffer with the rows handed out, batches read ahead and their probabilities."""
        rows = Size(2 * self.block.height, self.size.width)
        batches = float_bytes(self.block, self.batch * (num_bands * (READ_AHEAD + 2) + num_classes))
        return float_bytes(rows, num_classes) + batches

    def describe(self) -> str:
        """One line for a plan."""
        return (
            f"windowed: {self.num_blocks} windows of {self.block}, overlap "
            f"{self.overlap.height} x {self.overlap.width} px, {self.batch} at a time"
        )

    def bands(
        self, reader: SceneReader, forward: Forward, rows_done: int, folder: Path | None = None
    ) -> Generator[Band, None, None]:
        """Give all rows from ``rows_done`` on; rows of windows that reach into them run again."""
        starts = self.row_starts
        stops = [*starts[1:], self.size.height]
        first = next(i for i, start in enumerate(starts) if start + self.block.height > rows_done)
        blender = RowBlender(len(forward.spec.classes), self.block.height, self.size.width)
        blender.start(starts[first])
        row_weights = self._weights(starts, 0)
        col_weights = self._weights(self.col_starts, 1)
        heap = HeapWatch()
        with Ahead(self._batches(reader, forward, first), waiting=READ_AHEAD) as batches:
            for i in range(first, len(starts)):
                for batch in _row(batches):
                    self._add(blender, forward, batch, row_weights[starts[i]], col_weights)
                    heap.work_ended()
                done = blender.take(stops[i])
                new = max(starts[i], rows_done)
                if new < stops[i]:
                    yield Band(new, done[:, new - starts[i] :])

    def _add(
        self,
        blender: RowBlender,
        forward: Forward,
        batch: Batch,
        row_weight: Tensor,
        col_weights: dict[int, Tensor],
    ) -> None:
        windows, images = batch
        for window, probabilities in zip(windows, forward(images), strict=True):
            check_finite(probabilities, window)
            weight = row_weight[:, None] * col_weights[window.col_off][None, :]
            blender.add(probabilities, window.row_off, window.col_off, weight)

    def _batches(self, reader: SceneReader, forward: Forward, first: int) -> Iterator[Batch | None]:
        """Batches of one row of windows after the other; ``None`` ends a row."""
        for row in self.row_starts[first:]:
            windows: list[Window] = []
            pixels: list[Pixels] = []
            for col in self.col_starts:
                window = Window(
                    row_off=row, col_off=col, height=self.block.height, width=self.block.width
                )
                found = reader.read(window)
                if not found.valid.any():
                    continue
                windows.append(window)
                pixels.append(found)
                if len(windows) == self.batch:
                    yield windows, forward.prepare(pixels)
                    windows, pixels = [], []
            if windows:
                yield windows, forward.prepare(pixels)
            yield None

    def _weights(self, starts: list[int], axis: int) -> dict[int, Tensor]:
        found = axis_weights(starts, self.block[axis], self.overlap[axis], self.size[axis])
        return dict(zip(starts, map(torch.from_numpy, found), strict=True))


def _row(batches: Iterator[Batch | None]) -> Iterator[Batch]:
    """Batches up to the end of the row."""
    while (batch := next(batches)) is not None:
        yield batch
