"""The network: encoder, decoder, head, for images of any size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.labels import IGNORE_INDEX
from wholescene.models.auxiliary import AuxiliaryHead
from wholescene.models.decoders import Decoder, resize
from wholescene.models.encoder import Encoder
from wholescene.models.head import Head
from wholescene.models.interaction import SceneInteraction
from wholescene.models.spec import ModelSpec

__all__ = ["Segmenter"]


class Segmenter(nn.Module):
    """A segmentation network and its description.

    Args:
        spec: What it reads, how it is built, what it predicts.
        encoder: Image to feature maps.
        decoder: Feature maps to one.

    Examples:
        >>> model = build_segmenter(spec).eval()  # doctest: +SKIP
        >>> model(torch.zeros(1, 4, 517, 300)).shape  # doctest: +SKIP
        torch.Size([1, 6, 517, 300])
    """

    def __init__(self, spec: ModelSpec, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.decoder = decoder
        num_classes = len(spec.classes)
        self.head = (
            nn.Identity()
            if decoder.makes_logits
            else Head(
                decoder.out_channels,
                num_classes,
                kernel_size=decoder.head_kernel_size,
                dropout=decoder.dropout,
            )
        )
        made = spec.architecture
        self.interaction = (
            SceneInteraction(encoder.channels, encoder.reductions, made.interaction)
            if made.interaction
            else None
        )
        self.auxiliary = (
            AuxiliaryHead(encoder.levels, made.auxiliary_options, num_classes)
            if made.auxiliary
            else None
        )

    @property
    def stride(self) -> int:
        """Images are padded to a multiple of this many pixels."""
        return self.encoder.stride

    def forward(self, image: Tensor) -> Tensor:
        """Predict.

        Args:
            image: Normalised, (B, C, H, W), any H and W >= 1. Rows and columns of zeros (the band
                mean) are added at the bottom and right up to a multiple of ``stride``, and cut off
                again.

        Returns:
            Logits, (B, K, H, W).
        """
        padded = self._pad(image)
        return _resize_and_crop(self.head(self.decoder(self._features(padded))), padded, image)

    def forward_train(self, image: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        """Predict with every head that trains.

        Args:
            image: As for ``forward``.
            target: Class indices (B, H, W), for decoders with a loss of their own.

        Returns:
            ``"out"``, as from ``forward``; ``"aux"``, if the model has an auxiliary head; and what
            the decoder adds: further logits (B, K, H, W), and losses (scalars).
        """
        padded = self._pad(image)
        features = self._features(padded)
        decoded, further = self.decoder.forward_train(features, _pad_target(target, padded))
        if self.auxiliary is not None:
            further = {"aux": self.auxiliary(features), **further}
        logits = {"out": self.head(decoded), **further}
        return {
            name: _resize_and_crop(value, padded, image) if value.ndim else value
            for name, value in logits.items()
        }

    def _features(self, padded: Tensor) -> list[Tensor]:
        """The encoder's maps, after what they tell each other over the scene."""
        features: list[Tensor] = self.encoder(padded)
        if self.interaction is not None:
            features = self.interaction(features)
        return features

    def _pad(self, image: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self._check(image)
        rows, cols = (-side % self.stride for side in image.shape[-2:])
        if rows or cols:
            image = F.pad(image, (0, cols, 0, rows))
        if self.training and image.numel() == self.spec.num_bands * self.stride**2:
            raise InputError(
                f"one patch of {self.stride} x {self.stride} px or less leaves a single value at "
                f"the encoder's stride {self.stride}, and batch norm needs two; raise "
                "data.patch_px or data.batch_size"
            )
        return image

    def _check(self, image: Tensor) -> None:
        if image.ndim != 4 or min(image.shape) < 1:
            raise InputError(
                f"image of shape {tuple(image.shape)} is not (batch, bands, height, width) with "
                "every side >= 1"
            )
        if image.shape[1] != self.spec.num_bands:
            raise InputError(
                f"image has {image.shape[1]} bands, but the model reads {self.spec.num_bands}: "
                f"{', '.join(self.spec.band_names)}"
            )


def _pad_target(target: Tensor | None, padded: Tensor) -> Tensor | None:
    """Labels of the padded image; what was added is ignored."""
    if target is None:
        return None
    rows, cols = (a - b for a, b in zip(padded.shape[-2:], target.shape[-2:], strict=True))
    return F.pad(target, (0, cols, 0, rows), value=IGNORE_INDEX)


def _resize_and_crop(logits: Tensor, padded: Tensor, image: Tensor) -> Tensor:
    height, width = padded.shape[-2:]
    logits = resize(logits, (height, width))
    height, width = image.shape[-2:]
    return logits[..., :height, :width]
