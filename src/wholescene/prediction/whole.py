"""One plain forward over the whole scene: the reference, and the choice when it fits."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from wholescene.geometry import Size, Window
from wholescene.prediction.engine import Band, Forward, check_finite, float_bytes
from wholescene.raster import SceneReader

__all__ = ["WholeEngine"]

ROWS_PER_BAND = 1024


@dataclass(frozen=True)
class WholeEngine:
    """Run the network once.

    Args:
        size: Scene.
    """

    size: Size
    name: ClassVar[str] = "whole"
    disk_bytes: ClassVar[int] = 0
    file_bytes: ClassVar[int] = 0

    @property
    def settings(self) -> dict[str, int]:
        """What the numbers depend on besides the network."""
        return {}

    @property
    def num_blocks(self) -> int:
        """One forward pass."""
        return 1

    def working_bytes(self, num_bands: int, num_classes: int) -> int:
        """Image as read and normalised, logits and probabilities."""
        return float_bytes(self.size, 2 * num_bands + 2 * num_classes)

    def describe(self) -> str:
        """One line for a plan."""
        return f"whole: one forward pass over {self.size}; activations grow with the scene"

    def bands(
        self, reader: SceneReader, forward: Forward, rows_done: int, folder: Path | None = None
    ) -> Generator[Band, None, None]:
        """Give all rows from ``rows_done`` on."""
        window = Window.whole(self.size)
        probabilities = forward(forward.prepare([reader.read(window)]))[0]
        check_finite(probabilities, window)
        for row in range(rows_done, self.size.height, ROWS_PER_BAND):
            yield Band(row, probabilities[:, row : row + ROWS_PER_BAND])
