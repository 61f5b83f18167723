"""MAE: paint the patches a plain transformer did not see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from pydantic import Field
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from wholescene.errors import ConfigError
from wholescene.models import Segmenter
from wholescene.models.vit_names import plain_transformer
from wholescene.pretrain.geometry import uniform
from wholescene.pretrain.losses import hidden_patch_error
from wholescene.pretrain.methods.method import Method, MethodOptions
from wholescene.pretrain.views import View

__all__ = ["MAE", "MAEOptions"]

POSITION_STD = 0.02


class MAEOptions(MethodOptions):
    """Options of MAE.

    Args:
        hidden_share: Share of the patches that are hidden.
        width: Features of the painter.
        depth: Its blocks.
        heads: Its attention heads.
        normalise: Compare with patches of mean 0 and variance 1 each.
    """

    hidden_share: float = Field(default=0.75, gt=0, lt=1)
    width: int = Field(default=192, ge=4)
    depth: int = Field(default=4, ge=1)
    heads: int = Field(default=6, ge=1)
    normalise: bool = True


class MAE(Method):
    """The transformer reads some patches, a small one behind it paints the others.

    Source:
        He et al. 2022, arXiv:2111.06377, with learned positions in the painter.

    Raises:
        ConfigError: If the encoder is no plain transformer, or the options do not fit.
    """

    Options: ClassVar[type[MethodOptions]] = MAEOptions
    num_views: ClassVar[int] = 1

    def __init__(self, network: Segmenter, options: MAEOptions, view_px: int) -> None:
        super().__init__(network)
        encoder = network.encoder
        transformer: Any = plain_transformer(encoder.net)
        if not isinstance(transformer, VisionTransformer):
            raise ConfigError(
                f"mae hides patches of a plain vision transformer, and encoder {encoder.name!r} is "
                "none; set model.encoder = 'vit_tiny_patch16_224' or another method.name"
            )
        if options.width % options.heads:
            raise ConfigError(
                f"method.options.width = {options.width} is no multiple of heads = {options.heads}"
            )
        self.options = options
        self.side = int(transformer.patch_embed.patch_size[0])
        if encoder.neck is not None:
            encoder.neck.requires_grad_(False)
        width, patches = options.width, (view_px // self.side) ** 2
        self.enter = nn.Linear(transformer.embed_dim, width)
        self.blank = nn.Parameter(torch.randn(1, 1, width) * POSITION_STD)
        self.places = nn.Parameter(torch.randn(1, patches, width) * POSITION_STD)
        self.blocks = nn.Sequential(*(Block(width, options.heads) for _ in range(options.depth)))
        self.norm = nn.LayerNorm(width)
        self.paint = nn.Linear(width, network.spec.num_bands * self.side**2)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Error over hidden patches."""
        image = views[0].image
        order = uniform(generator, len(image), self.places.shape[1]).argsort(1)
        seen = max(1, round(order.shape[1] * (1 - self.options.hidden_share)))
        painted = self._paint(self._read(image, order[:, :seen]), order)
        hidden = torch.ones(order.shape, dtype=torch.bool, device=image.device)
        hidden.scatter_(1, order[:, :seen], False)
        return hidden_patch_error(
            painted, image, hidden, side=self.side, normalise=self.options.normalise
        )

    def _read(self, image: Tensor, seen: Tensor) -> Tensor:
        """Features of the patches ``seen`` (B, S) alone, (B, S, D)."""
        transformer: Any = plain_transformer(self.network.encoder.net)
        tokens = transformer._pos_embed(transformer.patch_embed(image))
        prefix = int(transformer.num_prefix_tokens)
        patches = _take(tokens[:, prefix:], seen)
        tokens = transformer.norm_pre(torch.cat([tokens[:, :prefix], patches], 1))
        tokens = transformer.norm(transformer.blocks(tokens))
        return cast(Tensor, tokens[:, prefix:])

    def _paint(self, read: Tensor, order: Tensor) -> Tensor:
        """Values of every patch, (B, N, C * side * side)."""
        entered = self.enter(read)
        blanks = self.blank.expand(len(read), order.shape[1] - read.shape[1], -1)
        tokens = _take(torch.cat([entered, blanks.to(entered.dtype)], 1), order.argsort(1))
        return cast(Tensor, self.paint(self.norm(self.blocks(tokens + self.places))))


def _take(tokens: Tensor, places: Tensor) -> Tensor:
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))
