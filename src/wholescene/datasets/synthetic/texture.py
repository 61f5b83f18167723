"""Small seamless textures that repeat over a scene: tree crowns and mottled ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.synthetic.noise import derive_key, uniform
from wholescene.geometry import Window

__all__ = ["TEXTURE_PX", "Texture", "texture"]

TEXTURE_PX = 512
_CROWN_PX = 8

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Texture:
    """Fields that repeat every ``TEXTURE_PX`` pixels, or a window of them.

    Args:
        rank: Rank of the crown a pixel lies in, 0 to 1; 2 between crowns. A tree stands where the
            density of trees is above its rank, so that trees are whole at the edge of a wood.
        light: Light on the crown, -1 to 1, dark between crowns.
        mottle: Mottled ground of several scales, about -1 to 1.
        speckle: The finest scale of ``mottle``, about -1 to 1.
    """

    rank: Floats
    light: Floats
    mottle: Floats
    speckle: Floats

    def window(self, window: Window) -> Texture:
        """Repeat the texture over a window of the scene."""
        rows = np.arange(window.row_off, window.row_stop) % TEXTURE_PX
        cols = np.arange(window.col_off, window.col_stop) % TEXTURE_PX
        parts = (self.rank, self.light, self.mottle, self.speckle)
        return Texture(*(part.take(rows, axis=0).take(cols, axis=1) for part in parts))


@lru_cache(maxsize=4)
def texture(key: int, sun: tuple[float, float]) -> Texture:
    """Make the texture of a scene.

    Args:
        key: Seed.
        sun: Unit vector (down, right) towards the sun.
    """
    rank, light = _crowns(derive_key(key, "crowns"), sun)
    mottle = sum(
        weight * _wrapped_noise(derive_key(key, "mottle", scale), scale)
        for scale, weight in ((2, 0.3), (4, 0.4), (16, 0.5), (64, 0.4))
    )
    speckle = _wrapped_noise(derive_key(key, "speckle"), 1)
    return Texture(rank, light, np.asarray(mottle, np.float32), speckle)


def _crowns(key: int, sun: tuple[float, float]) -> tuple[Floats, Floats]:
    """One crown in each cell of a jittered grid; the nearest one wins."""
    cells = TEXTURE_PX // _CROWN_PX
    crown = uniform(key, np.arange(cells * cells), np.arange(4)[:, None]).astype(np.float32)
    pixel = np.arange(TEXTURE_PX)
    nearest = np.ones((TEXTURE_PX, TEXTURE_PX), np.float32)
    rank, light = np.full_like(nearest, 2.0), np.full_like(nearest, -1.0)
    toward_sun = np.array(sun, np.float32) * np.float32(0.8)
    for step in range(9):
        row, col = pixel // _CROWN_PX + step // 3 - 1, pixel // _CROWN_PX + step % 3 - 1
        place = (row % cells * cells)[:, None] + col % cells
        # Offsets from the centre, in radii.
        size = 1.0 / (3.4 + 2.4 * crown[2][place])
        down = (pixel - _CROWN_PX * row).astype(np.float32)[:, None] - _offset(crown[0][place])
        right = (pixel - _CROWN_PX * col).astype(np.float32) - _offset(crown[1][place])
        down *= size
        right *= size
        reach = np.sqrt(down * down + right * right)
        at = np.flatnonzero(reach < nearest)
        near = reach.ravel()[at]
        shade = down.ravel()[at] * toward_sun[0] + right.ravel()[at] * toward_sun[1]
        nearest.ravel()[at] = near
        rank.ravel()[at] = crown[3][place.ravel()[at]]
        light.ravel()[at] = shade + 0.35 - 0.5 * near * near
    return rank, light


def _offset(draw: Floats) -> Floats:
    """Place of a crown in its cell, in pixels."""
    return np.asarray(_CROWN_PX * (0.15 + 0.7 * draw))


def _wrapped_noise(key: int, scale: int) -> Floats:
    """Bilinear value noise in [-1, 1] that is seamless across the border."""
    cells = TEXTURE_PX // scale
    knots = (2.0 * uniform(key, np.arange(cells)[:, None], np.arange(cells)) - 1.0).astype(
        np.float32
    )
    index, part = np.divmod(np.arange(TEXTURE_PX), scale)
    share = (part / scale).astype(np.float32)
    following = (index + 1) % cells
    rows = knots[index] + (knots[following] - knots[index]) * share[:, None]
    return np.asarray(rows[:, index] + (rows[:, following] - rows[:, index]) * share)
