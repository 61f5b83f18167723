"""Random changes of the values of a batch of views, for any number of bands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.errors import ConfigError
from wholescene.pretrain.geometry import uniform
from wholescene.pretrain.settings import ViewSettings

__all__ = ["SpectralViews", "blur"]

TAPS_PER_SIGMA = 3

# Letters: B images, C bands, H, W.


class SpectralViews:
    """Changes of colour, sharpness and noise of normalised views, each image on its own.

    Args:
        settings: How strong and how often.
        mean: Mean of each band, which the views are normalised by.
        std: Standard deviation of each band.

    Raises:
        ConfigError: If grey is asked for and there are not three bands.
    """

    def __init__(
        self, settings: ViewSettings, *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        if settings.grey_chance > 0 and len(mean) != 3:
            raise ConfigError(
                f"views.grey_chance = {settings.grey_chance} makes three bands grey, but the run "
                f"has {len(mean)}; set it to 0, or choose three in data.bands"
            )
        self._settings = settings
        # A gain acts on physical values, whose zero lies here.
        self._zero_at = torch.tensor([m / s for m, s in zip(mean, std, strict=True)])

    def __call__(self, views: Tensor, generator: torch.Generator, *, first: bool) -> Tensor:
        """Change views (B, C, H, W); ``first`` chooses the chances of the first view."""
        settings, which = self._settings, 0 if first else 1
        views = self._change_color(views, settings.color_chance[which], generator)
        if settings.grey_chance:
            hit = _hits(len(views), settings.grey_chance, generator)
            views = torch.where(hit, views.mean(1, keepdim=True), views)
        views = self._blur(views, settings.blur_chance[which], generator)
        if settings.solarise_chance[which]:
            hit = _hits(len(views), settings.solarise_chance[which], generator)
            views = torch.where(hit, torch.minimum(views, -views), views)
        if settings.noise:
            strength = settings.noise * uniform(generator, len(views), 1, 1, 1)
            grains = torch.randn(views.shape, generator=generator, device=views.device)
            views = views + strength * grains
        return self._drop_bands(views, generator) if settings.channel_dropout else views

    def _change_color(self, views: Tensor, chance: float, generator: torch.Generator) -> Tensor:
        settings, batch = self._settings, len(views)
        gain = 1 + settings.gain * uniform(generator, batch, 1, 1, 1, low=-1)
        bands = uniform(generator, batch, views.shape[1], 1, 1, low=-1)
        gain = gain * (1 + settings.band_gain * bands)
        shift = settings.brightness * uniform(generator, batch, 1, 1, 1, low=-1)
        contrast = 1 + settings.contrast * uniform(generator, batch, 1, 1, 1, low=-1)
        zero_at = self._zero_at.to(views.device)[:, None, None]
        changed = views * gain + (gain - 1) * zero_at
        middle = changed.mean((2, 3), keepdim=True)
        changed = middle + contrast * (changed - middle) + shift
        return torch.where(_hits(batch, chance, generator), changed, views)

    def _blur(self, views: Tensor, chance: float, generator: torch.Generator) -> Tensor:
        low, high = self._settings.blur_px
        sigma = uniform(generator, len(views), low=low, high=high)
        hit = _hits(len(views), chance, generator).flatten()
        if not chance or not bool(hit.any()):
            return views
        return views.index_put((hit.nonzero().flatten(),), blur(views[hit], sigma[hit]))

    def _drop_bands(self, views: Tensor, generator: torch.Generator) -> Tensor:
        batch, bands = views.shape[:2]
        dice = uniform(generator, batch, bands)
        # The band with the highest number stays whatever it is.
        kept = (dice >= self._settings.channel_dropout) | (dice == dice.amax(1, keepdim=True))
        return views * kept[..., None, None]


def blur(images: Tensor, sigma: Tensor, *, reach: int | None = None) -> Tensor:
    """Blur each image with its own Gaussian; the border is mirrored.

    Args:
        images: (B, C, H, W).
        sigma: Standard deviation in pixels, (B,).
        reach: Pixels on each side that count; ``None``: three times the largest ``sigma``.
    """
    if reach is None:
        reach = math.ceil(TAPS_PER_SIGMA * float(sigma.max()))
    reach = min(reach, min(images.shape[-2:]) - 1)
    taps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-(taps**2) / (2 * sigma[:, None] ** 2), dim=1)
    rows = _blur_along(F.pad(images, (0, 0, reach, reach), mode="reflect"), kernel, 2)
    return _blur_along(F.pad(rows, (reach, reach, 0, 0), mode="reflect"), kernel, 3)


def _blur_along(padded: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Sum of shifted images, which beats a convolution of one channel by far."""
    length = padded.shape[axis] - kernel.shape[1] + 1
    weights = kernel[:, :, None, None, None].unbind(1)
    total = padded.narrow(axis, 0, length) * weights[0]
    for place, weight in enumerate(weights[1:], 1):
        total.addcmul_(padded.narrow(axis, place, length), weight)
    return total


def _hits(batch: int, chance: float, generator: torch.Generator) -> Tensor:
    """Which images of a batch are changed, (B, 1, 1, 1)."""
    return uniform(generator, batch, 1, 1, 1) < chance
