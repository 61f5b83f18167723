"""Band statistics and class frequencies in one pass over whole scenes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import RasterError
from wholescene.labels import IGNORE_INDEX
from wholescene.progress import Progress
from wholescene.raster.labels import LabelReader
from wholescene.raster.read import SceneReader

__all__ = ["BandStatistics", "Moments", "band_statistics", "class_counts", "scene_moments"]


@dataclass(frozen=True)
class BandStatistics:
    """Statistics of the valid pixels, per band, in physical units.

    Args:
        mean: Mean, (C,); NaN if there is no valid pixel.
        std: Standard deviation of the population, (C,); NaN if there is no valid pixel.
        minimum: Smallest value, (C,); infinity if there is no valid pixel.
        maximum: Largest value, (C,); minus infinity if there is no valid pixel.
        count: Valid pixels.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    count: int


PIECE_VALUES = 1 << 15
"""Values taken in at once."""


class Moments:
    """Running mean and variance that stay exact for a small spread around a large mean.

    Args:
        num_bands: Bands kept apart.

    Source:
        Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
        sample variances".
    """

    def __init__(self, num_bands: int) -> None:
        self._count = 0
        self._mean = np.zeros(num_bands)
        self._squares = np.zeros(num_bands)  # sum of squared distances from the mean
        self._minimum = np.full(num_bands, np.inf)
        self._maximum = np.full(num_bands, -np.inf)

    def add(self, values: NDArray[np.floating]) -> None:
        """Take in pixels, (C, N)."""
        # Pieces that stay in the cache of a core; longer ones would wait for memory.
        step = max(1, PIECE_VALUES // max(1, len(values)))
        for start in range(0, values.shape[1], step):
            piece = values[:, start : start + step]
            np.minimum(self._minimum, piece.min(axis=1), out=self._minimum)
            np.maximum(self._maximum, piece.max(axis=1), out=self._maximum)
            wide = piece.astype(np.float64)
            mean = wide.mean(axis=1)
            wide -= mean[:, None]
            self._join(piece.shape[1], mean, np.einsum("cn,cn->c", wide, wide))

    def merge(self, other: Moments) -> None:
        """Take in everything that another one has taken in."""
        if other._count == 0:
            return
        self._join(other._count, other._mean, other._squares)
        self._minimum = np.minimum(self._minimum, other._minimum)
        self._maximum = np.maximum(self._maximum, other._maximum)

    def _join(self, count: int, mean: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
        total = self._count + count
        apart = mean - self._mean
        self._squares += squares + apart**2 * (self._count * count / total)
        self._mean += apart * (count / total)
        self._count = total

    def state(self) -> dict[str, Any]:
        """Everything it holds, ready for JSON; exact, as Python writes floats."""
        arrays = (self._mean, self._squares, self._minimum, self._maximum)
        return {"count": self._count, "arrays": [array.tolist() for array in arrays]}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Moments:
        """What gave this ``state``."""
        arrays = [np.array(values, np.float64) for values in state["arrays"]]
        found = cls(len(arrays[0]))
        found._mean, found._squares, found._minimum, found._maximum = arrays
        found._count = int(state["count"])
        return found

    def result(self) -> BandStatistics:
        """Statistics of everything taken in."""
        known = self._count > 0
        return BandStatistics(
            mean=self._mean if known else np.full_like(self._mean, np.nan),
            std=np.sqrt(self._squares / self._count) if known else np.full_like(self._mean, np.nan),
            minimum=self._minimum,
            maximum=self._maximum,
            count=self._count,
        )


def band_statistics(
    readers: Iterable[SceneReader], *, block: int = 1024, progress: Progress | None = None
) -> BandStatistics:
    """Mean, spread and range of each band over the valid pixels of all scenes.

    Args:
        readers: Scenes with the same number of bands.
        block: Side of a window with as many pixels as are held at once.
        progress: Called with the pixels read and those of the scene, for each scene anew.

    Raises:
        RasterError: If there is no scene, the numbers of bands differ, or a file is damaged.
    """
    moments: Moments | None = None
    num_bands = 0
    for reader in readers:
        if moments is None:
            moments, num_bands = Moments(reader.num_bands), reader.num_bands
        elif reader.num_bands != num_bands:
            raise RasterError(
                f"{reader.paths[0]}: {reader.num_bands} bands, but the scenes before have "
                f"{num_bands}; statistics need the same bands in every scene"
            )
        moments.merge(scene_moments(reader, block=block, progress=progress))
    if moments is None:
        raise RasterError("statistics need at least one scene, but none is given")
    return moments.result()


def scene_moments(
    reader: SceneReader,
    *,
    block: int = 1024,
    max_pixels: int | None = None,
    progress: Progress | None = None,
) -> Moments:
    """Moments of the valid pixels of one scene; further arguments as in :func:`band_statistics`.

    Args:
        reader: The scene.
        block: Side of a window with as many pixels as are held at once.
        max_pixels: Read about so many pixels of a larger scene, in windows spread over it.
        progress: Called with the pixels read and those of the scene.
    """
    moments, done = Moments(reader.num_bands), 0
    step = 1 if max_pixels is None else max(1, reader.size.area // max_pixels)
    for window in islice(reader.windows(pixels=block * block), 0, None, step):
        pixels = reader.read(window)
        values = pixels.values
        has_gaps = not pixels.valid.all()
        moments.add(values[:, pixels.valid] if has_gaps else values.reshape(len(values), -1))
        done += window.size.area
        if progress is not None:
            progress(done, reader.size.area)
    return moments


def class_counts(readers: Iterable[LabelReader], *, block: int = 2048) -> NDArray[np.int64]:
    """Count the pixels of each class over all label rasters.

    Args:
        readers: Label rasters with the same classes.
        block: Side of a window with as many pixels as are held at once.

    Returns:
        (num_classes + 1,), in index order; the last entry counts ignored pixels.

    Raises:
        LabelError: If an id is in no class.
        RasterError: If there is no raster, the classes differ, or a file is damaged.
    """
    counts: NDArray[np.int64] | None = None
    num_classes = 0
    for reader in readers:
        if counts is None:
            num_classes = reader.classes.num_classes
            counts = np.zeros(num_classes + 1, np.int64)
        elif reader.classes.num_classes != num_classes:
            raise RasterError(
                f"{reader.path}: {reader.classes.num_classes} classes, but the rasters before "
                f"have {num_classes}"
            )
        for window in reader.windows(pixels=block * block):
            labels = reader.read(window)
            found = np.bincount((labels - IGNORE_INDEX).ravel(), minlength=num_classes + 1)
            counts += np.roll(found, -1)  # ignored pixels were counted first
    if counts is None:
        raise RasterError("class counts need at least one label raster, but none is given")
    return counts
