"""One synthetic scene, any part of which can be computed alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.synthetic.ground import COARSE_PX
from wholescene.datasets.synthetic.landscape import Landscape
from wholescene.datasets.synthetic.noise import derive_key, uniform
from wholescene.datasets.synthetic.painting import paint
from wholescene.datasets.synthetic.sensor import DTYPES, Sensor
from wholescene.datasets.synthetic.spectra import band_specs
from wholescene.datasets.synthetic.texture import texture
from wholescene.errors import InputError
from wholescene.geometry import Size, Window
from wholescene.raster.source import BandSpec

__all__ = ["BLOCK", "IGNORE_ID", "SyntheticScene", "scene_window"]

BLOCK = Size(256, 1024)
"""Blocks a scene is computed in, whatever is asked for."""

IGNORE_ID = 255
"""Label of pixels outside the swath and of unlabelled patches."""

_MARGIN_PX = COARSE_PX
_LATTICE_PX = 256


@dataclass(frozen=True)
class SyntheticScene:
    """A labelled scene that exists only as a function.

    Args:
        seed: Seed of the dataset.
        index: Number of the scene.
        size: Rows and columns.
        bands: Number of bands.
        dtype: ``uint8``, ``uint16``, ``int16`` or ``float32``.
        held_out: Whether the sensor gain lies outside the range of other scenes.

    Raises:
        InputError: If a value is out of range.
    """

    seed: int
    index: int
    size: Size
    bands: int = 4
    dtype: str = "uint16"
    held_out: bool = False

    def __post_init__(self) -> None:
        if min(self.size) < 1 or self.bands < 1:
            raise InputError(
                f"cannot make a scene of {self.size} and {self.bands} bands; all must be >= 1"
            )
        if self.dtype not in DTYPES:
            raise InputError(
                f"cannot make a scene of dtype {self.dtype!r}; use {', '.join(DTYPES)}"
            )

    @cached_property
    def _key(self) -> int:
        return derive_key(0, "scene", self.seed, self.index)

    @cached_property
    def _land(self) -> Landscape:
        return Landscape(self._key, self.size)

    @cached_property
    def _sensor(self) -> Sensor:
        nm = tuple(float(b.wavelength_nm or 0) for b in self.band_specs)
        return Sensor(self._key, self.size, nm, self.dtype, self.held_out)

    @cached_property
    def _sun(self) -> tuple[float, float]:
        angle = math.radians(110 * float(uniform(derive_key(self._key, "sun"))) - 55)
        return math.cos(angle), math.sin(angle)

    @cached_property
    def band_specs(self) -> tuple[BandSpec, ...]:
        """Names and wavelengths of the bands."""
        return band_specs(self.bands)

    @property
    def gain(self) -> float:
        """Sensor gain."""
        return self._sensor.gain

    @property
    def nodata(self) -> float:
        """Stored value outside the swath."""
        return DTYPES[self.dtype].nodata

    def window(self, window: Window) -> tuple[NDArray[np.generic], NDArray[np.uint8]]:
        """Compute pixels and labels of a window inside the scene.

        Returns:
            Pixels (bands, height, width) and label ids (height, width).

        Raises:
            InputError: If the window reaches beyond the scene.
        """
        if window.intersect(Window.whole(self.size)) != window:
            raise InputError(f"{window} reaches beyond the scene of {self.size}; ask for less")
        pixels = np.empty((self.bands, *window.size), self.dtype)
        labels = np.empty(window.size, np.uint8)
        for block in self._blocks_over(window):
            part = block.intersect(window)
            source, target = part.relative_to(block), part.relative_to(window)
            block_pixels, block_labels = self._block(block)
            pixels[:, target.rows, target.cols] = block_pixels[:, source.rows, source.cols]
            labels[target.rows, target.cols] = block_labels[source.rows, source.cols]
        return pixels, labels

    def _blocks_over(self, window: Window) -> Iterator[Window]:
        if window.is_empty:
            return
        stop = -(-self.size.width // COARSE_PX) * COARSE_PX
        for row in range(
            window.row_off // BLOCK.height * BLOCK.height, window.row_stop, BLOCK.height
        ):
            for col in range(
                window.col_off // BLOCK.width * BLOCK.width, window.col_stop, BLOCK.width
            ):
                width = min(BLOCK.width, stop - col)
                yield Window(row_off=row, col_off=col, height=BLOCK.height, width=width)

    def _block(self, block: Window) -> tuple[NDArray[np.generic], NDArray[np.uint8]]:
        large = block.grow(_MARGIN_PX)
        canvas = paint(self._land, large, texture(self._key, self._sun).window(large), self._sun)
        labels = canvas.label[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]
        inside = self._sensor.footprint(block)
        pixels = self._sensor.expose(canvas, block, margin=_MARGIN_PX, inside=inside)
        labels[~inside | self._unlabelled(block)] = IGNORE_ID
        return pixels, labels

    def _unlabelled(self, block: Window) -> NDArray[np.bool_]:
        """Small discs nobody could label, in three of ten cells of a lattice."""
        hidden = np.zeros(block.size, bool)
        around = block.grow(_LATTICE_PX)
        rows, cols = np.meshgrid(
            np.arange(around.row_off // _LATTICE_PX, around.row_stop // _LATTICE_PX),
            np.arange(around.col_off // _LATTICE_PX, around.col_stop // _LATTICE_PX),
            indexing="ij",
        )
        draw = uniform(derive_key(self._key, "unlabelled"), rows, cols, np.arange(4)[:, None, None])
        chosen = draw[0] < 0.3
        centers = (rows + draw[1])[chosen], (cols + draw[2])[chosen], draw[3][chosen]
        for down, right, size in zip(*centers, strict=True):
            row, col = down * _LATTICE_PX - block.row_off, right * _LATTICE_PX - block.col_off
            radius = 6 + 12 * size
            near = Window.from_slices(
                slice(int(row - radius), int(row + radius) + 1),
                slice(int(col - radius), int(col + radius) + 1),
            ).intersect(Window.whole(block.size))
            y = np.arange(near.row_off, near.row_stop)[:, None] - row
            x = np.arange(near.col_off, near.col_stop) - col
            hidden[near.rows, near.cols] |= x * x + y * y < radius * radius
        return hidden


def scene_window(
    seed: int,
    scene: int,
    window: Window,
    *,
    size: Size,
    bands: int = 4,
    dtype: str = "uint16",
    held_out: bool = False,
) -> tuple[NDArray[np.generic], NDArray[np.uint8]]:
    """Compute a window of a synthetic scene; see :class:`SyntheticScene`."""
    return SyntheticScene(seed, scene, size, bands, dtype, held_out).window(window)
