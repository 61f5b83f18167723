"""Loss of networks that predict a set of masks, each with a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wholescene.labels import IGNORE_INDEX
from wholescene.losses.point import labels_at, sample_at, uncertain_points

__all__ = ["MaskLoss", "MaskSet", "assign", "semantic_logits"]

FLOOR = 1e-6
"""Added to scores before the logarithm, so that it is finite."""


class MaskSet(NamedTuple):
    """What such a network predicts.

    Args:
        classes: Logits (B, Q, K + 1); the last is "no object".
        masks: Logits (B, Q, h, w).
    """

    classes: Tensor
    masks: Tensor


class Pairs(NamedTuple):
    """Predictions that have a region to match, over the whole batch.

    Args:
        image: Index of the image, (M,).
        query: Index of the prediction in the image, (M,).
        label: Class of the region, (M,).
    """

    image: Tensor
    query: Tensor
    label: Tensor


def semantic_logits(found: MaskSet) -> Tensor:
    """Logarithm of each pixel's sum over predictions of class times mask probability.

    Returns:
        (B, K, h, w).
    """
    classes = found.classes.softmax(-1)[..., :-1]
    return (torch.einsum("bqk,bqhw->bkhw", classes, found.masks.sigmoid()) + FLOOR).log()


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLoss:
    """Cross-entropy of the classes, and binary cross-entropy and Dice of matched masks.

    The regions of an image are its classes, one region each. Masks are compared at points, most of
    them where the mask is uncertain; points on ignored pixels count nowhere.

    Args:
        matching: ``"hungarian"`` pairs regions and predictions so that the loss is least;
            ``"by class"`` pairs class c with prediction c.
        class_weight: Weight of the class term.
        mask_weight: Weight of the binary cross-entropy.
        dice_weight: Weight of the Dice term.
        no_object_weight: Weight of "no object" within the class term.
        points: Points per mask.
        focal: Whether the binary cross-entropy is focal (alpha 0.25, gamma 2).

    Source:
        Cheng et al. 2022, arXiv:2112.01527 (Mask2Former); its masks are targets interpolated at
        the points, these are the pixel's own label, and it averages over the masks of all ranks.
    """

    matching: str = "hungarian"
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    points: int = 12544
    focal: bool = False

    def __call__(self, sets: Sequence[MaskSet], target: Tensor) -> Tensor:
        """Sum of the loss over predictions of several layers.

        Args:
            sets: From each layer that predicts.
            target: (B, H, W), class indices and ``IGNORE_INDEX``.

        Returns:
            A scalar.
        """
        with torch.autocast(target.device.type, enabled=False):
            full = [MaskSet(*map(_in_full, found)) for found in sets]
            return torch.stack([self._of_one(found, target) for found in full]).sum()

    def _of_one(self, found: MaskSet, target: Tensor) -> Tensor:
        pairs = self._pairs(found, target)
        wanted = torch.full(
            found.classes.shape[:2], found.classes.shape[2] - 1, device=target.device
        )
        wanted[pairs.image, pairs.query] = pairs.label
        weight = found.classes.new_ones(found.classes.shape[2])
        weight[-1] = self.no_object_weight
        classes = F.cross_entropy(found.classes.transpose(1, 2), wanted, weight)
        # The sum keeps every mask in the graph where no region matches any.
        masks = found.masks.sum() * 0.0
        if len(pairs.image):
            masks = masks + self._of_masks(found.masks, target, pairs)
        return self.class_weight * classes + masks

    def _of_masks(self, masks: Tensor, target: Tensor, pairs: Pairs) -> Tensor:
        matched = masks[pairs.image, pairs.query].unsqueeze(1)
        points = uncertain_points(matched.detach(), self.points)
        labels = labels_at(target[pairs.image], points)
        logits = sample_at(matched, points).squeeze(1)
        truth = (labels == pairs.label.unsqueeze(1)).to(logits.dtype)
        valid = (labels != IGNORE_INDEX).to(logits.dtype)
        entropy = binary_losses(logits, truth, focal=self.focal)
        mean = (entropy * valid).sum(1) / valid.sum(1).clamp_min(1)
        dice = dice_losses(logits, truth, valid)
        return (self.mask_weight * mean + self.dice_weight * dice).mean()

    @torch.no_grad()
    def _pairs(self, found: MaskSet, target: Tensor) -> Pairs:
        chosen = [
            self._of_image(classes, masks, labels)
            for classes, masks, labels in zip(*found, target, strict=True)
        ]
        image = [torch.full_like(query, i) for i, (query, _) in enumerate(chosen)]
        queries, labels = zip(*chosen, strict=True)
        return Pairs(torch.cat(image), torch.cat(queries), torch.cat(labels))

    def _of_image(self, classes: Tensor, masks: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction and class of each region of one image."""
        labels = torch.unique(target)
        labels = labels[labels != IGNORE_INDEX]
        if self.matching == "by class" or not len(labels):
            return labels, labels
        cost = self._costs(classes, masks, target, labels)
        queries = assign(cost.nan_to_num(1e6, 1e6, -1e6).double().cpu().numpy())
        return torch.from_numpy(queries).to(target.device), labels

    def _costs(self, classes: Tensor, masks: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        """Loss (regions, predictions) that each pair would have."""
        points = torch.rand(1, self.points, 2, device=masks.device)
        logits = sample_at(masks.unsqueeze(0), points)[0]
        at = labels_at(target.unsqueeze(0), points)[0]
        logits, at = logits[:, at != IGNORE_INDEX], at[at != IGNORE_INDEX]
        truth = (at == labels.unsqueeze(1)).to(logits.dtype)
        yes = binary_losses(logits, torch.ones_like(logits), focal=self.focal)
        no = binary_losses(logits, torch.zeros_like(logits), focal=self.focal)
        entropy = (truth @ yes.T + (1 - truth) @ no.T) / max(1, len(at))
        probs = logits.sigmoid()
        overlap = truth @ probs.T
        dice = 1 - (2 * overlap + 1) / (truth.sum(1, keepdim=True) + probs.sum(1) + 1)
        likelihood = classes.softmax(-1)[:, labels].T
        return self.mask_weight * entropy + self.dice_weight * dice - self.class_weight * likelihood


def _in_full(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def binary_losses(logits: Tensor, truth: Tensor, *, focal: bool = False) -> Tensor:
    """Binary cross-entropy of each element, focal or not."""
    losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    if not focal:
        return losses
    probs = logits.sigmoid()
    wrong = probs * (1 - truth) + (1 - probs) * truth
    return losses * wrong.square() * (0.25 * truth + 0.75 * (1 - truth))


def dice_losses(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """One minus the Dice score of each row, smoothed by one point."""
    probs = logits.sigmoid() * valid
    both = (probs * truth).sum(1)
    return 1 - (2 * both + 1) / (probs.sum(1) + (truth * valid).sum(1) + 1)


def assign(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give each row a column of its own, at the least total cost.

    Args:
        cost: (rows, columns), finite, no more rows than columns.

    Returns:
        A column for each row.

    Source:
        Hungarian method by shortest augmenting paths (Kuhn 1955; Jonker and Volgenant 1987).

    Examples:
        >>> assign(np.array([[1.0, 2.0, 9.0], [1.0, 9.0, 9.0]]))
        array([1, 0])
    """
    num_rows, num_cols = cost.shape
    # Row 0 and column 0 stand for "none"; owner[c] is the row that has column c.
    row_price, col_price = np.zeros(num_rows + 1), np.zeros(num_cols + 1)
    owner, previous = np.zeros((2, num_cols + 1), np.int64)
    for row in range(1, num_rows + 1):
        owner[0], col = row, 0
        slack = np.full(num_cols + 1, np.inf)
        seen = np.zeros(num_cols + 1, bool)
        while owner[col]:
            seen[col] = True
            offers = cost[owner[col] - 1] - row_price[owner[col]] - col_price[1:]
            better = np.flatnonzero(~seen[1:] & (offers < slack[1:])) + 1
            slack[better], previous[better] = offers[better - 1], col
            nearest = int(np.where(seen, np.inf, slack)[1:].argmin()) + 1
            step = slack[nearest]
            row_price[owner[seen]] += step
            col_price[seen] -= step
            slack[~seen] -= step
            col = nearest
        while col:
            owner[col] = owner[previous[col]]
            col = int(previous[col])
    columns = np.empty(num_rows, np.int64)
    taken = np.flatnonzero(owner[1:])
    columns[owner[1:][taken] - 1] = taken
    return columns
