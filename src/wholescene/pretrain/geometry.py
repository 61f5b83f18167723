"""Views of a window as affine maps: drawing, composing and sampling them.

A map is a matrix (..., 2, 3) that takes a point (x, y) of one image to a point of another, both
from -1 at the left or upper edge to 1 at the right or lower edge (pixel edges, not centres; the
convention of ``torch.nn.functional.grid_sample`` with ``align_corners=False``). The map of a view
takes its points to the window it was cut from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "CropLaw",
    "Rects",
    "apply",
    "compose",
    "draw_crops",
    "draw_published_symmetries",
    "draw_symmetries",
    "grid_points",
    "invert",
    "rects_of",
    "sample",
    "uniform",
    "view_maps",
]

# Letters: B images, N maps of an image, P points, C channels.


class Rects(NamedTuple):
    """Upright rectangles of a window.

    Args:
        centre: x and y of the middle, (..., 2).
        half: Half of the width and of the height, (..., 2).
    """

    centre: Tensor
    half: Tensor

    def overlap(self, other: Rects) -> Rects:
        """What both cover; ``half`` is negative where they are apart."""
        low = torch.maximum(self.centre - self.half, other.centre - other.half)
        high = torch.minimum(self.centre + self.half, other.centre + other.half)
        return Rects((low + high) / 2, (high - low) / 2)

    @property
    def area(self) -> Tensor:
        """Width times height, of a window of 2 x 2; 0 where there is none, (...)."""
        return 4 * self.half.clamp_min(0).prod(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CropLaw:
    """How random crops are drawn.

    Args:
        area: Smallest and largest share of the window.
        aspect: Smallest and largest width by height.
        published: Draw the aspect evenly and swap width and height by a coin, as GLCNet's release
            does; otherwise its logarithm is even.
        tries: Draws before the crop that fits best is cut to the window.
    """

    area: tuple[float, float] = (0.2, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    published: bool = False
    tries: int = 10


def uniform(generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Even random numbers on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def draw_crops(count: int, law: CropLaw, generator: torch.Generator) -> Rects:
    """Draw crops of square windows, anywhere inside.

    Returns:
        Rectangles of shape (count, 2).
    """
    share = uniform(generator, count, law.tries, low=law.area[0], high=law.area[1])
    aspect = _draw_aspects(count, law, generator)
    sides = torch.stack([(share * aspect).sqrt(), (share / aspect).sqrt()], dim=-1)
    fits = (sides <= 1).all(-1)
    first = fits.float().argmax(1)  # the first try that fits; 0 where none does
    half = sides[torch.arange(count, device=sides.device), first].clamp_max(1)
    place = uniform(generator, count, 2, low=-1)
    return Rects(place * (1 - half), half)


def _draw_aspects(count: int, law: CropLaw, generator: torch.Generator) -> Tensor:
    low, high = law.aspect
    if not law.published:
        bounds = torch.tensor([low, high]).log().tolist()
        return uniform(generator, count, law.tries, low=bounds[0], high=bounds[1]).exp()
    aspect = uniform(generator, count, law.tries, low=low, high=high)
    swap = uniform(generator, count, law.tries) < 0.5
    return torch.where(swap, 1 / aspect, aspect)


def draw_symmetries(count: int, generator: torch.Generator, *, flips: bool, turns: bool) -> Tensor:
    """Draw ways to lay a square on itself, (count, 2, 2); each allowed one alike.

    Args:
        count: How many.
        generator: Source of the draws.
        flips: Mirror left-right and top-bottom.
        turns: Turn by quarters.
    """
    coins = (uniform(generator, count, 3) < 0.5).float()
    sign_x, sign_y = 1 - 2 * coins[:, 0], 1 - 2 * coins[:, 1]
    swap = coins[:, 2] if turns else torch.zeros_like(sign_x)
    if not flips:
        # Turns alone have determinant 1: the signs agree, and differ where x and y are swapped.
        sign_y = sign_x * (1 - 2 * swap) if turns else torch.ones_like(sign_x)
        sign_x = sign_x if turns else torch.ones_like(sign_x)
    return _symmetry(sign_x, sign_y, swap)


def draw_published_symmetries(count: int, generator: torch.Generator) -> Tensor:
    """Symmetries of GLCNet's second view: 20 % each of three flips, then 60 % turned.

    Returns:
        (count, 2, 2).
    """
    dice = uniform(generator, count)
    left_right = (dice < 0.2) | ((dice >= 0.4) & (dice < 0.6))
    up_down = (dice >= 0.2) & (dice < 0.6)
    flip = _symmetry(1 - 2 * left_right.float(), 1 - 2 * up_down.float(), torch.zeros_like(dice))
    quarters = torch.randint(4, (count,), generator=generator, device=generator.device)
    quarters = quarters * (uniform(generator, count) < 0.8)
    angle = quarters * (torch.pi / 2)
    cos, sin = angle.cos().round(), angle.sin().round()
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    return flip @ turn


def _symmetry(sign_x: Tensor, sign_y: Tensor, swap: Tensor) -> Tensor:
    rows = [sign_x * (1 - swap), sign_x * swap], [sign_y * swap, sign_y * (1 - swap)]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def view_maps(crops: Rects, symmetries: Tensor) -> Tensor:
    """Maps (B, 2, 3) of views that show ``crops``, laid on themselves."""
    linear = crops.half[..., :, None] * symmetries
    return torch.cat([linear, crops.centre[..., None]], dim=-1)


def rects_of(maps: Tensor) -> Rects:
    """What part of the window each view shows; views are upright or turned by quarters."""
    return Rects(maps[..., 2], maps[..., :2].abs().sum(-1))


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Map that applies ``inner`` first, then ``outer``."""
    linear = outer[..., :2] @ inner[..., :2]
    shift = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return torch.cat([linear, shift], dim=-1)


