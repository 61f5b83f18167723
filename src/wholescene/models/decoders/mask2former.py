"""Mask2Former: queries that look where their mask is, on a feature pyramid."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from wholescene.errors import ConfigError
from wholescene.losses.mask_matching import MaskLoss, MaskSet
from wholescene.models.decoders.blocks import initialise
from wholescene.models.decoders.decoder import DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize
from wholescene.models.decoders.queries import MaskDecoder, QueryLayer, multilayer
from wholescene.models.decoders.top_down import TopDown, first_level, size_of

__all__ = ["Mask2Former", "Mask2FormerOptions"]


class Mask2FormerOptions(DecoderOptions):
    """Options of the Mask2Former decoder.

    Args:
        channels: Channels of pyramid, queries and masks; a multiple of 4.
        queries: Masks predicted.
        layers: Layers; they read the maps coarser than the finest in turn, coarsest first.
        heads: Heads of every attention; they divide ``channels``.
        hidden: Channels of the feed-forward layers.
        points: Points per mask at which the loss is taken.
        no_object_weight: Weight of "no object" in the class term of the loss.
    """

    channels: int = Field(default=256, ge=4, multiple_of=4)
    queries: int = Field(default=100, ge=1)
    layers: int = Field(default=9, ge=1)
    heads: int = Field(default=8, ge=1)
    hidden: int = Field(default=2048, ge=1)
    points: int = Field(default=12544, ge=1)
    no_object_weight: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _heads_divide(self) -> Mask2FormerOptions:
        if self.channels % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide channels = {self.channels}")
        return self


class Mask2Former(MaskDecoder):
    """Feature pyramid, then masked attention of learned queries, each a class and a mask.

    Its own loss matches predictions and the classes of an image; the loss of the run on the
    semantic logits comes on top.

    Reads the maps at stride 4 and coarser.

    Source:
        Cheng et al. 2022, arXiv:2112.01527, with the feature pyramid of its ablation (table 5) in
        the place of deformable attention. Masks become probabilities at the stride of the finest
        map, and their logarithm is resized to the image.

    Raises:
        UnsupportedError: If the encoder has one scale.
        ConfigError: If there are fewer queries than classes.
    """

    Options: ClassVar[type[DecoderOptions]] = Mask2FormerOptions

    def __init__(
        self, levels: FeatureLevels, options: Mask2FormerOptions, num_classes: int
    ) -> None:
        super().__init__()
        _check_queries(options.queries, num_classes)
        self.out_channels, self.dropout = num_classes, 0.0
        self.first = first_level(levels, "Mask2Former")
        inputs, channels = levels.channels[self.first :], options.channels
        self.pyramid = TopDown(inputs, channels)
        self.masks_from = nn.Conv2d(channels, channels, 1)
        initialise(self)
        num_read = min(3, len(inputs) - 1)
        self.level_codes = nn.Embedding(num_read, channels)
        self.queries = nn.Embedding(options.queries, channels)
        self.positions = nn.Embedding(options.queries, channels)
        self.layers = nn.ModuleList(
            QueryLayer(channels, heads=options.heads, hidden=options.hidden)
            for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.classify = nn.Linear(channels, num_classes + 1)
        self.mask_of = multilayer(channels, channels, channels, layers=3)
        self.loss = MaskLoss(points=options.points, no_object_weight=options.no_object_weight)

    def mask_sets(self, features: list[Tensor]) -> list[MaskSet]:
        """Classes and masks before the first layer and after each."""
        finest, *coarser = self.pyramid(features[self.first :])
        canvas = self.masks_from(finest)
        num_read = self.level_codes.num_embeddings
        codes = self.level_codes.weight[:, :, None, None]
        values = [m + code for m, code in zip(coarser[-num_read:], codes, strict=True)][::-1]
        keys = [value + sine_positions(value) for value in values]
        queries = self.queries.weight.expand(finest.shape[0], -1, -1)
        found = [self._masks(queries, canvas)]
        for number, layer in enumerate(self.layers):
            at = number % num_read
            hidden = outside(found[-1].masks, size_of(values[at]))
            queries, _ = layer(queries, self.positions.weight, keys[at], values[at], hidden)
            found.append(self._masks(queries, canvas))
        return found

    def _masks(self, queries: Tensor, canvas: Tensor) -> MaskSet:
        queries = self.norm(queries)
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_of(queries), canvas)
        return MaskSet(self.classify(queries), masks)


def outside(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Where a query may not look: outside its mask, unless that is empty.

    Args:
        masks: Logits (B, Q, h, w).
        size: Rows and columns of the result.
    """
    resized = resize(masks.detach(), size)
    is_empty = resized.amax((-2, -1), keepdim=True) < 0
    return torch.logical_and(resized < 0, ~is_empty)


def sine_positions(features: Tensor) -> Tensor:
    """Sines and cosines of the position within the map, (1, C, h, w).

    Rows and columns run from 0 to 2 pi whatever the size; half of the channels tell the row.
    """
    channels, height, width = features.shape[1:]
    count = channels // 4
    wavelength = 10000 ** (torch.arange(count).to(features) / count)
    halves = []
    for side in (height, width):
        place = torch.arange(1, side + 1).to(features) * (2 * math.pi / side)
        angle = place / wavelength[:, None]
        halves.append(torch.stack([angle.sin(), angle.cos()], dim=1).flatten(0, 1))
    rows = halves[0][:, :, None].expand(-1, -1, width)
    cols = halves[1][:, None, :].expand(-1, height, -1)
    return torch.cat([rows, cols]).unsqueeze(0)


def _check_queries(queries: int, num_classes: int) -> None:
    if queries < num_classes:
        raise ConfigError(
            f"{queries} queries cannot match the {num_classes} classes an image may hold; raise "
            "model.decoder_options.queries"
        )
