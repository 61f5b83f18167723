"""Grids of windows that cover a scene."""

from __future__ import annotations

from collections.abc import Iterator

from wholescene.errors import InputError
from wholescene.geometry.window import Size, Window

__all__ = ["block_windows", "cover_starts", "grid_windows"]


def cover_starts(length: int, patch: int, stride: int) -> list[int]:
    """First pixels of patches along one axis; the last one is shifted back inside.

    Args:
        length: Pixels along the axis, >= 1.
        patch: Pixels of one patch, >= 1. A patch longer than the axis starts at 0.
        stride: Pixels between starts, 1 to ``patch``.

    Returns:
        Starts in increasing order; together the patches cover every pixel.

    Raises:
        InputError: If a value is out of range.

    Examples:
        >>> cover_starts(2000, 896, 512)
        [0, 512, 1024, 1104]
        >>> cover_starts(100, 512, 512)
        [0]
    """
    if length < 1 or patch < 1:
        raise InputError(f"cannot cover {length} px with patches of {patch} px; both must be >= 1")
    if not 1 <= stride <= patch:
        raise InputError(
            f"stride {stride} px leaves gaps between patches of {patch} px or does not advance; "
            f"choose 1..{patch}"
        )
    if length <= patch:
        return [0]
    starts = list(range(0, length - patch, stride))
    return [*starts, length - patch]


def grid_windows(size: Size, patch: Size, stride: Size) -> Iterator[Window]:
    """Patches that cover a scene, row by row; the last ones are shifted back inside.

    A patch larger than the scene keeps its size and reaches beyond the border.
    """
    for row in cover_starts(size.height, patch.height, stride.height):
        for col in cover_starts(size.width, patch.width, stride.width):
            yield Window(row_off=row, col_off=col, height=patch.height, width=patch.width)


def block_windows(size: Size, block: Size) -> Iterator[Window]:
    """Non-overlapping blocks that tile a scene, row by row; the last ones are cut off."""
    for row in range(0, size.height, block.height):
        for col in range(0, size.width, block.width):
            yield Window(
                row_off=row,
                col_off=col,
                height=min(block.height, size.height - row),
                width=min(block.width, size.width - col),
            )
