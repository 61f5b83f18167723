"""Random changes of brightness, contrast, saturation and hue, as for photographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wholescene.data.settings import ColorDistortion
from wholescene.errors import ConfigError

__all__ = ["ColorChange", "hue_depth", "turn_hue"]

TINY = 1e-30
"""Smallest difference of bands that anything is divided by."""

GREY = (0.299, 0.587, 0.114)
"""Share of red, green and blue in a grey value (ITU-R BT.601)."""


class ColorChange:
    """Four changes in random order, each with the same chance, each cut off at 0 and at white.

    They act on physical values of three bands, taken for red, green and blue.

    Source:
        Howard 2013, arXiv:1312.5402, as PaddleSeg's ``RandomDistort`` has it; that rounds to whole
        numbers after each change, this does not.

    Args:
        settings: Strength of each change.
        mean: Mean of each band, which the patches are normalised by.
        std: Standard deviation of each band.

    Raises:
        ConfigError: If there are not three bands.
    """

    def __init__(
        self, settings: ColorDistortion, *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        if len(mean) != 3:
            raise ConfigError(
                f"data.color_distortion changes three bands as red, green and blue, but the run "
                f"has {len(mean)}; leave it out, choose three in data.bands, or use data.gain, "
                "data.brightness and data.contrast, which take any"
            )
        self.settings = settings
        self._mean = torch.tensor(tuple(mean)).view(-1, 1, 1)
        self._std = torch.tensor(tuple(std)).view(-1, 1, 1)

    def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
        """Change one normalised patch (3, P, P)."""
        settings = self.settings
        # All are drawn even if few are used, so that one setting does not change another's draws.
        order, coins = generator.permutation(4), generator.uniform(size=4)
        draws = generator.uniform(-1, 1, 4).tolist()
        colors = image * self._std + self._mean
        for change in order[coins[order] < settings.chance].tolist():
            colors = self._change(colors, change, draws[change]).clamp_(0, settings.white)
        return (colors - self._mean) / self._std

    def _change(self, colors: Tensor, change: int, draw: float) -> Tensor:
        """Make one of the changes, its strength drawn from -1 to 1."""
        settings = self.settings
        match change:
            case 0:
                return colors * (1 + settings.brightness * draw)
            case 1:
                return _stretch(colors, _grey(colors).mean(), 1 + settings.contrast * draw)
            case 2:
                return _stretch(colors, _grey(colors), 1 + settings.saturation * draw)
            case _:
                return turn_hue(colors, settings.hue_degrees * draw)


def turn_hue(colors: Tensor, degrees: float | Tensor) -> Tensor:
    """Turn the hue of red, green and blue values; largest and smallest of a pixel stay.

    Args:
        colors: (3, ..., H, W), each >= 0.
        degrees: 120 makes red of blue, green of red, blue of green; one for all, or a tensor that
            fits (..., H, W).

    Examples:
        >>> turn_hue(torch.tensor([9.0, 1.0, 1.0]).view(3, 1, 1), 120.0).flatten().tolist()
        [1.0, 9.0, 1.0]
    """
    value, spread, depth = hue_depth(colors, degrees)
    return value - spread * depth


def hue_depth(colors: Tensor, degrees: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far each band stays below the largest one, once the hue is turned.

    Args:
        colors: As for :func:`turn_hue`.
        degrees: As for :func:`turn_hue`.

    Returns:
        Largest of red, green and blue (..., H, W), largest less smallest (..., H, W), and for each
        band the share (3, ..., H, W) of that difference by which it is below the largest.
    """
    value = colors.amax(0)
    spread = value - colors.amin(0)
    sixths = _hue(colors, value, spread) + degrees / 60
    sixths -= 6 * (sixths / 6).floor_()
    # Around the circle red falls, stays low and rises; green and blue rise, stay high and fall.
    red, green, blue = ((sixths - middle).abs_() for middle in (3, 2, 4))
    depth = torch.stack([2 - red, green.sub_(1), blue.sub_(1)]).clamp_(0, 1)
    return value, spread, depth


def _hue(colors: Tensor, value: Tensor, spread: Tensor) -> Tensor:
    """Hue in sixths of the circle from red; 0 for grey."""
    red, green, blue = colors
    others = torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    return torch.where(value == red, green - blue, others).div_(spread.clamp_min(TINY))


def _grey(colors: Tensor) -> Tensor:
    weights = torch.tensor(GREY).view(-1, 1, 1)
    return (colors * weights).sum(0)


def _stretch(colors: Tensor, middle: Tensor, factor: float) -> Tensor:
    return middle + factor * (colors - middle)
