"""The rules by which published patches are cut from scenes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wholescene.errors import InputError
from wholescene.geometry.grid import cover_starts, grid_windows
from wholescene.geometry.window import Size, Window

__all__ = ["TileRule", "count_tiles", "tile_starts"]


@dataclass(frozen=True)
class TileRule:
    """How square patches are laid over a scene.

    Args:
        size: Side of a patch, px.
        stride: Declared distance of patches, px, at most ``size``.
        stride_ignored: Whether patches lie edge to edge whatever ``stride`` says, as the tools
            behind the published ISPRS patches have it.

    Raises:
        InputError: If a number is out of range.
    """

    size: int
    stride: int
    stride_ignored: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"patches of {self.size} px hold no pixel; choose --tiles >= 1")
        if self.stride < 1:
            raise InputError(
                f"a stride of {self.stride} px does not advance; choose --stride 1..{self.size}"
            )
        if self.stride > self.size:
            raise InputError(
                f"a stride of {self.stride} px leaves gaps between patches of {self.size} px; "
                f"choose --stride 1..{self.size}"
            )

    @property
    def step(self) -> int:
        """Distance of patches that has effect, px."""
        return self.size if self.stride_ignored else self.stride

    def windows(self, scene: Size) -> Iterator[Window]:
        """Patches of a scene, row by row; they reach beyond it only where it is smaller."""
        yield from grid_windows(scene, Size(self.size, self.size), Size(self.step, self.step))

    def count(self, scene: Size) -> int:
        """Number of patches of a scene."""
        rows, cols = (len(cover_starts(side, self.size, self.step)) for side in scene)
        return rows * cols


def tile_starts(side: int, size: int, stride: int, *, stride_ignored: bool = False) -> list[int]:
    """First pixels of patches along one side of a scene; the last is shifted back to its end.

    Args:
        side: Pixels along the side, >= 1; a side shorter than ``size`` has one start, 0.
        size: Side of a patch, px.
        stride: Declared distance of patches, px, at most ``size``.
        stride_ignored: Lay patches edge to edge whatever ``stride`` says.

    Returns:
        Starts in increasing order, each once.

    Raises:
        InputError: If a number is out of range.

    Examples:
        >>> tile_starts(2000, 896, 512)
        [0, 512, 1024, 1104]
        >>> len(tile_starts(6000, 512, 256)), len(tile_starts(6000, 512, 256, stride_ignored=True))
        (23, 12)
    """
    rule = TileRule(size, stride, stride_ignored)
    return cover_starts(side, rule.size, rule.step)


def count_tiles(sizes: Iterable[Size], rule: TileRule) -> int:
    """Number of patches of scenes of these sizes."""
    return sum(rule.count(size) for size in sizes)
