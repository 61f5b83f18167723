"""Cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from wholescene.errors import InputError
from wholescene.losses.pixels import Pixels, WeightedLoss, ratio

__all__ = ["CrossEntropy"]


class CrossEntropy(WeightedLoss):
    """Mean over valid pixels of ``-log p(label)``, weighted by the label's class weight.

    Args:
        class_weights: One weight per class, or ``None``.
        label_smoothing: Share of the label spread evenly over all classes, 0 <= s < 1.

    Source:
        As ``torch.nn.functional.cross_entropy``; differs only in being 0 instead of NaN without
        valid pixels.
    """

    def __init__(
        self,
        class_weights: Tensor | Sequence[float] | None = None,
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights)
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing {label_smoothing} is outside 0 <= s < 1")
        self.label_smoothing = label_smoothing

    def compare(self, pixels: Pixels) -> Tensor:
        """Compute the loss of flattened, masked pixels."""
        weights = self.weights_like(pixels.logits)
        # As one image of 1 x N pixels, which needs no copy.
        losses = F.cross_entropy(
            pixels.logits.unsqueeze(0),
            pixels.target.unsqueeze(0),
            weight=weights,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        counted = weights[pixels.target] * pixels.valid
        total = pixels.sums.total
        return ratio(total((losses.squeeze(0) * pixels.valid).sum()), total(counted.sum()))
