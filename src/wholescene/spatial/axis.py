"""Which inputs an output needs, along one axis, in global coordinates.

Every operator's rule, however it is executed, is a pair of arrays: output ``i`` needs inputs
``[lo[i], hi[i])``. Coordinates are not clamped: what lies below 0 or beyond ``num_in`` is the
scene's true border, and the operator says what stands there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError

__all__ = [
    "AxisNeed",
    "identity_need",
    "index_need",
    "scaled_need",
    "transposed_need",
    "whole_need",
    "window_need",
]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AxisNeed:
    """The rule of one operator along one axis.

    Args:
        lo: First input of each output, unclamped.
        hi: One past the last input of each output, unclamped; ``hi > lo``.
        num_in: Inputs along the axis.
    """

    lo: Ints
    hi: Ints
    num_in: int

    @property
    def num_out(self) -> int:
        """Outputs along the axis."""
        return len(self.lo)

    def need(self, start: int, stop: int) -> tuple[int, int]:
        """Inputs that outputs ``[start, stop)`` need, unclamped; empty for no outputs."""
        if start >= stop:
            return (int(self._low_from[start]),) * 2 if start < self.num_out else (self.num_in,) * 2
        if self.is_monotone:
            return int(self.lo[start]), int(self.hi[stop - 1])
        return int(self.lo[start:stop].min()), int(self.hi[start:stop].max())

    def clamped(self, start: int, stop: int) -> tuple[int, int]:
        """Like :meth:`need`, inside ``[0, num_in]``; never empty where outputs are asked for.

        A window wholly beyond the border still names the pixel next to it, so that there is a
        tensor to work on.
        """
        low, high = self.need(start, stop)
        if start >= stop:
            return (min(max(low, 0), self.num_in),) * 2
        low = min(max(low, 0), self.num_in - 1)
        return low, max(min(high, self.num_in), low + 1)

    def ready(self, available: int) -> int:
        """Outputs, counted from 0, that can be computed from inputs ``[0, available)``."""
        if available >= self.num_in:
            return self.num_out
        return int(np.searchsorted(self._high_until, available, side="right"))

    def keep_from(self, done: int) -> int:
        """First input still needed once outputs ``[0, done)`` are computed."""
        if done >= self.num_out:
            return self.num_in
        return min(max(int(self._low_from[done]), 0), self.num_in)

    @cached_property
    def is_monotone(self) -> bool:
        """Whether later outputs never need earlier inputs than their predecessors."""
        return bool((np.diff(self.lo) >= 0).all() and (np.diff(self.hi) >= 0).all())

    @cached_property
    def _high_until(self) -> Ints:
        return np.maximum.accumulate(np.clip(self.hi, 1, self.num_in))

    @cached_property
    def _low_from(self) -> Ints:
        low = np.minimum(self.lo, self.num_in - 1)
        return np.minimum.accumulate(low[::-1])[::-1]


@lru_cache(maxsize=256)
def identity_need(size: int) -> AxisNeed:
    """Output ``i`` needs input ``i``."""
    index = np.arange(size, dtype=np.int64)
    return AxisNeed(index, index + 1, size)


@lru_cache(maxsize=256)
def whole_need(num_in: int, num_out: int) -> AxisNeed:
    """Every output needs every input."""
    return AxisNeed(np.zeros(num_out, np.int64), np.full(num_out, num_in, np.int64), num_in)


@lru_cache(maxsize=256)
def window_need(
    num_in: int, num_out: int, *, kernel: int, stride: int = 1, dilation: int = 1, padding: int = 0
) -> AxisNeed:
    """Convolution or pooling: output ``i`` reads from ``i * stride - padding`` on.

    Args:
        num_in: Inputs along the axis.
        num_out: Outputs along the axis.
        kernel: Taps, >= 1.
        stride: Step in inputs, >= 1.
        dilation: Distance between taps in inputs, >= 1.
        padding: Inputs before the border.

    Raises:
        InputError: If a value is out of range.
    """
    if min(kernel, stride, dilation) < 1:
        raise InputError(
            f"kernel {kernel}, stride {stride} and dilation {dilation} must each be at least 1"
        )
    start = np.arange(num_out, dtype=np.int64) * stride - padding
    return AxisNeed(start, start + dilation * (kernel - 1) + 1, num_in)


@lru_cache(maxsize=256)
def transposed_need(
    num_in: int, num_out: int, *, kernel: int, stride: int = 1, dilation: int = 1, padding: int = 0
) -> AxisNeed:
    """Transposed convolution: input ``j`` reaches outputs ``j * stride - padding + dilation * t``.

    Outputs that no tap reaches still name the nearest input, so that an interval is never empty.
    """
    out = np.arange(num_out, dtype=np.int64) + padding
    hi = out // stride + 1
    lo = -((dilation * (kernel - 1) - out) // stride)
    return AxisNeed(np.minimum(lo, hi - 1), hi, num_in)


def index_need(index: Ints, num_in: int) -> AxisNeed:
    """Output ``i`` is input ``index[i]``; a negative index is a constant and needs nothing new.

    Nearest resize, slices, rolls, flips and reflecting or replicating pads are all of this kind.
    """
    source = index.astype(np.int64)
    constant = source < 0
    if constant.any() and not constant.all():
        # A constant takes the place of its nearest neighbour that is none.
        known = np.flatnonzero(~constant)
        nearest = known[np.clip(np.searchsorted(known, np.arange(len(source))), 0, len(known) - 1)]
        source = np.where(constant, source[nearest], source)
    source = np.maximum(source, 0)
    return AxisNeed(source, source + 1, num_in)


@lru_cache(maxsize=256)
def scaled_need(num_in: int, num_out: int) -> AxisNeed:
    """A grid made coarser or finer by a whole factor: tiles of pixels, or pixels of tiles.

    Raises:
        InputError: If neither size is a multiple of the other.
    """
    index = np.arange(num_out, dtype=np.int64)
    if num_out and num_in % num_out == 0:
        factor = num_in // num_out
        return AxisNeed(index * factor, (index + 1) * factor, num_in)
    if num_in and num_out % num_in == 0:
        factor = num_out // num_in
        return AxisNeed(index // factor, index // factor + 1, num_in)
    raise InputError(f"a grid of {num_in} cannot become one of {num_out} by a whole factor")
