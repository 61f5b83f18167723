"""Class weights from the frequencies of the training labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wholescene.errors import InputError

__all__ = ["check_weights", "frequency_weights"]


def check_weights(weights: Sequence[float]) -> None:
    """Check that class weights are usable.

    Raises:
        InputError: If one is negative or not finite, or none is > 0.
    """
    usable = all(math.isfinite(w) and w >= 0 for w in weights) and any(w > 0 for w in weights)
    if not usable:
        raise InputError(
            f"class weights {list(weights)} are not finite numbers >= 0 with at least one > 0; "
            "correct loss.class_weights"
        )


def frequency_weights(counts: Sequence[int], *, power: float) -> tuple[float, ...]:
    """Weigh classes by ``frequency ** -power``, such that the average pixel weighs 1.

    Args:
        counts: Labelled pixels of each class, >= 0, at least one > 0.
        power: 1 makes all classes count the same in total, 0.5 is half-way to that.

    Returns:
        One weight per class; a class without pixels gets that of the rarest class.

    Raises:
        InputError: If nothing is labelled.

    Examples:
        >>> frequency_weights([90, 10], power=1)
        (0.5555555555555556, 5.0)
    """
    if not counts or min(counts) < 0 or sum(counts) == 0:
        raise InputError(
            f"class counts {list(counts)} give no frequencies; label some training pixels, or set "
            "loss.class_weights = 'none'"
        )
    rarest = min(n for n in counts if n > 0)
    raw = [max(n, rarest) ** -power for n in counts]
    average = sum(n * w for n, w in zip(counts, raw, strict=True)) / sum(counts)
    return tuple(w / average for w in raw)
