"""SegViT: one query per class; what it attends to is its mask."""

from __future__ import annotations

import itertools
from typing import ClassVar

from pydantic import Field, model_validator
from torch import Tensor, nn

from wholescene.losses.mask_matching import MaskLoss, MaskSet
from wholescene.models.decoders.decoder import DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize
from wholescene.models.decoders.queries import MaskDecoder, QueryLayer
from wholescene.models.decoders.top_down import size_of

__all__ = ["SegViT", "SegViTOptions"]

FINEST_STRIDE = 4


class SegViTOptions(DecoderOptions):
    """Options of the SegViT decoder.

    Args:
        channels: Channels of queries and of the projected maps.
        heads: Heads of every attention; they divide ``channels``.
        hidden: Channels of the feed-forward layers; ``None`` takes four times ``channels``.
        levels: Maps read, counted from the last; all, if there are fewer.
        layers: Layers on each map.
        points: Points per mask at which the loss is taken.
    """

    channels: int = Field(default=256, ge=1)
    heads: int = Field(default=8, ge=1)
    hidden: int | None = Field(default=None, ge=1)
    levels: int = Field(default=3, ge=1)
    layers: int = Field(default=1, ge=1)
    points: int = Field(default=12544, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> SegViTOptions:
        if self.channels % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide channels = {self.channels}")
        return self


class SegViT(MaskDecoder):
    """Attention-to-mask on the last maps, from the last one down.

    Every class is a query. The scores of its attention to a map, averaged over heads, are its mask
    there; the masks of all maps are added. Each query also says whether its class is present. Its
    own loss pairs class c with query c, at every map; the loss of the run on the semantic logits
    comes on top.

    Choose the depths with ``model.encoder_options.out_indices``, such as [5, 7, 11].

    Source:
        Zhang et al. 2022, arXiv:2210.05844. Layers attend to the map before they attend to each
        other; the mask loss is taken at points; masks become probabilities at stride 4 instead of
        1, and their logarithm is resized to the image.
    """

    Options: ClassVar[type[DecoderOptions]] = SegViTOptions

    def __init__(self, levels: FeatureLevels, options: SegViTOptions, num_classes: int) -> None:
        super().__init__()
        self.out_channels, self.dropout = num_classes, 0.0
        inputs = levels.channels[-options.levels :]
        channels, self.num_levels = options.channels, len(inputs)
        self.reads_all = self.num_levels == len(levels.channels)
        self.enlarge = max(1, levels.reductions[-len(inputs)] // FINEST_STRIDE)
        self.project = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in inputs)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in inputs)
        self.queries = nn.Embedding(num_classes, channels)
        self.positions = nn.Embedding(num_classes, channels)
        hidden = options.hidden or 4 * channels
        self.per_level = options.layers
        self.layers = nn.ModuleList(
            QueryLayer(channels, heads=options.heads, hidden=hidden)
            for _ in range(options.layers * len(inputs))
        )
        self.classify = nn.Linear(channels, num_classes + 1)
        self.loss = MaskLoss(
            matching="by class",
            class_weight=1.0,
            mask_weight=20.0,
            dice_weight=1.0,
            points=options.points,
            focal=True,
        )

    def mask_sets(self, features: list[Tensor]) -> list[MaskSet]:
        """Classes and masks after each map."""
        seen = features[-self.num_levels :]
        height, width = (side * self.enlarge for side in size_of(seen[0]))
        queries = self.queries.weight.expand(seen[0].shape[0], -1, -1)
        masks: Tensor | None = None
        found = []
        layers = iter(self.layers)
        parts = zip(seen, self.project, self.norms, strict=True)
        for feature, project, norm in reversed(list(parts)):
            level = norm(project(feature).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            for layer in itertools.islice(layers, self.per_level):
                queries, scores = layer(queries, self.positions.weight, level, level)
            own = resize(scores.mean(1).unflatten(-1, size_of(level)), (height, width))
            masks = own if masks is None else masks + own
            found.append(MaskSet(self.classify(queries), masks))
        return found
