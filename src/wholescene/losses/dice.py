"""Soft Dice."""

from __future__ import annotations

import torch
from torch import Tensor

from wholescene.losses.pixels import Pixels, WeightedLoss, ratio

__all__ = ["Dice"]


class Dice(WeightedLoss):
    """One minus the soft Dice score of each class over the whole batch, averaged over classes.

    For class ``c``, with probabilities ``p`` and one-hot labels ``y`` of the valid pixels::

        loss_c = 1 - 2 * sum(p_c * y_c) / (sum(p_c) + sum(y_c))

    A class with no label in the batch is left out: its term is the constant 1 whatever is
    predicted, so it has no gradient, and would only make batches incomparable. Class weights weigh
    the average over the classes that are there.

    Source:
        Milletari et al. 2016, arXiv:1606.04797, without squares in the denominator.
    """

    def compare(self, pixels: Pixels) -> Tensor:
        """Compute the loss of flattened, masked pixels."""
        probs = pixels.logits.softmax(0) * pixels.valid
        index = torch.arange(probs.shape[0], device=probs.device).unsqueeze(1)
        is_label = (pixels.target == index) & pixels.valid
        total = pixels.sums.total
        support = total(is_label.sum(1))
        overlap = total((probs * is_label).sum(1))
        score = ratio(2 * overlap, total(probs.sum(1)) + support)
        weights = self.weights_like(probs) * (support > 0)
        return ratio(((1 - score) * weights).sum(), weights.sum())