def invert(maps: Tensor) -> Tensor:
    """Map back."""
    a, b, c, d = (maps[..., i, j] for i in (0, 1) for j in (0, 1))
    rows = torch.stack([d, -b], -1), torch.stack([-c, a], -1)
    linear = torch.stack(rows, -2) / (a * d - b * c)[..., None, None]
    return torch.cat([linear, -linear @ maps[..., 2:]], dim=-1)


def apply(maps: Tensor, points: Tensor) -> Tensor:
    """Take points (..., P, 2) through maps (..., 2, 3)."""
    return points @ maps[..., :2].transpose(-1, -2) + maps[..., 2].unsqueeze(-2)


def grid_points(height: int, width: int, *, like: Tensor) -> Tensor:
    """Centres of the cells of a grid, row by row, (height * width, 2) as x and y."""
    x, y = (_cells(count, like=like) for count in (width, height))
    rows, cols = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([cols, rows], dim=-1).reshape(-1, 2)


def _cells(count: int, *, like: Tensor) -> Tensor:
    return (torch.arange(count, device=like.device, dtype=like.dtype) * 2 + 1) / count - 1


def _take_grid(maps: Tensor, rows: int, cols: int) -> Tensor:
    """The cells of a grid through maps (..., 2, 3), (..., rows, cols, 2).

    As ``apply`` on ``grid_points``, but a column and a row are multiplied, not every cell.
    """
    across = maps[..., 0, None] * _cells(cols, like=maps)
    down = maps[..., 1, None] * _cells(rows, like=maps) + maps[..., 2, None]
    grid = maps.new_empty(*maps.shape[:-2], rows, cols, 2)
    for axis in (0, 1):
        grid[..., axis] = across[..., axis, None, :] + down[..., axis, :, None]
    return grid


def sample(images: Tensor, maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut parts out of images, each pixel interpolated once.

    Args:
        images: (B, C, H, W).
        maps: From points of a part to points of its image, (B, N, 2, 3).
        size: Rows and columns of each part.

    Returns:
        (B, N, C, rows, columns). Beyond the image its border pixels go on.
    """
    batch, num, (rows, cols) = maps.shape[0], maps.shape[1], size
    grid = _take_grid(maps, rows, cols).reshape(batch, num * rows, cols, 2).to(images.dtype)
    parts = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return parts.reshape(batch, images.shape[1], num, rows, cols).transpose(1, 2)
