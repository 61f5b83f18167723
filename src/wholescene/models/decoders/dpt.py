"""DPT: a pyramid put together from four depths of a plain transformer."""

from __future__ import annotations

from typing import Annotated, ClassVar, cast

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from wholescene.errors import UnsupportedError
from wholescene.models.decoders.blocks import ConvNormAct, initialise
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels, resize
from wholescene.models.decoders.top_down import size_of

__all__ = ["DPT", "DPTOptions"]

NUM_TAPS = 4


class DPTOptions(DecoderOptions):
    """Options of the DPT decoder.

    Args:
        neck: Channels of the four reassembled maps, finest first.
        channels: Channels of every fused map.
        dropout: Share of channels dropped before the classifier while training.
    """

    neck: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(96, 192, 384, 768), min_length=NUM_TAPS, max_length=NUM_TAPS
    )
    channels: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)


class ResidualConv(nn.Module):
    """Twice ReLU, 3 x 3 convolution, batch norm; added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape."""
        out = features
        for conv, norm in zip(self.convs, self.norms, strict=True):
            out = norm(conv(F.relu(out)))
        return out + features


class Fusion(nn.Module):
    """Add a level to what is coarser, convolve, 1 x 1 convolution."""

    def __init__(self, channels: int, *, is_coarsest: bool) -> None:
        super().__init__()
        self.own = None if is_coarsest else ResidualConv(channels)
        self.both = ResidualConv(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, level: Tensor, coarser: Tensor | None) -> Tensor:
        """Fuse; the size is that of ``level``."""
        if self.own is not None and coarser is not None:
            level = self.own(level) + resize(coarser, size_of(level))
        return cast(Tensor, self.project(self.both(level)))


class DPT(Decoder):
    """Reassemble the last four maps at 4, 2, 1 and 1/2 times their size, then fuse.

    Choose the depths with ``model.encoder_options.out_indices``, such as [2, 5, 8, 11].

    Source:
        Ranftl et al. 2021, arXiv:2103.13413. Class tokens are left out (the published ``ignore``);
        levels are resized to each other's size and with ``align_corners=False``.

    Raises:
        UnsupportedError: If the encoder does not give four maps of one scale.
    """

    Options: ClassVar[type[DecoderOptions]] = DPTOptions

    def __init__(self, levels: FeatureLevels, options: DPTOptions, num_classes: int) -> None:
        super().__init__()
        del num_classes
        if levels.is_pyramid or len(levels.channels) < NUM_TAPS:
            raise UnsupportedError(
                f"encoder {levels.encoder!r} gives features at strides {levels.reductions}, and "
                "DPT reads four maps of a plain ViT; choose one, such as 'vit_small_patch16_224', "
                "and set model.encoder_options.out_indices = [2, 5, 8, 11]; with a pyramid choose "
                "model.decoder = 'upernet'"
            )
        self.out_channels, self.dropout = options.channels, options.dropout
        inputs = levels.channels[-NUM_TAPS:]
        self.project = nn.ModuleList(
            nn.Conv2d(c, n, 1) for c, n in zip(inputs, options.neck, strict=True)
        )
        fine, half, _, coarse = options.neck
        self.scale = nn.ModuleList(
            (
                nn.ConvTranspose2d(fine, fine, 4, stride=4),
                nn.ConvTranspose2d(half, half, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(coarse, coarse, 3, stride=2, padding=1),
            )
        )
        self.reduce = nn.ModuleList(
            nn.Conv2d(n, options.channels, 3, padding=1, bias=False) for n in options.neck
        )
        self.fuse = nn.ModuleList(
            Fusion(options.channels, is_coarsest=i == NUM_TAPS - 1) for i in range(NUM_TAPS)
        )
        self.last = ConvNormAct(options.channels, options.channels, kernel_size=3)
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w) at an eighth of the encoder's stride."""
        parts = zip(features[-NUM_TAPS:], self.project, self.scale, self.reduce, strict=True)
        levels = [reduce(scale(project(f))) for f, project, scale, reduce in parts]
        fused: Tensor | None = None
        for level, fuse in zip(reversed(levels), reversed(self.fuse), strict=True):
            fused = fuse(level, fused)
        assert fused is not None
        height, width = size_of(fused)
        return cast(Tensor, self.last(resize(fused, (2 * height, 2 * width))))
