"""A refined network: any engine for the coarse one, then rows of windows for the fine one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from wholescene.geometry import Size, Window
from wholescene.models import RefinedSegmenter, Segmenter
from wholescene.prediction.engine import Band, Engine, Forward, check_finite, float_bytes
from wholescene.raster import SceneReader

__all__ = ["RefinedEngine"]


@dataclass(frozen=True)
class RefinedEngine:
    """Correct the coarse network's bands, a row of windows at a time.

    Windows lie on a grid of the scene, so the result does not depend on how the coarse network is
    run. After an interruption the coarse network begins anew; finished rows are kept.

    Args:
        inner: Engine of the coarse network.
        size: Scene.
        model: The network.
    """

    inner: Engine
    size: Size
    model: RefinedSegmenter
    name: ClassVar[str] = "refined"

    @property
    def settings(self) -> dict[str, int]:
        """What the numbers depend on besides the network."""
        return self.inner.settings

    @property
    def num_blocks(self) -> int:
        """Those of the coarse network, and rows of windows."""
        return self.inner.num_blocks - (-self.size.height // self.window_px)

    @cached_property
    def coarse(self) -> Segmenter:
        """The coarse network alone."""
        return self.model.coarse

    @property
    def window_px(self) -> int:
        """Rows that are corrected at once."""
        return self.model.settings.window_px

    @property
    def disk_bytes(self) -> int:
        """As the coarse network."""
        return self.inner.disk_bytes

    @property
    def file_bytes(self) -> int:
        """As the coarse network."""
        return self.inner.file_bytes

    def working_bytes(self, num_bands: int, num_classes: int) -> int:
        """What the coarse network takes, and rows that wait for the rest of their windows."""
        rows = Size(min(2 * self.window_px, self.size.height), self.size.width)
        waiting = float_bytes(rows, 2 * num_classes + num_bands)
        return self.inner.working_bytes(num_bands, num_classes) + waiting

    def describe(self) -> str:
        """One line for a plan."""
        names = ", ".join(self.model.settings.classes)
        return f"{self.inner.describe()}; {names} refined in windows of {self.window_px} px"

    def bands(
        self, reader: SceneReader, forward: Forward, rows_done: int, folder: Path | None = None
    ) -> Generator[Band, None, None]:
        """Give all rows from ``rows_done`` on; see :class:`Engine`."""
        del folder
        first = rows_done // self.window_px * self.window_px
        waiting: list[Tensor] = []
        with closing(self.inner.bands(reader, forward.of(self.coarse), first)) as coarse:
            for band in coarse:
                if band.has_rows:
                    waiting.append(band.probabilities.clone())
                rows = sum(part.shape[1] for part in waiting)
                ready = rows if first + rows == self.size.height else rows - rows % self.window_px
                if not ready:
                    yield Band(first, torch.empty(0, 0, self.size.width), band.share_done)
                    continue
                together = torch.cat(waiting, 1)
                waiting = [together[:, ready:]]
                refined = self._refined(reader, forward, first, together[:, :ready])
                start = max(first, rows_done)
                yield Band(start, refined[:, start - first :], band.share_done)
                first += ready

    def _refined(
        self, reader: SceneReader, forward: Forward, first: int, probabilities: Tensor
    ) -> Tensor:
        """Correct rows that begin and end with windows."""
        margin, stop = self.model.settings.margin_px, first + probabilities.shape[1]
        above, below = min(margin, first), min(margin, self.size.height - stop)
        rows = slice(first - above, stop + below)
        window = Window.from_slices(rows, slice(0, self.size.width))
        image = forward.prepare([reader.read(window)])
        result = forward.refined(image, probabilities[None], (above, below))[0]
        check_finite(result, window)
        return result
