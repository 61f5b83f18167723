"""Losses at points of an image instead of all pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.labels import IGNORE_INDEX
from wholescene.losses.pixels import ratio

__all__ = ["labels_at", "point_cross_entropy", "sample_at", "uncertain_points"]


def sample_at(maps: Tensor, points: Tensor) -> Tensor:
    """Interpolate maps bilinearly at points, as a resize without aligned corners would.

    Args:
        maps: (B, C, h, w).
        points: (B, P, 2), x and y from 0 (left, top border) to 1 (right, bottom border).

    Returns:
        (B, C, P).
    """
    grid = (2 * points - 1).unsqueeze(1).to(maps.dtype)
    found = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return found.squeeze(2)


def labels_at(target: Tensor, points: Tensor) -> Tensor:
    """Label of the pixel each point lies in.

    Args:
        target: (B, H, W).
        points: As for :func:`sample_at`.

    Returns:
        (B, P).
    """
    height, width = target.shape[-2:]
    col = (points[..., 0] * width).long().clamp(0, width - 1)
    row = (points[..., 1] * height).long().clamp(0, height - 1)
    return target.flatten(1).gather(1, row * width + col)


def uncertain_points(
    logits: Tensor, count: int, *, oversample: float = 3.0, importance: float = 0.75
) -> Tensor:
    """Draw points, most of them where logits are uncertain.

    Args:
        logits: (B, C, h, w). With one channel uncertainty is nearness to 0, with several the
            nearness of the two largest.
        count: Points per image.
        oversample: Points drawn for each one kept, >= 1.
        importance: Share of the points taken for being uncertain; the others are anywhere.

    Returns:
        (B, count, 2), as for :func:`sample_at`.
    """
    batch = logits.shape[0]
    candidates = torch.rand(batch, int(count * oversample), 2, device=logits.device)
    values = sample_at(logits.float(), candidates)
    if values.shape[1] == 1:
        margin = values[:, 0].abs()
    else:
        best = values.topk(2, dim=1).values
        margin = best[:, 0] - best[:, 1]
    num_uncertain = int(count * importance)
    chosen = margin.topk(num_uncertain, dim=1, largest=False).indices
    hard = candidates.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 2))
    anywhere = torch.rand(batch, count - num_uncertain, 2, device=logits.device)
    return torch.cat([hard, anywhere], dim=1)


def point_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the points that have a label; 0 if none has.

    Args:
        logits: (B, K, P).
        labels: (B, P), class indices and ``IGNORE_INDEX``.
    """
    with torch.autocast(logits.device.type, enabled=False):
        full = logits if logits.dtype == torch.float64 else logits.float()
        losses = F.cross_entropy(full, labels, ignore_index=IGNORE_INDEX, reduction="none")
        return ratio(losses.sum(), (labels != IGNORE_INDEX).sum().to(losses.dtype))
