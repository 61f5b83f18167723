"""What every loss does before its formula: check, mask, and compute in full precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.labels import IGNORE_INDEX
from wholescene.losses.weights import check_weights

__all__ = ["HERE", "Pixels", "Sums", "WeightedLoss", "prepare", "ratio"]


class Sums:
    """How sums over the pixels of a batch are made: here, of all there are.

    Where a batch is spread over processes, each has some of its pixels, and one of another kind
    adds up theirs, so that a loss is that of the whole batch in every process.
    """

    def total(self, part: Tensor) -> Tensor:
        """Sum over all pixels, from that over those that are here."""
        return part

    def everything(self, part: Tensor) -> Tensor:
        """All pixels, the last dimension, from those that are here."""
        return part


HERE = Sums()


class Pixels(NamedTuple):
    """Logits and labels of a batch, flattened to N = B * H * W pixels.

    Ignored pixels have logits 0 and label 0, so that nothing they held, NaN included, reaches a
    value or a gradient; ``valid`` tells them apart.

    Args:
        logits: (K, N).
        target: (N,), int64, 0 to K - 1.
        valid: (N,), bool.
        sums: How sums over them are made.
    """

    logits: Tensor
    target: Tensor
    valid: Tensor
    sums: Sums = HERE


class WeightedLoss(nn.Module):
    """A loss on logits with optional weights per class.

    Args:
        class_weights: One weight >= 0 per class; ``None`` weighs all the same.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | Sequence[float] | None = None) -> None:
        super().__init__()
        weights = None
        if class_weights is not None:
            weights = torch.as_tensor(class_weights, dtype=torch.float32)
            check_weights(weights.tolist())
        # Not persistent: a setting, not something learned.
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor, sums: Sums = HERE) -> Tensor:
        """Compare.

        Args:
            logits: (B, K, H, W), any float type.
            target: (B, H, W), int64, class indices and ``IGNORE_INDEX``.
            sums: How sums over pixels are made, if others are elsewhere.

        Returns:
            A scalar, float32 (float64 for float64 logits). Exactly 0, with zero gradient, if every
            pixel is ignored.
        """
        # Softmax, logarithm and long sums lose too much in 16 bits.
        with torch.autocast(logits.device.type, enabled=False):
            return self.compare(prepare(logits, target, self.class_weights)._replace(sums=sums))

    def compare(self, pixels: Pixels) -> Tensor:
        """Compute the loss of flattened, masked pixels."""
        raise NotImplementedError

    def weights_like(self, logits: Tensor) -> Tensor:
        """Weight of each class, 1 where none are set, (K,)."""
        if self.class_weights is None:
            return logits.new_ones(logits.shape[0])
        return self.class_weights.to(logits.dtype)


def prepare(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Pixels:
    """Check shapes, flatten, and blank ignored pixels.

    Raises:
        InputError: If the shapes do not fit.
    """
    if not torch.compiler.is_compiling():
        _check(logits, target, class_weights)
    full = logits if logits.dtype == torch.float64 else logits.float()
    valid = target != IGNORE_INDEX
    blanked = full.masked_fill(~valid.unsqueeze(1), 0.0)
    return Pixels(
        logits=blanked.transpose(0, 1).flatten(1),
        target=target.masked_fill(~valid, 0).flatten(),
        valid=valid.flatten(),
    )


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide by a sum >= 0; exactly 0, with zero gradient, where it is 0."""
    is_empty = denominator == 0
    # Both masks: dividing first would put NaN into the gradient.
    return numerator.masked_fill(is_empty, 0) / denominator.masked_fill(is_empty, 1)


def _check(logits: Tensor, target: Tensor, class_weights: Tensor | None) -> None:
    if logits.ndim != 4 or tuple(target.shape) != (logits.shape[0], *logits.shape[2:]):
        raise InputError(
            f"logits of shape {tuple(logits.shape)} and target of shape {tuple(target.shape)} are "
            "not (B, K, H, W) and (B, H, W)"
        )
    if class_weights is not None and class_weights.numel() != logits.shape[1]:
        raise InputError(
            f"{class_weights.numel()} class weights for {logits.shape[1]} classes; give "
            "loss.class_weights one number per class"
        )
