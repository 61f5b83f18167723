"""Regions that two views of a window share, in closed form."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wholescene.pretrain.geometry import Rects, compose, invert, rects_of, sample, uniform

__all__ = ["Footprint", "Regions", "draw_regions", "pool_regions"]

Footprint = Literal["ground", "view"]

CANDIDATES = 16
"""Places drawn for each region that is wanted; the best are kept."""


class Regions(NamedTuple):
    """The same places in two views.

    Args:
        first: Maps from each region to the first view, (B, N, 2, 3).
        second: Likewise to the second view.
        found: Whether the two views overlap at all, (B,); other rows mean nothing.
    """

    first: Tensor
    second: Tensor
    found: Tensor


def draw_regions(
    first: Tensor,
    second: Tensor,
    *,
    count: int,
    side: float,
    generator: torch.Generator,
    footprint: Footprint = "ground",
) -> Regions:
    """Draw regions inside the overlap of two views.

    Args:
        first: Maps of the first views, (B, 2, 3).
        second: Maps of the second views.
        count: Regions of an image.
        side: Side of a region as a share of a view.
        generator: Source of the draws.
        footprint: ``"ground"``: a region covers the same ground in both views, its side the mean of
            what ``side`` means in each, cut to the overlap; regions lie as far apart as they can.
            ``"view"``: as published, only the middle is shared, each region is upright and of the
            same size in its view, and a middle lies in no earlier region.
    """
    one, two = rects_of(first), rects_of(second)
    shared = one.overlap(two)
    if footprint == "view":
        inner = _shrink(one, side).overlap(_shrink(two, side))
        centres = _draw_centres(inner, count * CANDIDATES, generator)
        chosen = _outside_earlier(centres, one.half * side, count)
        return Regions(_box(first, chosen, side), _box(second, chosen, side), _exists(shared))
    size = side * (one.half.prod(-1) * two.half.prod(-1)) ** 0.25
    half = torch.minimum(size[:, None], shared.half.clamp_min(0))
    inner = Rects(shared.centre, shared.half - half)
    centres = _draw_centres(inner, count * CANDIDATES, generator)
    chosen = _far_apart(centres, count)
    linear = torch.diag_embed(half)[:, None].expand(-1, count, -1, -1)
    ground = torch.cat([linear, chosen[..., None]], -1)
    there, here = (compose(invert(view)[:, None], ground) for view in (first, second))
    return Regions(there, here, _exists(shared))


def pool_regions(features: Tensor, maps: Tensor, size: int) -> Tensor:
    """Mean feature of each region.

    Args:
        features: Map of features of a view, (B, C, h, w).
        maps: From regions to the view, (B, N, 2, 3).
        size: Points along each side that are averaged.

    Returns:
        (B, N, C).
    """
    return sample(features, maps, (size, size)).mean((-1, -2))


def _exists(shared: Rects) -> Tensor:
    return (shared.half > 0).all(-1)


def _shrink(rects: Rects, side: float) -> Rects:
    return Rects(rects.centre, rects.half * (1 - side))


def _draw_centres(inside: Rects, count: int, generator: torch.Generator) -> Tensor:
    """Draw places (B, count, 2); the middle where there is no room."""
    place = uniform(generator, len(inside.centre), count, 2, low=-1)
    return inside.centre[:, None] + place * inside.half.clamp_min(0)[:, None]


def _far_apart(centres: Tensor, count: int) -> Tensor:
    """Keep the first place, then ever the one farthest from those kept."""
    batch = torch.arange(len(centres), device=centres.device)
    chosen = [centres[:, 0]]
    distance = torch.full(centres.shape[:2], torch.inf, device=centres.device)
    for _ in range(count - 1):
        apart = (centres - chosen[-1][:, None]).norm(dim=-1)
        distance = torch.minimum(distance, apart)
        chosen.append(centres[batch, distance.argmax(1)])
    return torch.stack(chosen, dim=1)


def _outside_earlier(centres: Tensor, half: Tensor, count: int) -> Tensor:
    """Keep the first place, then ever the next that lies in no earlier region of the first view."""
    batch = torch.arange(len(centres), device=centres.device)
    chosen = [centres[:, 0]]
    free = torch.ones(centres.shape[:2], dtype=torch.bool, device=centres.device)
    for number in range(1, count):
        inside = ((centres - chosen[-1][:, None]).abs() <= half[:, None]).all(-1)
        free &= ~inside
        # Where nothing is left, any other place does.
        pick = torch.where(free.any(1), free.float().argmax(1), number)
        chosen.append(centres[batch, pick])
    return torch.stack(chosen, dim=1)


def _box(maps: Tensor, centres: Tensor, side: float) -> Tensor:
    """Upright squares of a view around places of the window."""
    back = invert(maps)
    middle = centres @ back[..., :2].transpose(-1, -2) + back[..., 2].unsqueeze(-2)
    linear = side * torch.eye(2, device=maps.device, dtype=maps.dtype)
    return torch.cat([linear.expand(*middle.shape[:2], 2, 2), middle[..., None]], -1)
