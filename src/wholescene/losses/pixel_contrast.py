"""Contrast between pixels: features of one class alike, of different classes unlike."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.labels import IGNORE_INDEX
from wholescene.losses.pixels import ratio

__all__ = ["PixelContrast", "contrast"]

BASE_TEMPERATURE = 0.07
"""The loss is divided by this, times the temperature."""


class PixelContrast(nn.Module):
    """InfoNCE with labels, on a few pixels of each class of each image.

    About half of the pixels are ones the network gets wrong. They are drawn from torch's random
    numbers of the CPU, whatever the device.

    Args:
        temperature: The smaller, the more the nearest vectors count.
        max_anchors: Pixels per batch, at most.
        max_views: Pixels per class and image, at most.
        min_pixels: A class of an image counts if it has more than this many pixels.

    Source:
        Wang et al. 2021, arXiv:2101.11939, as PaddleSeg has it; 0 instead of a division by zero
        where no class has enough pixels, and pixels without a partner are left out.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        max_anchors: int = 1024,
        max_views: int = 100,
        min_pixels: int = 100,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.max_anchors = max_anchors
        self.max_views = max_views
        self.min_pixels = min_pixels

    def forward(self, embeddings: Tensor, predicted: Tensor, target: Tensor) -> Tensor:
        """Compare.

        Args:
            embeddings: (B, D, h, w), of length 1 along D.
            predicted: Class indices the network gives, (B, h, w).
            target: Class indices and ``IGNORE_INDEX``, (B, H, W); the nearest is taken where sizes
                differ.

        Returns:
            A scalar, float32 (float64 for float64 embeddings). Exactly 0, with zero gradient, where
            no class of no image has more than ``min_pixels``.

        Raises:
            InputError: If the shapes do not fit.
        """
        _check(embeddings, predicted, target)
        with torch.autocast(embeddings.device.type, enabled=False):
            full = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
            labels = _shrink(target, (predicted.shape[1], predicted.shape[2]))
            places, classes = self._draw(labels, predicted)
            if not len(places):
                return full.sum() * 0
            vectors = full.permute(0, 2, 3, 1).flatten(0, 2)[places]
            return contrast(vectors, classes, self.temperature)

    def _draw(self, labels: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """Choose pixels: their places in the flattened batch, and their classes."""
        groups = [
            (image, int(label))
            for image, held in enumerate(labels)
            for label, count in zip(*held.unique(return_counts=True), strict=True)
            if label != IGNORE_INDEX and count > self.min_pixels
        ]
        num_views = min(self.max_views, max(1, self.max_anchors // max(1, len(groups))))
        places = [
            image * labels[0].numel()
            + _half_wrong(
                (labels[image] == label).flatten(), predicted[image].flatten() == label, num_views
            )
            for image, label in groups
        ]
        if not places:
            return labels.new_empty(0), labels.new_empty(0)
        flat = torch.cat(places)
        return flat, labels.flatten()[flat]


def contrast(vectors: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """InfoNCE of each vector with every other of its class against those of other classes.

    ``-log(e^s_ip / (e^s_ip + sum over other classes e^s_in))`` with ``s`` the product divided by
    the temperature, averaged over the partners p and then over the vectors i that have any, times
    temperature / 0.07.

    Args:
        vectors: (N, D).
        classes: (N,).
        temperature: > 0.
    """
    scores = vectors @ vectors.T / temperature
    same = classes[:, None] == classes
    others = scores.masked_fill(same, float("-inf")).logsumexp(1, keepdim=True)
    losses = F.softplus(others - scores)
    partners = same & ~torch.eye(len(classes), dtype=torch.bool, device=same.device)
    each = ratio((losses * partners).sum(1), partners.sum(1).to(losses.dtype))
    has_any = partners.any(1).sum().to(losses.dtype)
    return ratio(each.sum(), has_any) * (temperature / BASE_TEMPERATURE)


def _half_wrong(in_class: Tensor, right: Tensor, count: int) -> Tensor:
    """Choose ``count`` pixels of a class at random, half of them wrong if there are enough."""
    wrong, good = ((in_class & mask).nonzero().flatten() for mask in (~right, right))
    count = min(count, len(wrong) + len(good))
    num_wrong = min(len(wrong), max(count // 2, count - len(good)))
    parts = [_some(wrong, num_wrong), _some(good, count - num_wrong)]
    return torch.cat(parts)


def _some(places: Tensor, count: int) -> Tensor:
    return places[torch.randperm(len(places))[:count].to(places.device)]


def _shrink(target: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels at another size, each the one at the pixel's first corner."""
    rows, cols = (
        torch.arange(new, device=target.device) * old // new
        for new, old in zip(size, target.shape[-2:], strict=True)
    )
    return target[:, rows[:, None], cols]


def _check(embeddings: Tensor, predicted: Tensor, target: Tensor) -> None:
    if (
        embeddings.ndim != 4
        or tuple(predicted.shape) != (len(embeddings), *embeddings.shape[2:])
        or target.ndim != 3
        or len(target) != len(embeddings)
    ):
        raise InputError(
            f"embeddings of shape {tuple(embeddings.shape)}, predictions of shape "
            f"{tuple(predicted.shape)} and target of shape {tuple(target.shape)} are not "
            "(B, D, h, w), (B, h, w) and (B, H, W)"
        )
