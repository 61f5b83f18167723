"""Random numbers that depend on nothing but a seed and the number of a sample."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["Purpose", "keyed_generator"]


class Purpose(IntEnum):
    """What the numbers are for; different purposes never share numbers."""

    WINDOW = 0
    ORDER = 1
    AUGMENT = 2
    NOISE = 3
    COLOR = 4


def keyed_generator(
    seed: int, index: int, *, purpose: Purpose, attempt: int = 0
) -> np.random.Generator:
    """Make the generator of one sample; equal arguments give equal numbers in every process.

    Args:
        seed: Seed of the run, 0 to 2**64 - 1.
        index: Number of the sample (or of the epoch), 0 to 2**64 - 1.
        purpose: What the numbers are for.
        attempt: Number of the redraw.

    Examples:
        >>> first = keyed_generator(1, 7, purpose=Purpose.WINDOW).random()
        >>> bool(first == keyed_generator(1, 7, purpose=Purpose.WINDOW).random())
        True
    """
    # Philox is a function of (key, counter); its low counter words are what drawing advances.
    key = np.array([seed, purpose], np.uint64)
    counter = np.array([0, 0, attempt, index], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
