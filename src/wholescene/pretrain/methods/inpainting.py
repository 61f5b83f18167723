"""Inpainting: fill in small holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from wholescene.errors import ConfigError
from wholescene.models import Segmenter
from wholescene.models.decoders import resize
from wholescene.pretrain.geometry import uniform
from wholescene.pretrain.losses import hole_error
from wholescene.pretrain.methods.method import Method, MethodOptions
from wholescene.pretrain.views import View

__all__ = ["Inpainting", "InpaintingOptions", "draw_holes"]


class InpaintingOptions(MethodOptions):
    """Options of inpainting.

    Args:
        holes: Square holes of an image.
        hole_px: Their side.
        hole_weight: Weight of the error in the holes; the rest weighs ``1 - hole_weight``.
    """

    holes: int = Field(default=16, ge=1)
    hole_px: int = Field(default=16, ge=1)
    hole_weight: float = Field(default=0.99, gt=0, le=1)


class Inpainting(Method):
    """Encoder and decoder restore the normalised values of a view with holes.

    Source:
        Pathak et al. 2016, arXiv:1604.07379, without its adversarial loss, as GLCNet's baseline
        (arXiv:2106.10605); the output has no bound, and holes are drawn for every image anew.

    Raises:
        ConfigError: If the decoder gives no features, or a hole is larger than a view.
    """

    Options: ClassVar[type[MethodOptions]] = InpaintingOptions
    num_views: ClassVar[int] = 1

    def __init__(self, network: Segmenter, options: InpaintingOptions, view_px: int) -> None:
        super().__init__(network, uses_decoder=True)
        if network.decoder.makes_logits:
            raise ConfigError(
                "inpainting paints with the features of a decoder, and "
                f"{network.spec.architecture.decoder!r} gives classes at once; set model.decoder = "
                "'unet' or 'deeplabv3plus'"
            )
        if options.hole_px > view_px:
            raise ConfigError(
                f"method.options.hole_px = {options.hole_px} is larger than views.view_px = "
                f"{view_px}; lower it"
            )
        self.options = options
        self.paint = nn.Conv2d(network.decoder.out_channels, network.spec.num_bands, 1)

    def forward(self, views: Sequence[View], generator: torch.Generator) -> Tensor:
        """Error of the filled view."""
        image = views[0].image
        hole = draw_holes(image, self.options.holes, side=self.options.hole_px, generator=generator)
        decoded = self.network.decoder(self.maps(image.masked_fill(hole, 0.0)))
        height, width = image.shape[2:]
        painted = resize(cast(Tensor, self.paint(decoded)), (height, width))
        return hole_error(painted, image, hole, hole_weight=self.options.hole_weight)


def draw_holes(images: Tensor, count: int, *, side: int, generator: torch.Generator) -> Tensor:
    """Draw square holes inside each image; they may overlap.

    Args:
        images: (B, C, H, W).
        count: Holes of an image.
        side: Their side.
        generator: Source of the draws.

    Returns:
        Boolean (B, 1, H, W).
    """
    inside = []
    for length in images.shape[2:]:
        start = (uniform(generator, len(images), count, 1) * (length - side + 1)).floor()
        place = torch.arange(length, device=images.device)
        inside.append((place >= start) & (place < start + side))
    rows, cols = inside
    return (rows[..., :, None] & cols[..., None, :]).any(1, keepdim=True)
