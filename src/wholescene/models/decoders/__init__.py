"""Decoders, one per file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from wholescene.errors import ConfigError
from wholescene.models.decoders.contrast import Contrast, ContrastOptions
from wholescene.models.decoders.danet import DANet, DANetOptions
from wholescene.models.decoders.decoder import Decoder, DecoderOptions
from wholescene.models.decoders.deeplabv3 import DeepLabV3, DeepLabV3Options
from wholescene.models.decoders.deeplabv3plus import DeepLabV3Plus, DeepLabV3PlusOptions
from wholescene.models.decoders.dpt import DPT, DPTOptions
from wholescene.models.decoders.fcn import FCN, FCNOptions
from wholescene.models.decoders.levels import FeatureLevels, resize
from wholescene.models.decoders.linear import Linear, LinearOptions
from wholescene.models.decoders.mask2former import Mask2Former, Mask2FormerOptions
from wholescene.models.decoders.ocrnet import OCRNet, OCRNetOptions
from wholescene.models.decoders.pointrend import PointRend, PointRendOptions
from wholescene.models.decoders.pspnet import PSPNet, PSPNetOptions
from wholescene.models.decoders.segformer import SegFormer, SegFormerOptions
from wholescene.models.decoders.segvit import SegViT, SegViTOptions
from wholescene.models.decoders.setr import SETR, SETROptions
from wholescene.models.decoders.smp import SMP_DECODERS
from wholescene.models.decoders.stdc import STDC, STDCOptions
from wholescene.models.decoders.unet import UNet, UNetOptions
from wholescene.models.decoders.upernet import UPerNet, UPerNetOptions
from wholescene.models.wording import explain, nearest

__all__ = [
    "DECODERS",
    "DPT",
    "FCN",
    "SETR",
    "STDC",
    "Contrast",
    "ContrastOptions",
    "DANet",
    "DANetOptions",
    "DPTOptions",
    "DeepLabV3",
    "DeepLabV3Options",
    "DeepLabV3Plus",
    "DeepLabV3PlusOptions",
    "OCRNet",
    "OCRNetOptions",
    "Mask2Former",
    "Mask2FormerOptions",
    "PointRend",
    "PointRendOptions",
    "SETROptions",
    "STDCOptions",
    "SegFormer",
    "SegFormerOptions",
    "SegViT",
    "SegViTOptions",
    "PSPNet",
    "PSPNetOptions",
    "Decoder",
    "DecoderOptions",
    "FCNOptions",
    "FeatureLevels",
    "Linear",
    "LinearOptions",
    "UNet",
    "UNetOptions",
    "UPerNet",
    "UPerNetOptions",
    "build_decoder",
    "decoder_options",
    "resize",
]

DECODERS: dict[str, type[Decoder]] = {
    "linear": Linear,
    "fcn": FCN,
    "unet": UNet,
    "upernet": UPerNet,
    "pspnet": PSPNet,
    "danet": DANet,
    "deeplabv3": DeepLabV3,
    "deeplabv3plus": DeepLabV3Plus,
    "ocrnet": OCRNet,
    "contrast": Contrast,
    "segformer": SegFormer,
    "pointrend": PointRend,
    "mask2former": Mask2Former,
    "segvit": SegViT,
    "setr": SETR,
    "dpt": DPT,
    "stdc": STDC,
    **SMP_DECODERS,
}
"""Every decoder by the name it has in a configuration and in a model file."""


def decoder_options(name: str, options: Mapping[str, Any]) -> DecoderOptions:
    """Check the name and options of a decoder without building it.

    Raises:
        ConfigError: If there is no such decoder, or an option is unknown or out of range.
    """
    if name not in DECODERS:
        raise ConfigError(
            f"no decoder {name!r}{nearest(name, DECODERS)}; model.decoder is one of "
            f"{', '.join(DECODERS)}"
        )
    legal = DECODERS[name].Options
    try:
        return legal.model_validate(dict(options))
    except ValidationError as error:
        reasons = explain(error, legal)
        raise ConfigError(
            f"decoder {name!r} cannot take model.decoder_options: {reasons}"
        ) from None


def build_decoder(
    name: str, levels: FeatureLevels, options: Mapping[str, Any], num_classes: int
) -> Decoder:
    """Build a decoder for an encoder's feature maps.

    Raises:
        ConfigError: If the name or options are not legal.
        UnsupportedError: If the decoder cannot read these feature maps.
    """
    checked = decoder_options(name, options)
    # Each class takes its own options; the table pairs them.
    return DECODERS[name](levels, checked, num_classes)
