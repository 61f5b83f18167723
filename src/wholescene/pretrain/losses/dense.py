"""Dense terms: DenseCL's contrast of matched cells and PixPro's agreement of near cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.pretrain.geometry import apply, grid_points
from wholescene.pretrain.losses.contrastive import info_nce
from wholescene.pretrain.precision import in_float32

__all__ = ["cell_diagonals", "cell_places", "dense_info_nce", "near_cells", "near_agreement"]

# Letters: B images, P cells of a grid, D features.


@in_float32
def dense_info_nce(
    query: Tensor,
    key: Tensor,
    negatives: Tensor,
    *,
    query_features: Tensor,
    key_features: Tensor,
    temperature: float,
) -> Tensor:
    """InfoNCE of each cell with the cell of the other view whose encoder features are most alike.

    Args:
        query: Dense projections of the query view, (B, P, D).
        key: Those of the key view, from the momentum network, (B, P, D).
        negatives: Queue of pooled dense keys of other images, (K, D).
        query_features: What the encoder gave for each cell, (B, P, C).
        key_features: Likewise for the key view.
        temperature: Divides the cosines.

    Source:
        Wang et al. 2021, arXiv:2011.09157.
    """
    alike = F.normalize(query_features.float(), dim=2) @ F.normalize(
        key_features.float(), dim=2
    ).transpose(1, 2)
    match = alike.argmax(2)[..., None].expand(-1, -1, key.shape[2])
    matched = key.gather(1, match)
    return info_nce(query.flatten(0, 1), matched.flatten(0, 1), negatives, temperature=temperature)


def cell_places(maps: Tensor, size: tuple[int, int], window_px: int) -> Tensor:
    """Middles of the cells of a view's feature grid, in pixels of its window.

    Args:
        maps: From view to window, (B, 2, 3).
        size: Rows and columns of the grid.
        window_px: Side of the window.

    Returns:
        (B, P, 2) as x and y.
    """
    points = apply(maps.float(), grid_points(*size, like=maps.float()))
    places: Tensor = (points + 1) / 2 * window_px
    return places


def cell_diagonals(maps: Tensor, size: tuple[int, int], window_px: int) -> Tensor:
    """Diagonal of a cell of each view's grid, in pixels of its window, (B,)."""
    half = maps[..., :2].abs()  # how far one view unit goes in x and in y
    per_cell = half * window_px / torch.tensor([size[1], size[0]], device=maps.device)
    diagonals: Tensor = torch.linalg.vector_norm(per_cell.sum(-1), dim=-1)
    return diagonals


@in_float32
def near_cells(
    first: Tensor, second: Tensor, size: tuple[int, int], *, window_px: int, reach: float = 0.7
) -> Tensor:
    """Pairs of cells of two views whose places are near in the window.

    Args:
        first: Map of the first view of each window, (B, 2, 3).
        second: Likewise of the second.
        size: Rows and columns of both grids.
        window_px: Side of the window.
        reach: Largest distance, in diagonals of the larger cell.

    Returns:
        Boolean (B, P, P).

    Source:
        Xie et al. 2021, arXiv:2011.10043 (PixPro).
    """
    here, there = (cell_places(maps, size, window_px) for maps in (first, second))
    own, other = (cell_diagonals(maps, size, window_px) for maps in (first, second))
    return torch.cdist(here, there) < reach * torch.maximum(own, other)[:, None, None]


@in_float32
def near_agreement(prediction: Tensor, target: Tensor, near: Tensor) -> Tensor:
    """PixPro's loss of one direction: ``-2 cos`` over all near pairs of an image.

    Args:
        prediction: Propagated features of one view, (B, P, D).
        target: Features of the other view from the momentum network, (B, P, D); no gradient.
        near: From :func:`near_cells`, (B, P, P).

    Returns:
        Mean over near pairs of each image, then over images; images without a pair count 0.
    """
    cosines = F.normalize(prediction.float(), dim=2) @ F.normalize(
        target.float().detach(), dim=2
    ).transpose(1, 2)
    pairs = near.sum((1, 2))
    agreement = (cosines * near).sum((1, 2)) / pairs.clamp_min(1)
    return -2 * agreement.mean()
