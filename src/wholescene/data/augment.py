"""Random changes of patches, for any number of bands.

What happens to a sample depends on the seed and the number of the sample alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wholescene.data.color import ColorChange
from wholescene.data.keyed import Purpose, keyed_generator
from wholescene.data.settings import DataSettings
from wholescene.errors import InputError

__all__ = ["Augment", "SpectralChange", "Symmetry"]

# Letters: C channels, P patch side.


@dataclass(frozen=True, slots=True)
class SpectralChange:
    """Strength of each change of values; 0 leaves that one out.

    Args:
        gain: Largest change of the factor on the physical values of all bands.
        band_gain: The same for each band on its own.
        brightness: Largest shift of all bands, in standard deviations.
        contrast: Largest change of the factor on the distance from the mean.
        noise: Largest strength of the noise, in standard deviations.
        channel_dropout: Chance of each band to be blanked.
    """

    gain: float = 0.0
    band_gain: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0
    channel_dropout: float = 0.0

    @property
    def is_off(self) -> bool:
        """Whether nothing would change."""
        parts = (self.gain, self.band_gain, self.brightness, self.contrast)
        return not any((*parts, self.noise, self.channel_dropout))


class Augment:
    """Flips, quarter turns and changes of values of a normalised patch.

    Args:
        seed: Seed of the run.
        mean_over_std: Mean of each band divided by its standard deviation, where physical zero
            lies; needed because a gain acts on physical values.
        flips: Whether to mirror; ``"left-right"`` only so, if there are no turns.
        turns: Whether to turn by quarters.
        spectral: How to change values.
        color: How to change colours, after that; ``None`` leaves them.
    """

    def __init__(
        self,
        seed: int,
        mean_over_std: Sequence[float],
        *,
        flips: bool | Literal["left-right"] = True,
        turns: bool = True,
        spectral: SpectralChange | None = None,
        color: ColorChange | None = None,
    ) -> None:
        self.seed, self.flips, self.turns = seed, flips, turns
        self.spectral = spectral or SpectralChange()
        self.color = color
        self._zero_at = np.asarray(mean_over_std, np.float64)

    @classmethod
    def from_settings(
        cls, settings: DataSettings, *, mean: Sequence[float], std: Sequence[float], seed: int
    ) -> Augment:
        """Take the switches of a run configuration."""
        spectral = SpectralChange(
            gain=settings.gain,
            band_gain=settings.band_gain,
            brightness=settings.brightness,
            contrast=settings.contrast,
            noise=settings.noise,
            channel_dropout=settings.channel_dropout,
        )
        distortion = settings.color_distortion
        return cls(
            seed,
            [m / s for m, s in zip(mean, std, strict=True)],
            flips=settings.flips,
            turns=settings.turns,
            spectral=spectral,
            color=None if distortion is None else ColorChange(distortion, mean=mean, std=std),
        )

    def __call__(
        self, image: Tensor, label: Tensor, valid: Tensor, *, index: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Change one patch.

        Args:
            image: Normalised, invalid pixels 0, (C, P, P); may be changed in place.
            label: Class indices, (P, P).
            valid: Whether a pixel holds data, (P, P).
            index: Number of the sample in the run.

        Returns:
            Image, label and valid; labels are moved, never mixed.

        Raises:
            InputError: If the image has other bands than the statistics.
        """
        self._check(image)
        generator = keyed_generator(self.seed, index, purpose=Purpose.AUGMENT)
        # Drawn even if nothing moves, so that one switch does not change another's draws.
        coins = generator.integers(2, size=3).tolist()
        if self.flips or self.turns:
            move = Symmetry.from_coins(coins, flips=self.flips, turns=self.turns)
            image, label, valid = move(image), move(label), move(valid)
        if not self.spectral.is_off:
            self._change_values(image, index, generator)
        if self.color is not None:
            image = self.color(image, keyed_generator(self.seed, index, purpose=Purpose.COLOR))
        changes = self.color is not None or not self.spectral.is_off
        if changes and not valid.all():
            image.masked_fill_(~valid, 0.0)
        return image, label, valid

    def _change_values(self, image: Tensor, index: int, generator: np.random.Generator) -> None:
        factor, shift, noise = (
            torch.from_numpy(part.astype(np.float32)).view(-1, 1, 1)
            for part in self._draw_values(generator)
        )
        image.mul_(factor).add_(shift)
        if self.spectral.noise:
            grains = keyed_generator(self.seed, index, purpose=Purpose.NOISE)
            grain = torch.from_numpy(grains.standard_normal(tuple(image.shape), np.float32))
            image.add_(grain.mul_(noise))

    def _draw_values(
        self, generator: np.random.Generator
    ) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
        """Draw factor, shift and strength of the noise of each band of one sample."""
        change, bands = self.spectral, len(self._zero_at)
        gain = 1 + change.gain * generator.uniform(-1, 1)
        gains = gain * (1 + change.band_gain * generator.uniform(-1, 1, bands))
        brightness = change.brightness * generator.uniform(-1, 1)
        contrast = 1 + change.contrast * generator.uniform(-1, 1)
        noise = change.noise * generator.uniform()
        kept = generator.uniform(size=bands) >= change.channel_dropout
        kept[generator.integers(bands)] = True
        # In normalised space a gain on physical values is a factor and a shift.
        shift = contrast * (gains - 1) * self._zero_at + brightness
        return kept * contrast * gains, kept * shift, kept * noise

    def _check(self, image: Tensor) -> None:
        if image.ndim != 3:
            raise InputError(f"image has shape {tuple(image.shape)}, not (bands, height, width)")
        if image.shape[0] != len(self._zero_at):
            raise InputError(
                f"image has {image.shape[0]} bands, but the statistics are of {len(self._zero_at)}"
            )


@dataclass(frozen=True, slots=True)
class Symmetry:
    """One of the eight ways to lay a square on itself: transpose first, then flip.

    Args:
        transpose: Whether rows become columns.
        flip_rows: Whether the order of the rows is reversed.
        flip_cols: Whether the order of the columns is reversed.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_cols: bool = False

    @classmethod
    def from_coins(
        cls, coins: Sequence[int], *, flips: bool | Literal["left-right"], turns: bool
    ) -> Symmetry:
        """Turn three fair coins into one of the allowed symmetries, each alike."""
        transpose, rows, cols = (bool(coin) for coin in coins)
        if not turns:
            return cls(False, rows and flips is True, cols) if flips else cls()
        # A turn by a quarter is the transpose with exactly one flip, half a turn is both flips.
        return cls(transpose, rows, cols if flips else rows != transpose)

    def __call__(self, patch: Tensor) -> Tensor:
        """Lay the last two axes of a tensor on themselves; always a copy."""
        turned = patch.transpose(-1, -2) if self.transpose else patch
        dims = [axis for axis, flip in ((-2, self.flip_rows), (-1, self.flip_cols)) if flip]
        return torch.flip(turned, dims)
