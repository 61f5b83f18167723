"""timm encoders behind one interface: any number of bands, any size of image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models.hrnet import HighResolutionNetFeatures
from torch import Tensor, nn

import wholescene.models.stdc  # noqa: F401 - enters its encoders among timm's
from wholescene.errors import ConfigError, UnsupportedError
from wholescene.models.decoders.levels import FeatureLevels
from wholescene.models.dilation import apply_dilation, split_dilation
from wholescene.models.vit_pyramid import build_neck, split_pyramid
from wholescene.models.wording import nearest

__all__ = ["Encoder", "build_encoder", "check_encoder", "create_features"]

RESERVED = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "features_only",
        "in_chans",
        "model_name",
        "num_classes",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
    }
)
"""Arguments of ``timm.create_model`` that are ours, or that would read a file named by a model."""

FREE_SIZE: tuple[dict[str, Any], ...] = ({}, {"strict_img_size": False}, {"dynamic_img_size": True})
"""What makes a timm model take any size: nothing, as Swin calls it, as ViT calls it."""


class Encoder(nn.Module):
    """A timm feature extractor whose maps are always (B, C, h, w), finest first.

    Args:
        net: Built by ``timm.create_model(..., features_only=True)``.
        name: timm name.
        num_bands: Channels it takes.
        size_options: Options added so that it takes any size.
        pyramid: Make four scales of the one that a plain transformer has.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str,
        *,
        num_bands: int,
        size_options: Mapping[str, Any],
        pyramid: bool = False,
    ) -> None:
        super().__init__()
        self.net = net
        self.name = name
        self.num_bands = num_bands
        self.size_options = dict(size_options)
        info: Any = net.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        self.reductions: tuple[int, ...] = tuple(info.reduction())
        self.neck = build_neck(name, self.channels, self.reductions) if pyramid else None
        if self.neck is not None:
            self.channels, self.reductions = self.neck.channels, self.neck.reductions
        self.channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")

    @property
    def stride(self) -> int:
        """Input pixels per pixel of the coarsest map; images are padded to a multiple of it."""
        return max(self.reductions)

    @property
    def levels(self) -> FeatureLevels:
        """What a decoder needs to know."""
        return FeatureLevels(encoder=self.name, channels=self.channels, reductions=self.reductions)

    @property
    def has_parallel_streams(self) -> bool:
        """Whether the maps come from parallel streams (HRNet), so that all must be read."""
        return isinstance(self.net, HighResolutionNetFeatures)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (B, num_bands, H, W), sides multiples of ``stride``, to feature maps."""
        features: list[Tensor] = list(self.net(image))
        if self.channels_last:
            features = [f.permute(0, 3, 1, 2) for f in features]
        return features if self.neck is None else self.neck(features)


def check_encoder(name: str) -> None:
    """Check that timm has a model of this name, and the tag if one is given.

    Raises:
        ConfigError: If it has not; the message lists the nearest names.
    """
    architecture, _, tag = name.partition(".")
    # is_model also passes addresses of model hubs, which would fetch code-like settings.
    if architecture not in timm.list_models():
        raise ConfigError(
            f"timm {timm.__version__} has no model {name!r}"
            f"{nearest(architecture, timm.list_models(), count=5)}; set model.encoder to a name "
            "from 'wholescene models list'"
        )
    tags = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tags:
        raise ConfigError(
            f"timm {timm.__version__} has no weights {tag!r} for {architecture!r}; set "
            f"model.encoder to {architecture!r} or one of {', '.join(tags) or 'no other'}"
        )


def create_features(
    name: str, num_bands: int, options: Mapping[str, Any], *, pretrained: bool = False
) -> nn.Module:
    """Build timm's feature extractor.

    Raises:
        ConfigError: If an option is not for users to set, or the model does not take it.
    """
    ours = sorted(RESERVED & options.keys())
    if ours:
        raise ConfigError(
            f"model.encoder_options may not hold {', '.join(ours)}; use model.encoder, "
            "model.pretrained, model.weights and the bands of the data set"
        )
    plan, theirs = split_dilation(options)
    _, theirs = split_pyramid(name, theirs)
    try:
        net: nn.Module = timm.create_model(
            name, pretrained=pretrained, features_only=True, in_chans=num_bands, **theirs
        )
    except (TypeError, ValueError, AssertionError, NotImplementedError, AttributeError) as error:
        raise ConfigError(
            f"encoder {name!r} cannot be built with model.encoder_options {dict(options)} and "
            f"{num_bands} bands: {type(error).__name__}: {error}"
        ) from error
    apply_dilation(net, plan, name)
    return net


def build_encoder(
    name: str, *, num_bands: int, options: Mapping[str, Any] | None = None
) -> Encoder:
    """Build an encoder with random weights and make sure that it takes images of any size.

    Args:
        name: timm model name, with or without a tag.
        num_bands: Channels it shall take, >= 1.
        options: Further arguments of ``timm.create_model``, such as ``output_stride``; and
            ``dilation`` and ``multi_grid`` of ``wholescene.models.dilation``, and ``pyramid`` of
            ``wholescene.models.vit_pyramid``.

    Raises:
        ConfigError: If the name or an option is unknown.
        UnsupportedError: If the model works on one size only, or its maps are not a pyramid.
    """
    check_encoder(name)
    asked = dict(options or {})
    reasons = []
    for extra in FREE_SIZE:
        try:
            net = create_features(name, num_bands, {**extra, **asked})
        except ConfigError:
            if not extra:
                raise
            continue  # this family knows no such option
        encoder = Encoder(
            net,
            name,
            num_bands=num_bands,
            size_options=extra,
            pyramid=bool(asked.get("pyramid")),
        )
        reason = _misfit(encoder)
        if reason is None:
            return encoder
        reasons.append(reason)
    raise UnsupportedError(
        f"encoder {name!r} cannot read scenes of any size: {reasons[0]}. Choose one without a "
        "fixed input size, such as 'resnet18', 'convnext_tiny' or 'swin_tiny_patch4_window7_224'"
    )


def _misfit(encoder: Encoder) -> str | None:
    """Run a small image through; say what is wrong with the maps, or nothing."""
    stride = encoder.stride
    if list(encoder.reductions) != sorted(encoder.reductions):
        return f"its maps have strides {encoder.reductions}, which are not in order"
    training = encoder.training
    # Not square, and of an odd number of strides, so that swapped or rounded sides show.
    height, width = stride, 3 * stride
    try:
        with torch.no_grad():
            features = encoder.eval()(torch.zeros(1, encoder.num_bands, height, width))
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"a {height} x {width} px image fails with '{first_line}'"
    finally:
        encoder.train(training)
    found = [tuple(f.shape[1:]) for f in features]
    stated = [
        (c, height // r, width // r)
        for c, r in zip(encoder.channels, encoder.reductions, strict=True)
    ]
    if found != stated:
        return f"a {height} x {width} px image gives maps {found}, and timm states {stated}"
    return None
