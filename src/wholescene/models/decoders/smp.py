"""Decoders of segmentation-models-pytorch, fed with our feature maps."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field
from torch import Tensor

from wholescene.errors import InputError, UnsupportedError
from wholescene.models.decoders.blocks import check_pooled
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels

__all__ = ["SMP_DECODERS", "SmpDecoder"]

PYRAMID = (4, 8, 16, 32)
SIXTEENTH = (4, 8, 16, 16)
EIGHTH = (4, 8, 8, 8)
Blocks = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=5, max_length=5)]


class SmpDecoder(Decoder):
    """One of smp's decoders; a subclass says what it needs and how it is built.

    The map at stride 2, which ConvNeXt, Swin and others do not have, is replaced by one without
    channels, as smp does itself.

    Source:
        ``segmentation_models_pytorch.decoders``, computed by that library. The last resize, of the
        logits, is ours: without aligned corners, where smp's aligns them.

    Raises:
        UnsupportedError: If the extra ``smp`` is not installed, or the strides do not fit.
    """

    strides: ClassVar[tuple[tuple[int, ...], ...]] = (PYRAMID,)
    """What the strides of the last four maps may be."""
    pools: ClassVar[bool] = False
    """Whether a batch norm sees one value per patch."""
    smallest: ClassVar[int] = 1
    """Least side of the coarsest map."""

    def __init__(self, levels: FeatureLevels, options: Any, num_classes: int) -> None:
        super().__init__()
        del num_classes
        *finer, _, _, _, _ = reductions = (0, 0, 0, 0, *levels.reductions)[-5:]
        if reductions[1:] not in self.strides or finer[0] not in (0, 2):
            wanted = " or ".join(str(strides) for strides in self.strides)
            raise UnsupportedError(
                f"encoder {levels.encoder!r} gives features at strides {levels.reductions}, and "
                f"{type(self).__name__} of smp needs {wanted}, with or without one at stride 2 "
                "before; choose another encoder, such as 'resnet18', or set "
                "model.encoder_options.output_stride"
            )
        self.has_half = finer[0] == 2
        channels = (0, *(() if self.has_half else (0,)), *levels.channels)
        self.dropout = 0.0
        self.net = self.build(channels, options, stride=levels.reductions[-1])
        initialise = _library("base.initialization").initialize_decoder
        initialise(self.net)

    def build(self, channels: tuple[int, ...], options: Any, *, stride: int) -> Any:
        """Build smp's decoder and set ``out_channels``.

        Args:
            channels: Of the image (0: unknown) and of the maps at strides 2, 4, ...
            options: Checked options.
            stride: Of the coarsest map.
        """
        raise NotImplementedError

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, h, w)."""
        if self.pools:
            check_pooled(features[-1], 1, self, who=type(self).__name__)
        if min(features[-1].shape[-2:]) < self.smallest:
            raise InputError(
                f"{type(self).__name__} needs at least {self.smallest} x {self.smallest} pixels in "
                f"its coarsest map, and got {tuple(features[-1].shape[-2:])}; raise data.patch_px, "
                "or choose another decoder for scenes this small"
            )
        height, width = (4 * side for side in features[-4].shape[-2:])
        batch = len(features[0])
        before = [features[0].new_empty(batch, 0, height, width)]
        if not self.has_half:
            before.append(features[0].new_empty(batch, 0, height // 2, width // 2))
        return cast(Tensor, self.net([*before, *features]))


class UNetPlusPlusOptions(DecoderOptions):
    """Options of U-Net++.

    Args:
        channels: Channels of each block, coarsest first.
        attention: ``"scse"`` adds spatial and channel squeeze-and-excitation to each block.
    """

    channels: Blocks = (256, 128, 64, 32, 16)
    attention: Literal["scse"] | None = None


class UNetPlusPlus(SmpDecoder):
    """U-Net++: skips that are themselves decoded. Source: Zhou et al. 2018, arXiv:1807.10165."""

    Options: ClassVar[type[DecoderOptions]] = UNetPlusPlusOptions
    head_kernel_size: ClassVar[int] = 3

    def build(self, channels: tuple[int, ...], options: UNetPlusPlusOptions, *, stride: int) -> Any:
        """Build smp's decoder."""
        self.out_channels = options.channels[-1]
        return _library("decoders.unetplusplus.decoder").UnetPlusPlusDecoder(
            channels, options.channels, attention_type=options.attention
        )


class MANetOptions(DecoderOptions):
    """Options of MA-Net.

    Args:
        channels: Channels of each block, coarsest first.
        attention_channels: Channels of the attention over positions.
    """

    channels: Blocks = (256, 128, 64, 32, 16)
    attention_channels: int = Field(default=64, ge=1)


class MANet(SmpDecoder):
    """MA-Net: attention over positions and channels. Source: Fan et al. 2020, IEEE Access 8."""

    Options: ClassVar[type[DecoderOptions]] = MANetOptions
    head_kernel_size: ClassVar[int] = 3

    def build(self, channels: tuple[int, ...], options: MANetOptions, *, stride: int) -> Any:
        """Build smp's decoder."""
        self.out_channels = options.channels[-1]
        return _library("decoders.manet.decoder").MAnetDecoder(
            channels, options.channels, pab_channels=options.attention_channels
        )


class LinkNetOptions(DecoderOptions):
    """Options of LinkNet.

    Args:
        channels: Channels of the last block.
    """

    channels: int = Field(default=32, ge=1)


class LinkNet(SmpDecoder):
    """LinkNet: skips are added. Source: Chaurasia and Culurciello 2017, arXiv:1707.03718."""

    Options: ClassVar[type[DecoderOptions]] = LinkNetOptions

    def build(self, channels: tuple[int, ...], options: LinkNetOptions, *, stride: int) -> Any:
        """Build smp's decoder."""
        self.out_channels = options.channels
        return _library("decoders.linknet.decoder").LinknetDecoder(
            channels, prefinal_channels=options.channels
        )


class FPNOptions(DecoderOptions):
    """Options of semantic FPN.

    Args:
        pyramid_channels: Channels of the pyramid.
        channels: Channels of the levels that are summed; a multiple of 32.
        dropout: Share of channels dropped before the classifier while training.
    """

    pyramid_channels: int = Field(default=256, ge=1)
    channels: int = Field(default=128, ge=32, multiple_of=32)
    dropout: float = Field(default=0.2, ge=0, lt=1)


class FPN(SmpDecoder):
    """Semantic FPN, with group norm. Source: Kirillov et al. 2019, arXiv:1901.02446."""

    Options: ClassVar[type[DecoderOptions]] = FPNOptions

    def build(self, channels: tuple[int, ...], options: FPNOptions, *, stride: int) -> Any:
        """Build smp's decoder."""
        self.out_channels = options.channels
        return _library("decoders.fpn.decoder").FPNDecoder(
            channels,
            pyramid_channels=options.pyramid_channels,
            segmentation_channels=options.channels,
            dropout=options.dropout,
        )


class PANOptions(DecoderOptions):
    """Options of PAN.

    Args:
        channels: Channels of every layer.
    """

    channels: int = Field(default=32, ge=1)


class PAN(SmpDecoder):
    """PAN: pooled attention on the coarsest map. Source: Li et al. 2018, arXiv:1805.10180."""

    Options: ClassVar[type[DecoderOptions]] = PANOptions
    head_kernel_size: ClassVar[int] = 3
    strides: ClassVar[tuple[tuple[int, ...], ...]] = (PYRAMID, SIXTEENTH)
    pools: ClassVar[bool] = True
    smallest: ClassVar[int] = 8

    def build(self, channels: tuple[int, ...], options: PANOptions, *, stride: int) -> Any:
        """Build smp's decoder."""
        self.out_channels = options.channels
        return _library("decoders.pan.decoder").PANDecoder(
            channels, encoder_depth=5, decoder_channels=options.channels
        )


class SmpDeepLabOptions(DecoderOptions):
    """Options of smp's DeepLabV3 and DeepLabV3+.

    Args:
        channels: Channels of every layer.
        rates: Dilations of the three 3 x 3 branches.
        aspp_dropout: Share of values dropped after the branches while training.
    """

    channels: int = Field(default=256, ge=1)
    rates: tuple[int, int, int] = (12, 24, 36)
    aspp_dropout: float = Field(default=0.5, ge=0, lt=1)


class SmpDeepLabV3Plus(SmpDecoder):
    """DeepLabV3+ as smp has it. Source: Chen et al. 2018, arXiv:1802.02611."""

    Options: ClassVar[type[DecoderOptions]] = SmpDeepLabOptions
    strides: ClassVar[tuple[tuple[int, ...], ...]] = (SIXTEENTH, EIGHTH)
    pools: ClassVar[bool] = True

    def build(self, channels: tuple[int, ...], options: SmpDeepLabOptions, *, stride: int) -> Any:
        """Build smp's decoder."""
        self.reads_all = False
        self.out_channels = options.channels
        return _library("decoders.deeplabv3.decoder").DeepLabV3PlusDecoder(
            channels,
            encoder_depth=5,
            out_channels=options.channels,
            atrous_rates=options.rates,
            output_stride=stride,
            aspp_separable=True,
            aspp_dropout=options.aspp_dropout,
        )


class SmpDeepLabV3(SmpDecoder):
    """DeepLabV3 as smp has it. Source: Chen et al. 2017, arXiv:1706.05587."""

    Options: ClassVar[type[DecoderOptions]] = SmpDeepLabOptions
    strides: ClassVar[tuple[tuple[int, ...], ...]] = (EIGHTH, SIXTEENTH)
    pools: ClassVar[bool] = True

    def build(self, channels: tuple[int, ...], options: SmpDeepLabOptions, *, stride: int) -> Any:
        """Build smp's decoder."""
        self.reads_all = False
        self.out_channels = options.channels
        return _library("decoders.deeplabv3.decoder").DeepLabV3Decoder(
            channels[-1],
            options.channels,
            options.rates,
            aspp_separable=False,
            aspp_dropout=options.aspp_dropout,
        )


SMP_DECODERS: dict[str, type[Decoder]] = {
    "smp-unetplusplus": UNetPlusPlus,
    "smp-manet": MANet,
    "smp-linknet": LinkNet,
    "smp-fpn": FPN,
    "smp-pan": PAN,
    "smp-deeplabv3": SmpDeepLabV3,
    "smp-deeplabv3plus": SmpDeepLabV3Plus,
}
"""By the name each has in a configuration."""


def _library(part: str) -> Any:
    """Import a part of smp, late because it is an extra."""
    try:
        return importlib.import_module(f"segmentation_models_pytorch.{part}")
    except ImportError as error:
        raise UnsupportedError(
            "decoders named smp-... need segmentation-models-pytorch, which is not installed; run "
            "pip install 'wholescene[smp]', or choose another model.decoder"
        ) from error
