"""Focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.losses.pixels import Pixels, WeightedLoss, ratio

__all__ = ["Focal"]


class Focal(WeightedLoss):
    """Cross-entropy in which pixels that are already right count less.

    Mean over valid pixels of ``(1 - p)^gamma * -log p``, ``p`` the probability of the label,
    weighted by the label's class weight. With ``gamma`` 0 it is the cross-entropy.

    Args:
        class_weights: One weight per class (``alpha`` in the paper), or ``None``.
        gamma: Strength, >= 0.

    Source:
        Lin et al. 2017, arXiv:1708.02002, on a softmax, and averaged over all valid pixels.
    """

    def __init__(
        self, class_weights: Tensor | Sequence[float] | None = None, *, gamma: float = 2.0
    ) -> None:
        super().__init__(class_weights)
        if gamma < 0:
            raise InputError(f"focal gamma {gamma} is negative; set loss.focal_gamma >= 0")
        self.gamma = gamma

    def compare(self, pixels: Pixels) -> Tensor:
        """Compute the loss of flattened, masked pixels."""
        log_probs = pixels.logits.log_softmax(0)
        log_p = log_probs.gather(0, pixels.target.unsqueeze(0)).squeeze(0)
        # 1 - p without cancellation; kept off 0, where a power below 1 has no slope.
        rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps)
        weights = self.weights_like(log_probs)[pixels.target] * pixels.valid
        total = pixels.sums.total
        return ratio(total((-log_p * rest**self.gamma * weights).sum()), total(weights.sum()))
