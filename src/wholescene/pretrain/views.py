"""Views of a batch of windows: cut, laid on themselves and changed, all as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.pretrain.geometry import (
    CropLaw,
    Rects,
    draw_crops,
    draw_published_symmetries,
    draw_symmetries,
    sample,
    view_maps,
)
from wholescene.pretrain.published_views import PublishedSpectrum
from wholescene.pretrain.settings import ViewSettings
from wholescene.pretrain.spectrum import SpectralViews

__all__ = ["SmallViews", "View", "ViewMaker"]

PUBLISHED_LAW = CropLaw(area=(0.4, 1.0), aspect=(3 / 4, 4 / 3), published=True, tries=5)

CACHE_BYTES = 4 * 2**20
"""Views made at once on a CPU: more, and each operation fetches them from memory again."""

PAIR_TRIES = 8
"""Crops drawn for a later view; the first that overlaps the first view enough is taken."""


class View(NamedTuple):
    """One view of each window of a batch.

    Args:
        image: (B, C, P, P).
        maps: From points of the view to points of its window, (B, 2, 3).
        window_px: Side of the windows.
    """

    image: Tensor
    maps: Tensor
    window_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallViews:
    """Further, smaller views of every window.

    Args:
        count: How many.
        view_px: Their side.
        area: Smallest and largest share of the window.
    """

    count: int
    view_px: int
    area: tuple[float, float]


class _Spectrum(Protocol):
    def __call__(self, views: Tensor, generator: torch.Generator, *, first: bool) -> Tensor: ...


class ViewMaker:
    """Draws views of normalised square windows.

    Each view is cut, mirrored, turned and resized by one affine map and interpolated once; where a
    view shrinks its window by half or more, several points are averaged for each of its pixels.

    Args:
        settings: How views are made.
        mean: Mean of each band, which the windows are normalised by.
        std: Standard deviation of each band.

    Raises:
        ConfigError: If the settings do not fit the bands.
    """

    def __init__(
        self, settings: ViewSettings, *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.settings = settings
        self._spectrum: _Spectrum = (
            PublishedSpectrum(mean=mean, std=std)
            if settings.faithful
            else SpectralViews(settings, mean=mean, std=std)
        )
        self._law = (
            PUBLISHED_LAW
            if settings.faithful
            else CropLaw(area=settings.area, aspect=settings.aspect)
        )

    def __call__(
        self,
        windows: Tensor,
        generator: torch.Generator,
        *,
        count: int = 2,
        small: SmallViews | None = None,
    ) -> list[View]:
        """Draw views.

        Args:
            windows: (B, C, W, W).
            generator: Source of every draw, on the device of the windows.
            count: Views of full size.
            small: Further views.

        Raises:
            InputError: If the windows are not square.
        """
        if windows.ndim != 4 or windows.shape[2] != windows.shape[3]:
            raise InputError(f"windows of shape {tuple(windows.shape)} are not (B, C, side, side)")
        side, first_crops = self.settings.view_px, None
        views = []
        for number in range(count):
            crops = self._draw_crops(len(windows), first_crops, generator)
            first_crops = crops if first_crops is None else first_crops
            maps = view_maps(crops, self._draw_symmetries(len(windows), number, generator))
            views.append(self._make(windows, maps, side, generator, first=number == 0))
        for _ in range(small.count if small is not None else 0):
            assert small is not None
            law = CropLaw(area=small.area, aspect=self._law.aspect)
            crops = draw_crops(len(windows), law, generator)
            maps = view_maps(crops, self._draw_symmetries(len(windows), 1, generator))
            views.append(self._make(windows, maps, small.view_px, generator, first=False))
        return views

    def _make(
        self, windows: Tensor, maps: Tensor, side: int, generator: torch.Generator, *, first: bool
    ) -> View:
        points = max(1, round(windows.shape[-1] / side * self._law.area[1] ** 0.5))
        at_once = len(windows)
        if windows.device.type == "cpu":
            at_once = max(1, CACHE_BYTES // (4 * windows.shape[1] * (points * side) ** 2))
        images = windows.new_empty(*windows.shape[:2], side, side)
        for some, their, into in zip(
            *(torch.split(tensor, at_once) for tensor in (windows, maps, images)), strict=True
        ):
            image = sample(some, their[:, None], (points * side, points * side))[:, 0]
            if points > 1:
                image = torch.nn.functional.avg_pool2d(image, points)
            into.copy_(self._spectrum(image, generator, first=first))
        return View(images, maps, windows.shape[-1])

    def _draw_crops(self, count: int, first: Rects | None, generator: torch.Generator) -> Rects:
        """Draw crops; later ones so that they overlap the first, as far as the tries go."""
        if first is None or self.settings.faithful:
            return draw_crops(count, self._law, generator)
        tries = draw_crops(count * PAIR_TRIES, self._law, generator)
        tries = Rects(*(part.reshape(count, PAIR_TRIES, 2) for part in tries))
        against = Rects(*(part[:, None] for part in first))
        share = tries.overlap(against).area / torch.minimum(tries.area, against.area)
        # The first that suffices; where none does, the one with most.
        suffices = (share >= self.settings.least_overlap).float() * 2
        order = torch.where(suffices > 0, suffices, share)
        pick = order.argmax(1)
        rows = torch.arange(count, device=pick.device)
        return Rects(*(part[rows, pick] for part in tries))

    def _draw_symmetries(self, count: int, number: int, generator: torch.Generator) -> Tensor:
        settings = self.settings
        if not settings.faithful:
            return draw_symmetries(count, generator, flips=settings.flips, turns=settings.turns)
        if number == 0:
            return torch.eye(2, device=generator.device).expand(count, 2, 2)
        return draw_published_symmetries(count, generator)
