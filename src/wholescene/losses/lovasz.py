"""Lovasz-softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene.losses.pixels import Pixels, WeightedLoss, ratio

__all__ = ["Lovasz"]


class Lovasz(WeightedLoss):
    """Lovasz extension of one minus the IoU of each class, averaged over the labelled classes.

    The IoU is that of the whole batch. Classes without a label in the batch are left out; class
    weights weigh the average over the others.

    Source:
        Berman et al. 2018, arXiv:1705.08790. The slopes of the Jaccard loss are written in closed
        form instead of as differences of near-equal numbers, which float32 cannot take for batches
        of millions of pixels.
    """

    def compare(self, pixels: Pixels) -> Tensor:
        """Compute the loss of flattened, masked pixels."""
        everything = pixels.sums.everything
        probs = everything(pixels.logits.softmax(0))
        weights = self.weights_like(probs)
        valid = everything(pixels.valid)
        labels = torch.where(valid, everything(pixels.target), -1)
        counts = torch.bincount(labels[valid], minlength=probs.shape[0])
        # Zero, and part of the graph, if there is no class to add.
        total, share = pixels.logits.sum() * 0.0, weights.new_zeros(())
        for index in counts.nonzero().flatten().tolist():
            is_class = labels == index
            # Ignored pixels get error 0: they come last, where they add and change nothing.
            errors = (is_class.to(probs.dtype) - probs[index]).abs() * valid
            ordered, order = errors.sort(descending=True)
            total = total + weights[index] * (ordered * jaccard_slopes(is_class[order])).sum()
            share = share + weights[index]
        return ratio(total, share)


def jaccard_slopes(is_class: Tensor) -> Tensor:
    """How much ``1 - IoU`` grows with each further error, for pixels in order of error.

    After ``i`` errors the intersection has lost the class pixels among them and the union has
    gained the others. A class pixel adds ``1 / U_i``; another one adds ``I_i / (U_i - 1) / U_i``.

    Args:
        is_class: Whether each pixel has the class, largest error first; at least one has.

    Returns:
        float32, >= 0; together the loss of getting every pixel wrong, 1.
    """
    # Integers: float32 stops counting at 2^24 pixels.
    lost = is_class.cumsum(0)
    support = lost[-1]
    gained = (~is_class).cumsum(0)
    intersection, union = (support - lost).float(), (support + gained).float()
    return torch.where(is_class, 1 / union, intersection / ((union - 1).clamp_min(1) * union))
