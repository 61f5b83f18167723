"""The values of GLCNet's second view, as its release changes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wholescene.data.color import hue_depth
from wholescene.pretrain.geometry import uniform
from wholescene.pretrain.spectrum import blur

__all__ = ["PublishedSpectrum"]

WHITE = 255.0
COLOR_CHANCE = 0.8
HSV_CHANCE = 0.5
HUE_DEGREES, SATURATION, VALUE = 60.0, 5.0, 15.0
BAND_CHANGE = 0.1
PIXEL_NOISE_CHANCE = 0.001
GREY_CHANCE = 0.1
BLUR_CHANCE = 0.5
KERNELS = (3, 5, 7)


class PublishedSpectrum:
    """Hue, saturation and value of the first three bands, further bands on their own, grey, blur.

    The hue turns around the circle; the release lets it run over at 256 of its 180 steps.

    Args:
        mean: Mean of each band, which the views are normalised by; values are 0 to 255.
        std: Standard deviation of each band.

    Source:
        Li et al. 2022, arXiv:2106.10605, the released augmentation.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float]) -> None:
        self._mean = torch.tensor(tuple(mean))[:, None, None]
        self._std = torch.tensor(tuple(std))[:, None, None]

    def __call__(self, views: Tensor, generator: torch.Generator, *, first: bool) -> Tensor:
        """Change views (B, C, H, W); the first view stays as it is."""
        if first:
            return views
        mean, std = self._mean.to(views.device), self._std.to(views.device)
        colors = torch.addcmul(mean, views, std).clamp_(0, WHITE)
        self._change(colors, generator)
        _make_grey(colors, generator)
        _published_blur(colors, generator)
        return torch.addcmul(-mean / std, colors, 1 / std)

    def _change(self, colors: Tensor, generator: torch.Generator) -> None:
        """Change hue, saturation and value, and further bands, of some images in place."""
        hit = _rows(_hits(colors, COLOR_CHANCE, generator))
        if colors.shape[1] >= 3:
            turned = hit[_rows(_hits(hit, HSV_CHANCE, generator))]
            colors[turned, :3] = _shift_hsv(colors[turned, :3], generator)
        if colors.shape[1] > 3:
            colors[hit, 3:] = _change_bands(colors[hit, 3:], generator)


def _make_grey(colors: Tensor, generator: torch.Generator) -> None:
    """Copy one band to all, in some images in place."""
    hit = _rows(_hits(colors, GREY_CHANCE, generator))
    band = torch.randint(colors.shape[1], (len(hit),), generator=generator, device=colors.device)
    colors[hit] = colors[hit, band][:, None].expand(-1, colors.shape[1], -1, -1)


def _shift_hsv(colors: Tensor, generator: torch.Generator) -> Tensor:
    """Shift hue, saturation and value of each image."""
    hue, saturation, value = (
        most * uniform(generator, len(colors), 1, 1, low=-1)
        for most in (HUE_DEGREES, SATURATION, VALUE)
    )
    top, spread, depth = hue_depth(colors.transpose(0, 1), hue)
    saturated = spread / top.clamp_min(1e-6) + saturation / WHITE
    saturated = torch.where(spread > 0, saturated.clamp_(0, 1), 0.0)
    top = (top + value).clamp_(0, WHITE)
    return torch.addcmul(top, top * saturated, depth, value=-1).transpose(0, 1)


def _change_bands(bands: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness and contrast of each band, and single pixels of any value."""
    shape = (*bands.shape[:2], 1, 1)
    brightness = BAND_CHANGE * WHITE * uniform(generator, *shape, low=-1)
    contrast = 1 + BAND_CHANGE * uniform(generator, *shape, low=-1)
    middle = bands.mean((2, 3), keepdim=True)
    changed = middle + contrast * (bands - middle) + brightness
    noisy = (uniform(generator, *bands.shape) < PIXEL_NOISE_CHANCE).nonzero(as_tuple=True)
    changed[noisy] = uniform(generator, len(noisy[0]), high=WHITE)
    return changed.clamp_(0, WHITE)


def _published_blur(colors: Tensor, generator: torch.Generator) -> None:
    """Gaussian of 3, 5 or 7 taps, as OpenCV chooses its width, on some images in place."""
    choice = torch.randint(len(KERNELS), (len(colors),), generator=generator, device=colors.device)
    hit = _hits(colors, BLUR_CHANCE, generator).flatten()
    for number, taps in enumerate(KERNELS):
        rows = _rows(hit & (choice == number))
        if len(rows):
            sigma = 0.3 * (taps // 2 - 1) + 0.8
            widths = torch.full((len(rows),), sigma, device=colors.device)
            colors[rows] = blur(colors[rows], widths, reach=taps // 2)


def _hits(images: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    return uniform(generator, len(images), 1, 1, 1) < chance


def _rows(hits: Tensor) -> Tensor:
    """Numbers of the images that are hit."""
    return hits.flatten().nonzero().flatten()
