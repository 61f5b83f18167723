"""Square windows of a batch of images: counting in them, choosing them, cutting them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Place", "choose_windows", "cut_windows", "window_sums"]

FEW = 8
"""The published choice falls back to an eighth of its budget where objects are rare."""


class Place(NamedTuple):
    """A window: image of the batch, upper row, left column, side."""

    image: int
    top: int
    left: int
    side: int

    def inside(self, height: int, width: int) -> tuple[int, slice, slice]:
        """Image, rows and columns as far as the image goes."""
        rows = slice(self.top, min(self.top + self.side, height))
        return self.image, rows, slice(self.left, min(self.left + self.side, width))


def window_sums(mask: Tensor, side: int, stride: int) -> Tensor:
    """Pixels of a mask (B, H, W) in each window, (B, rows, columns).

    Windows start at multiples of ``stride``; with ``stride == side`` the last ones may reach
    beyond the image, else all lie inside.
    """
    rows, cols = (-s % side if stride == side else 0 for s in mask.shape[-2:])
    padded = F.pad(mask.float()[:, None], (0, cols, 0, rows))
    counts = F.avg_pool2d(padded, side, stride)[:, 0] * side**2
    return counts.round().to(torch.int64)


def cut_windows(
    batch: Tensor,
    places: Sequence[Place],
    side: int,
    *,
    margin: int = 0,
    context: tuple[int, int] = (0, 0),
    fill: float = 0.0,
) -> Tensor:
    """Cut windows and a margin around them out of a batch.

    Args:
        batch: (B, C, above + H + below, W).
        places: Windows, by rows and columns without the context.
        side: Side of a window.
        margin: Pixels around it that are cut out as well.
        context: Rows of the batch above and below.
        fill: What lies beyond the batch.

    Returns:
        (N, C, side + 2 margin, side + 2 margin).
    """
    above, below = context
    height, width = batch.shape[-2] - above - below, batch.shape[-1]
    bottom = max([0, *(place.top + side - height for place in places)])
    right = max([0, *(place.left + side - width for place in places)])
    # Negative padding cuts context off that is not needed.
    around = (margin, margin + right, margin - above, margin + bottom - below)
    padded = F.pad(batch, around, value=fill) if any(around) else batch
    whole = side + 2 * margin
    return torch.stack(
        [padded[i, :, top : top + whole, left : left + whole] for i, top, left, _ in places]
    )


def choose_windows(
    found: Tensor,
    true: Tensor,
    *,
    side: int,
    stride: int,
    budget: int,
    empty_share: float,
    faithful: bool = False,
) -> list[Place]:
    """Windows worth training on.

    Args:
        found: Where the coarse network finds small objects, (B, H, W).
        true: Where they are.
        side: Side of a window.
        stride: Distance of the windows to choose from.
        budget: Windows of an image.
        empty_share: Share of the budget drawn at random among all windows.
        faithful: As published: over the batch, those with most found pixels; if fewer than the
            budget have any, only an eighth of it.

    Returns:
        At least one window of each image (of the batch, where faithful).
    """
    if faithful:
        return _most_found(window_sums(found, side, stride), side, stride, budget * len(found))
    wanted = torch.maximum(window_sums(found, side, stride), window_sums(true, side, stride))
    places: list[Place] = []
    for index, counts in enumerate(wanted.cpu()):
        num_random = max(1, round(budget * empty_share))
        apart = _far_apart(counts, budget - num_random, max(1, side // (2 * stride)))
        drawn = torch.randint(counts.numel(), (num_random,))
        apart += [divmod(int(i), counts.shape[1]) for i in drawn]
        places += [Place(index, y * stride, x * stride, side) for y, x in apart]
    return places


def _far_apart(counts: Tensor, budget: int, reach: int) -> list[tuple[int, int]]:
    """Greedily take the fullest window and strike out those that overlap it by more than half."""
    left = counts.clone()
    taken: list[tuple[int, int]] = []
    while len(taken) < budget and int(left.max()) > 0:
        y, x = divmod(int(left.argmax()), left.shape[1])
        taken.append((y, x))
        left[max(0, y - reach + 1) : y + reach, max(0, x - reach + 1) : x + reach] = 0
    return taken


def _most_found(counts: Tensor, side: int, stride: int, budget: int) -> list[Place]:
    flat = counts.flatten().cpu()
    is_enough = int((flat > 0).sum()) >= budget
    number = min(flat.numel(), budget if is_enough else max(1, budget // FEW))
    order = flat.topk(number).indices
    rows, cols = counts.shape[1:]
    return [
        Place(int(i) // (rows * cols), int(i) // cols % rows * stride, int(i) % cols * stride, side)
        for i in order
    ]
