"""GLCNet: global style contrast and local matching contrast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from wholescene.errors import ConfigError
from wholescene.models import Segmenter
from wholescene.models.decoders import DeepLabV3Plus
from wholescene.pretrain.heads import mlp, pooled
from wholescene.pretrain.losses import pair_contrast
from wholescene.pretrain.methods.method import Method, MethodOptions
from wholescene.pretrain.regions import Footprint, Regions, draw_regions, pool_regions
from wholescene.pretrain.views import View

__all__ = ["GLCNet", "GLCNetOptions", "style"]


class GLCNetOptions(MethodOptions):
    """Options of GLCNet.

    Args:
        style: Compare mean and variance of each channel; else the mean alone.
        terms: ``both``, ``global`` (views as a whole) or ``local`` (regions).
        balance: Weight of the global term; the local one weighs ``1 - balance``.
        temperature: Divides cosines.
        decoupled: Leave the positive out of the denominator.
        regions: Regions of an image.
        region_px: Their side in a view.
        footprint: ``ground``: the same ground in both views; ``view``: the same size in both, as
            published.
        rival_regions: Whether regions of one image are negatives of each other, as published; two
            meadows of one image then have to differ.
        features: Features that are compared.
    """

    style: bool = True
    terms: Literal["both", "global", "local"] = "both"
    balance: float = Field(default=0.5, gt=0, lt=1)
    temperature: float = Field(default=0.5, gt=0)
    decoupled: bool = True
    regions: int = Field(default=4, ge=1)
    region_px: int = Field(default=48, ge=1)
    footprint: Footprint = "ground"
    rival_regions: bool = False
    features: int = Field(default=64, ge=2)

    @model_validator(mode="after")
    def _balance_is_used(self) -> GLCNetOptions:
        if self.terms != "both" and "balance" in self.model_fields_set:
            raise ValueError(f"balance has no effect with terms = {self.terms!r}; leave it out")
        return self


class GLCNet(Method):
    """Contrast of whole views by their style and of regions by their place.

    Source:
        Li et al. 2022, arXiv:2106.10605. Style is read behind DeepLabV3+'s pyramid pooling, of
        other decoders from the encoder's coarsest map. Regions are averaged on the decoder's own
        map; the release enlarges it to the size of the view first.

    Raises:
        ConfigError: If the decoder gives no features, or a region is larger than a view.
    """

    Options: ClassVar[type[MethodOptions]] = GLCNetOptions

    def __init__(self, network: Segmenter, options: GLCNetOptions, view_px: int) -> None:
        super().__init__(network, uses_decoder=options.terms != "global" or _has_pooling(network))
        if network.decoder.makes_logits:
            raise ConfigError(
                "glcnet learns the features of a decoder, and "
                f"{network.spec.architecture.decoder!r} gives classes at once; set "
                "model.decoder = 'deeplabv3plus' or 'unet'"
            )
        if options.region_px > view_px:
            raise ConfigError(
                f"method.options.region_px = {options.region_px} is larger than views.view_px = "
                f"{view_px}; lower it"
            )
        if options.style and view_px < 2 * network.stride:
            raise ConfigError(
                f"views.view_px = {view_px} leaves one place at the encoder's stride "
                f"{network.stride}, and style is a variance over places; set it to at least "
                f"{2 * network.stride}, or method.options.style to false"
            )
        self.options, self.side = options, options.region_px / view_px
        self._context: Tensor | None = None
        channels = self.encoder_channels
        if _has_pooling(network):
            channels = network.decoder.out_channels
            network.decoder.get_submodule("drop").register_forward_hook(self._keep_context)
        size, wide = options.features, channels * 2 if options.style else channels
        if options.terms != "local":
            self.global_head = mlp(wide, wide // 2 if options.style else wide, size)
        if options.terms != "global":
            self.local_head = mlp(network.decoder.out_channels, size, size)
        if options.terms == "global" and _has_pooling(network):
            for part in ("reduce", "refine"):
                network.decoder.get_submodule(part).requires_grad_(False)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Weigh the terms."""
        options, (first, second) = self.options, views
        read = [self._read(view.image) for view in views]
        terms = {}
        if options.terms != "local":
            rows = [self.global_head(self._describe(context)) for context, _ in read]
            terms["global"] = pair_contrast(
                *rows, temperature=options.temperature, decoupled=options.decoupled
            )
        if options.terms != "global":
            regions = draw_regions(
                first.maps,
                second.maps,
                count=options.regions,
                side=self.side,
                generator=generator,
                footprint=options.footprint,
            )
            terms["local"] = self._match([decoded for _, decoded in read], regions)
        if options.terms != "both":
            return terms[options.terms]
        return options.balance * terms["global"] + (1 - options.balance) * terms["local"]

    def embed(self, image: Tensor) -> Tensor:
        """Global embedding, or that of the whole view as one region."""
        context, decoded = self._read(image)
        if self.options.terms == "local":
            return cast(Tensor, self.local_head(pooled(decoded)))
        return cast(Tensor, self.global_head(self._describe(context)))

    def _match(self, decoded: list[Tensor], regions: Regions) -> Tensor:
        options = self.options
        points = max(1, round(self.side * decoded[0].shape[-1]))
        rows = [
            self.local_head(pool_regions(features.float(), maps, points).flatten(0, 1))
            for features, maps in zip(decoded, regions[:2], strict=True)
        ]
        image = torch.arange(len(decoded[0]), device=rows[0].device)
        image = image.repeat_interleave(options.regions)
        return pair_contrast(
            *rows,
            temperature=options.temperature,
            decoupled=options.decoupled,
            group=None if options.rival_regions else image,
            valid=regions.found[image],
        )

    def _read(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What style is read from, and the decoder's map."""
        maps = self.maps(image)
        if self.options.terms == "global" and not _has_pooling(self.network):
            return maps[-1], maps[-1]
        decoded = cast(Tensor, self.network.decoder(maps))
        context, self._context = self._context, None
        return maps[-1] if context is None else context, decoded

    def _describe(self, context: Tensor) -> Tensor:
        return style(context) if self.options.style else pooled(context)

    def _keep_context(self, module: object, inputs: object, context: Tensor) -> None:
        del module, inputs
        self._context = context


def style(features: Tensor) -> Tensor:
    """Mean and unbiased variance of each channel over the places of a map, (B, 2 C)."""
    flat = features.float().flatten(2)
    return torch.cat([flat.mean(2), flat.var(2)], dim=1)


def _has_pooling(network: Segmenter) -> bool:
    return isinstance(network.decoder, DeepLabV3Plus)
