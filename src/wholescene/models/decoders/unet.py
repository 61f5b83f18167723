"""U-Net decoder of segmentation-models-pytorch, on any pyramid of features."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from wholescene.errors import ConfigError, UnsupportedError
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.levels import FeatureLevels

__all__ = ["UNet", "UNetOptions"]

CHANNELS = (256, 128, 64, 32, 16)


class UNetOptions(DecoderOptions):
    """Options of the U-Net decoder.

    Args:
        channels: Channels of each block, coarsest first; one block per doubling of the resolution
            (or per feature map, where several share a stride). ``None`` takes 256, 128, 64, ...
        attention: ``"scse"`` adds spatial and channel squeeze-and-excitation to each block.
        dropout: Share of channels dropped before the classifier while training.
    """

    channels: tuple[int, ...] | None = None
    attention: str | None = Field(default=None, pattern="^scse$")
    dropout: float = Field(default=0.0, ge=0, lt=1)


class UNet(Decoder):
    """Upsample (nearest), stack the encoder's map of that size, two 3 x 3 convolutions; repeat.

    Strides the encoder has no map for (1; also 2 for ConvNeXt and Swin) get a block without one.

    Source:
        Ronneberger et al. 2015, arXiv:1505.04597; blocks and weights layout of
        ``segmentation_models_pytorch`` (``UnetDecoder``). Only the loop over blocks is ours: it
        skips a missing map where theirs stacks one with no channels.

    Raises:
        UnsupportedError: If the extra ``smp`` is not installed, or the encoder has one scale.
        ConfigError: If ``channels`` does not list one number per block.
    """

    Options: ClassVar[type[DecoderOptions]] = UNetOptions
    head_kernel_size: ClassVar[int] = 3

    def __init__(self, levels: FeatureLevels, options: UNetOptions, num_classes: int) -> None:
        super().__init__()
        del num_classes
        if not levels.is_pyramid:
            raise UnsupportedError(
                f"encoder {levels.encoder!r} gives features at one scale only (strides "
                f"{levels.reductions}), and U-Net needs several; choose an encoder with a pyramid, "
                "such as 'resnet18' or 'convnext_tiny', or model.decoder = 'fcn'"
            )
        # Finest first: (reduction, index of the encoder's map or None).
        self._steps = _steps(levels.reductions)
        channels = _block_channels(options.channels, len(self._steps) - 1)
        self.out_channels = channels[-1]
        self.dropout = options.dropout
        skips = [0 if i is None else levels.channels[i] for _, i in self._steps]
        self.net = _smp_decoder(skips, channels, attention=options.attention)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map feature maps to (B, out_channels, H, W) at the full resolution."""
        coarsest = self._steps[-1][0]
        height, width = (side * coarsest for side in features[-1].shape[-2:])
        decoded: Tensor = self.net.center(features[-1])
        for block, (reduction, index) in zip(
            self.net.blocks, reversed(self._steps[:-1]), strict=True
        ):
            # The map at stride 1, which only VGG has, is not stacked: smp builds no input for it.
            skip = None if index is None or reduction == 1 else features[index]
            decoded = block(decoded, height // reduction, width // reduction, skip_connection=skip)
        return decoded


def _steps(reductions: tuple[int, ...]) -> tuple[tuple[int, int | None], ...]:
    """Put the strides of the encoder, and the powers of two it lacks below them, in order."""
    steps: list[tuple[int, int | None]] = [(r, i) for i, r in enumerate(reductions)]
    missing = 1
    while missing < reductions[0]:
        steps.append((missing, None))
        missing *= 2
    return tuple(sorted(steps, key=lambda step: (step[0], -1 if step[1] is None else step[1])))


def _block_channels(asked: tuple[int, ...] | None, num_blocks: int) -> tuple[int, ...]:
    if asked is None:
        more = (CHANNELS[-1],) * (num_blocks - len(CHANNELS))
        return (*CHANNELS[:num_blocks], *more)
    if len(asked) != num_blocks or min(asked) < 1:
        raise ConfigError(
            f"model.decoder_options.channels lists {list(asked)}, but this encoder needs "
            f"{num_blocks} blocks, coarsest first, each >= 1; or leave it out"
        )
    return asked


def _smp_decoder(skips: list[int], channels: tuple[int, ...], *, attention: str | None) -> Any:
    """Build smp's decoder, initialised as smp does; imported late because it is an extra."""
    try:
        from segmentation_models_pytorch.base.initialization import initialize_decoder
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
    except ImportError as error:
        raise UnsupportedError(
            "decoder 'unet' needs segmentation-models-pytorch, which is not installed; run "
            "pip install 'wholescene[smp]', or choose model.decoder = 'upernet' or 'fcn'"
        ) from error
    decoder = UnetDecoder(
        encoder_channels=skips,
        decoder_channels=channels,
        n_blocks=len(channels),
        attention_type=attention,
    )
    initialize_decoder(decoder)
    return decoder
