"""Jigsaw: tell in which order nine tiles were put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from wholescene.errors import ConfigError
from wholescene.models import Segmenter
from wholescene.pretrain.geometry import grid_points, sample, uniform
from wholescene.pretrain.heads import mlp
from wholescene.pretrain.methods.method import Method, MethodOptions
from wholescene.pretrain.views import View

__all__ = ["Jigsaw", "JigsawOptions", "far_permutations", "shuffled_tiles"]

SIDE = 3
POOL = 5000
"""Random orders from which those far apart are chosen."""


class JigsawOptions(MethodOptions):
    """Options of the jigsaw.

    Args:
        orders: Orders to tell apart, chosen so that they differ in many places.
        tile_share: Side of a tile as a share of its cell; its place in the cell is random, so that
            edges do not give the order away.
    """

    orders: int = Field(default=100, ge=2, le=1000)
    tile_share: float = Field(default=64 / 75, gt=0, le=1)


class Jigsaw(Method):
    """Classification of the order of the tiles of a 3 x 3 grid.

    Source:
        Noroozi and Favaro 2016, arXiv:1603.09246, on one image of shuffled tiles as in GLCNet's
        baseline (arXiv:2106.10605); tiles end at the stride of the encoder.

    Raises:
        ConfigError: If a view has no room for three tiles of the encoder's stride.
    """

    Options: ClassVar[type[MethodOptions]] = JigsawOptions
    num_views: ClassVar[int] = 1
    orders: Tensor

    def __init__(self, network: Segmenter, options: JigsawOptions, view_px: int) -> None:
        super().__init__(network)
        self.options = options
        self.tile_px = view_px // SIDE // network.stride * network.stride
        if not self.tile_px:
            raise ConfigError(
                f"views.view_px = {view_px} has no room for {SIDE} tiles of the encoder's stride "
                f"{network.stride}; set it to at least {SIDE * network.stride}"
            )
        self.register_buffer("orders", far_permutations(options.orders, SIDE**2))
        self.head = mlp(self.encoder_channels * SIDE**2, 256, 1024, options.orders)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Cross-entropy of the order."""
        image = views[0].image
        chosen = torch.randint(
            len(self.orders), (len(image),), generator=generator, device=image.device
        )
        mosaic = shuffled_tiles(
            image,
            self.orders[chosen],
            tile_px=self.tile_px,
            share=self.options.tile_share,
            generator=generator,
        )
        cells = F.adaptive_avg_pool2d(self.coarsest(mosaic).float(), SIDE)
        return F.cross_entropy(cast(Tensor, self.head(cells.flatten(1))), chosen)


def shuffled_tiles(
    images: Tensor, orders: Tensor, *, tile_px: int, share: float, generator: torch.Generator
) -> Tensor:
    """Cut nine tiles out of each image and put them together in another order.

    Args:
        images: (B, C, P, P).
        orders: Which tile comes to each place, row by row, (B, 9).
        tile_px: Side of a tile in the result.
        share: Side of a tile as a share of its cell.
        generator: Source of the places of the tiles in their cells.

    Returns:
        (B, C, 3 tile_px, 3 tile_px).
    """
    batch, bands = images.shape[:2]
    room = (1 - share) / SIDE
    shift = uniform(generator, batch, SIDE**2, 2, low=-1) * room
    middles = grid_points(SIDE, SIDE, like=images.new_zeros((), dtype=torch.float32)) + shift
    middles = middles.gather(1, orders[..., None].expand(-1, -1, 2))
    linear = torch.eye(2, device=images.device) * share / SIDE
    maps = torch.cat([linear.expand(batch, SIDE**2, 2, 2), middles[..., None]], -1)
    tiles = sample(images, maps, (tile_px, tile_px))
    tiles = tiles.reshape(batch, SIDE, SIDE, bands, tile_px, tile_px)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(batch, bands, SIDE * tile_px, SIDE * tile_px)


def far_permutations(count: int, length: int) -> Tensor:
    """Orders that differ in many places, the same every time, (count, length)."""
    generator = np.random.default_rng(0)
    pool = np.unique(generator.permuted(np.tile(np.arange(length), (POOL, 1)), axis=1), axis=0)
    chosen = [0]
    distance = np.full(len(pool), length)
    for _ in range(count - 1):
        distance = np.minimum(distance, (pool != pool[chosen[-1]]).sum(1))
        chosen.append(int(distance.argmax()))
    return torch.from_numpy(pool[chosen])
