"""Variance, invariance and covariance, of whole views and of matched places (VICRegL)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.pretrain.gather import gather, num_ranks
from wholescene.pretrain.precision import in_float32

__all__ = ["VicregWeights", "matched_vicreg", "nearest_features", "nearest_places", "vicreg"]

LEAST_STD = 1.0
SMALL = 1e-4

# Letters: N images, P places, D features.


@dataclass(frozen=True, slots=True, kw_only=True)
class VicregWeights:
    """Weights of the three terms."""

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0


@in_float32
def vicreg(first: Tensor, second: Tensor, weights: VicregWeights) -> Tensor:
    """Make pairs alike, every feature vary, and no two features say the same.

    Args:
        first: (N, D), or (P, N, D) for several places, whose losses are averaged.
        second: The partners.
        weights: Of the terms.

    Source:
        Bardes et al. 2022, arXiv:2105.04906. Statistics are over the images of all ranks.
    """
    first, second = first.float(), second.float()
    invariance = F.mse_loss(first, second)
    sides = [_gather_images(side) for side in (first, second)]
    variance = sum((_spread_loss(side) for side in sides), start=first.new_zeros(())) / 2
    covariance = sum((_covariance_loss(side) for side in sides), start=first.new_zeros(()))
    return (
        weights.invariance * invariance
        + weights.variance * variance
        + weights.covariance * covariance
    )


def _gather_images(rows: Tensor) -> Tensor:
    if num_ranks() == 1:
        return rows
    return gather(rows.transpose(0, -2).contiguous()).transpose(0, -2)


def _spread_loss(rows: Tensor) -> Tensor:
    return F.relu(LEAST_STD - (rows.var(-2) + SMALL).sqrt()).mean()


def _covariance_loss(rows: Tensor) -> Tensor:
    """Squares of the covariances off the diagonal, per feature."""
    centred = rows - rows.mean(-2, keepdim=True)
    covariance = centred.transpose(-1, -2) @ centred / (rows.shape[-2] - 1)
    off = covariance.square().sum((-1, -2)) - covariance.diagonal(dim1=-2, dim2=-1).square().sum(-1)
    return off.mean() / rows.shape[-1]


def nearest_places(first: Tensor, second: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` cells of the first view that lie nearest to a cell of the second.

    Args:
        first: Places of the cells, (N, P, 2).
        second: Likewise in the second view.
        count: Pairs of an image.

    Returns:
        Numbers of the cells in the first and in the second view, (N, count) each.
    """
    return _closest(torch.cdist(first, second), count)


def nearest_features(first: Tensor, second: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` cells of the first view whose features are nearest to a cell of the second."""
    return _closest(torch.cdist(first.detach().float(), second.detach().float()), count)


def _closest(distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    least, partner = distances.min(2)
    cells = least.topk(min(count, least.shape[1]), dim=1, largest=False).indices
    return cells, partner.gather(1, cells)


def matched_vicreg(
    first: Tensor, second: Tensor, match: tuple[Tensor, Tensor], weights: VicregWeights
) -> Tensor:
    """VICReg of matched cells; statistics are over images, for each place of the list of matches.

    Args:
        first: Local embeddings, (N, P, D).
        second: Likewise of the second view.
        match: Cells of each, from :func:`nearest_places` or :func:`nearest_features`.
        weights: Of the terms.

    Source:
        Bardes et al. 2022, arXiv:2210.01571.
    """
    taken = [
        side.gather(1, cells[..., None].expand(-1, -1, side.shape[2])).transpose(0, 1)
        for side, cells in zip((first, second), match, strict=True)
    ]
    return vicreg(taken[0], taken[1], weights)
