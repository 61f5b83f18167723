"""One plain forward over the whole scene: the reference, and the choice when it fits."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from wholescene.geometry import Size, Window
from wholescene.prediction.engine import Band, Forward, float_bytes
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

    @property
    def num_blocks(self) -> int:
        """One forward pass."""
        return 1

    def working_bytes(self, num_bands: int, num_classes: int) -> int:
        """Image as read and normalised, and the probabilities."""
        return float_bytes(self.size, 2 * num_bands + num_classes)

    def describe(self) -> str:
        """One line for a plan."""
        return f"whole: one forward pass over {self.size}; activations grow with the scene"

    def bands(
        self, reader: SceneReader, forward: Forward, rows_done: int
    ) -> Generator[Band, None, None]:
        """Give all rows from ``rows_done`` on."""
        window = Window.whole(self.size)
        probabilities = forward(forward.prepare([reader.read(window)]))[0]
        forward.check(probabilities, window)
        for row in range(rows_done, self.size.height, ROWS_PER_BAND):
            yield Band(row, probabilities[:, row : row + ROWS_PER_BAND])
