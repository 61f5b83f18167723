"""Loss of a map that shall show where classes change."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.labels import IGNORE_INDEX

__all__ = ["detail_loss", "detail_target"]

STRIDES = (1, 2, 4)
PUBLISHED_WEIGHTS = (0.6, 0.3, 0.1)
THRESHOLD = 0.1


def detail_target(target: Tensor, *, faithful: bool = False) -> Tensor:
    """Mark pixels in whose 3 x 3 neighbourhood the class changes, looked at with strides 1, 2, 4.

    Args:
        target: (B, H, W), class indices and ``IGNORE_INDEX``, whose borders are no change.
        faithful: Convolve class numbers with a Laplacian as published: it sees the side with the
            larger number only, takes the border of ignored pixels for a change, and never counts
            what stride 4 alone shows.

    Returns:
        (B, H, W), 1 or 0.
    """
    numbers = target.unsqueeze(1).float()
    size = list(target.shape[-2:])
    changes = [_laplacian(numbers, s) if faithful else _differs(numbers, s) for s in STRIDES]
    full = [F.interpolate(change, size) for change in changes]
    if faithful:
        weighted = torch.stack([w * c for w, c in zip(PUBLISHED_WEIGHTS, full, strict=True)])
        return (weighted.sum(0) > THRESHOLD + 1e-6).float().squeeze(1)
    return torch.stack(full).amax(0).squeeze(1)


def detail_loss(logits: Tensor, target: Tensor, *, faithful: bool = False) -> Tensor:
    """Binary cross-entropy plus Dice loss of the changes of class.

    Args:
        logits: (B, 1, h, w), resized to the labels.
        target: As for :func:`detail_target`; ignored pixels count nowhere.
        faithful: As for :func:`detail_target`.

    Returns:
        A scalar.

    Source:
        Fan et al. 2021, arXiv:2104.13188.
    """
    with torch.autocast(logits.device.type, enabled=False):
        size = list(target.shape[-2:])
        grown = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)[:, 0]
        truth = detail_target(target, faithful=faithful)
        counted = torch.ones_like(truth) if faithful else (target != IGNORE_INDEX).float()
        entropy = F.binary_cross_entropy_with_logits(grown, truth, counted, reduction="sum")
        probs = (grown.sigmoid() * counted).flatten(1)
        truth = (truth * counted).flatten(1)
        both = (probs * truth).sum(1)
        dice = 1 - (2 * both + 1) / (probs.sum(1) + truth.sum(1) + 1)
        return entropy / counted.sum().clamp_min(1) + dice.mean()


def _differs(numbers: Tensor, stride: int) -> Tensor:
    """Whether the largest and smallest class of each neighbourhood differ."""
    ignored = numbers == IGNORE_INDEX
    largest = F.max_pool2d(numbers.masked_fill(ignored, -torch.inf), 3, stride, 1)
    smallest = -F.max_pool2d((-numbers).masked_fill(ignored, -torch.inf), 3, stride, 1)
    return (largest > smallest).float()


def _laplacian(numbers: Tensor, stride: int) -> Tensor:
    kernel = torch.full((1, 1, 3, 3), -1.0, device=numbers.device)
    kernel[..., 1, 1] = 8
    numbers = numbers.masked_fill(numbers == IGNORE_INDEX, 255)
    return (F.conv2d(numbers, kernel, stride=stride, padding=1) > THRESHOLD).float()
