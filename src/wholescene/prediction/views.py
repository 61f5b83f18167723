"""Test-time augmentation: the same network looks at a window several times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from wholescene.errors import InputError

__all__ = ["Views"]

MIN_SCALE, MAX_SCALE = 0.25, 4.0


@dataclass(frozen=True, slots=True)
class Views:
    """Which transformed copies of a window are averaged.

    Args:
        flips: Mirrored left to right, and top to bottom.
        turns: Turned by 90, 180 and 270 degrees; with flips, all eight symmetries of a square.
        scales: Resized by these factors, besides the size as it is.
    """

    flips: bool = False
    turns: bool = False
    scales: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str | None) -> Views:
        """Read ``"flips,turns,scales=0.75,1.25"``.

        Raises:
            InputError: If a word is unknown or a scale out of range.
        """
        words = [word.strip() for word in (text or "").split(",") if word.strip()]
        flips = turns = False
        scales: list[float] = []
        in_scales = False
        for word in words:
            if word in ("flips", "turns"):
                flips, turns = flips or word == "flips", turns or word == "turns"
                in_scales = False
                continue
            if not in_scales and not word.startswith("scales="):
                raise InputError(
                    f"tta {text!r}: {word!r} is unknown; use any of flips, turns, scales=0.75,1.25"
                )
            scales.append(_scale(word.removeprefix("scales="), text))
            in_scales = True
        return cls(flips, turns, tuple(scale for scale in scales if scale != 1))

    def __str__(self) -> str:
        parts = [name for name in ("flips", "turns") if getattr(self, name)]
        if self.scales:
            parts.append("scales=" + ",".join(f"{scale:g}" for scale in self.scales))
        return ",".join(parts) or "none"

    @property
    def count(self) -> int:
        """Forward passes per window."""
        return len(self._symmetries()) * (1 + len(self.scales))

    def average(self, image: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        """Mean of the class probabilities over all views, each turned back.

        Args:
            image: (B, C, H, W), normalised.
            forward: Gives probabilities (B, K, H, W).
        """
        total: Tensor | None = None
        for scale in (1.0, *self.scales):
            for turn, flip in self._symmetries():
                part = _turned_back(
                    forward(_resized(_turned(image, turn, flip), scale)), turn, flip
                )
                if scale != 1:
                    part = F.interpolate(part, image.shape[2:], mode="bilinear")
                total = part if total is None else total + part
        assert total is not None
        return total / self.count

    def _symmetries(self) -> list[tuple[int, bool]]:
        """Quarter turns and whether mirrored afterwards."""
        if self.turns:
            return [
                (turn, flip)
                for flip in ((False, True) if self.flips else (False,))
                for turn in range(4)
            ]
        # A flip from top to bottom is half a turn and a flip from left to right.
        return [(0, False), (0, True), (2, True)] if self.flips else [(0, False)]


def _scale(word: str, text: str | None) -> float:
    try:
        scale = float(word)
    except ValueError:
        scale = float("nan")
    if not MIN_SCALE <= scale <= MAX_SCALE:
        raise InputError(
            f"tta {text!r}: {word!r} is no scale; scales are numbers from {MIN_SCALE} to "
            f"{MAX_SCALE}"
        )
    return scale


def _turned(image: Tensor, turn: int, flip: bool) -> Tensor:
    image = image.rot90(turn, (2, 3)) if turn else image
    return image.flip(3) if flip else image


def _turned_back(image: Tensor, turn: int, flip: bool) -> Tensor:
    image = image.flip(3) if flip else image
    return image.rot90(-turn, (2, 3)) if turn else image


def _resized(image: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[2:]]
    return F.interpolate(image, size, mode="bilinear", antialias=scale < 1)
