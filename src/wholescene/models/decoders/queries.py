"""Queries that ask a map, for decoders that predict a set of masks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.losses.mask_matching import MaskLoss, MaskSet, semantic_logits
from wholescene.models.decoders.decoder import Decoder

__all__ = ["MapAttention", "MaskDecoder", "QueryLayer", "multilayer"]

FORBIDDEN = -1e4
"""Score of what may not be asked; its exponential is 0."""


class MaskDecoder(Decoder):
    """A decoder that predicts sets of classes and masks, the last of which counts.

    A subclass sets ``loss`` and gives ``mask_sets``.
    """

    makes_logits: ClassVar[bool] = True
    has_own_loss: ClassVar[bool] = True
    auxiliary_weights: ClassVar[Mapping[str, float]] = {"masks": 1.0}

    loss: MaskLoss

    def mask_sets(self, features: list[Tensor]) -> list[MaskSet]:
        """Classes and masks after each step, at the stride of the finest map read."""
        raise NotImplementedError

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to logits (B, K, h, w)."""
        return semantic_logits(self.mask_sets(features)[-1])

    def forward_train(
        self, features: list[Tensor], target: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As ``forward``, and with a target the loss ``"masks"`` of all steps together."""
        found = self.mask_sets(features)
        losses = {} if target is None else {"masks": self.loss(found, target)}
        return semantic_logits(found[-1]), losses


class MapAttention(nn.Module):
    """Attention of queries to every position of a map.

    Args:
        channels: Channels of queries and map.
        heads: Heads; they divide ``channels``.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask = nn.Linear(channels, channels)
        self.keys = nn.Conv2d(channels, channels, 1)
        self.values = nn.Conv2d(channels, channels, 1)
        self.merge = nn.Linear(channels, channels)

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, forbidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            queries: (B, Q, C).
            keys: (B, C, h, w).
            values: (B, C, h, w).
            forbidden: Where a query may not look, (B, Q, h, w).

        Returns:
            Answers (B, Q, C), and scores before the softmax (B, heads, Q, h * w).
        """
        batch, count, channels = queries.shape
        split = (batch, self.heads, channels // self.heads, -1)
        asked = self.ask(queries).transpose(1, 2).reshape(split).transpose(2, 3)
        scores = torch.matmul(asked * split[2] ** -0.5, self.keys(keys).reshape(split))
        if forbidden is not None:
            allowed = scores.masked_fill(forbidden.flatten(2).unsqueeze(1), FORBIDDEN)
        else:
            allowed = scores
        told = self.values(values).reshape(split).transpose(2, 3)
        answers = torch.matmul(allowed.softmax(-1), told)
        return self.merge(answers.transpose(1, 2).reshape(batch, count, channels)), scores


class SelfAttention(nn.Module):
    """Attention of queries to each other.

    Args:
        channels: Channels of queries.
        heads: Heads; they divide ``channels``.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask, self.keys, self.values, self.merge = (
            nn.Linear(channels, channels) for _ in range(4)
        )

    def forward(self, queries: Tensor, values: Tensor) -> Tensor:
        """Map (B, Q, C) to (B, Q, C); positions are in ``queries`` but not in ``values``."""
        batch, count, channels = queries.shape
        parts = (self.ask(queries), self.keys(queries), self.values(values))
        split = (p.reshape(batch, count, self.heads, -1).transpose(1, 2) for p in parts)
        found = F.scaled_dot_product_attention(*split)
        return cast(Tensor, self.merge(found.transpose(1, 2).reshape(batch, count, channels)))


class QueryLayer(nn.Module):
    """Attention to a map, attention among queries, two linear layers; a layer norm after each.

    Args:
        channels: Channels of queries and map.
        heads: Heads of both attentions.
        hidden: Channels between the two linear layers.
    """

    def __init__(self, channels: int, *, heads: int, hidden: int) -> None:
        super().__init__()
        self.cross = MapAttention(channels, heads)
        self.among = SelfAttention(channels, heads)
        self.mlp = multilayer(channels, hidden, channels, layers=2)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        keys: Tensor,
        values: Tensor,
        forbidden: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Update queries.

        Args:
            queries: (B, Q, C).
            position: Added to the queries wherever they ask, (Q, C).
            keys: As for :class:`MapAttention`, and so are the others.
            values: The same.
            forbidden: The same.

        Returns:
            Queries (B, Q, C), and scores (B, heads, Q, h * w) of the attention to the map.
        """
        answers, scores = self.cross(queries + position, keys, values, forbidden)
        queries = self.norms[0](queries + answers)
        queries = self.norms[1](queries + self.among(queries + position, queries))
        return self.norms[2](queries + self.mlp(queries)), scores


def multilayer(in_channels: int, hidden: int, out_channels: int, *, layers: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    widths = (in_channels, *(hidden,) * (layers - 1), out_channels)
    parts: list[nn.Module] = []
    for start, stop in itertools.pairwise(widths):
        parts += [nn.Linear(start, stop), nn.ReLU()]
    return nn.Sequential(*parts[:-1])
