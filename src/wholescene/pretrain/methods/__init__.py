"""Pretext tasks, one per file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import ValidationError

from wholescene.errors import ConfigError
from wholescene.models import Segmenter
from wholescene.pretrain.methods.byol import BYOL
from wholescene.pretrain.methods.densecl import DenseCL
from wholescene.pretrain.methods.glcnet import GLCNet
from wholescene.pretrain.methods.inpainting import Inpainting
from wholescene.pretrain.methods.jigsaw import Jigsaw
from wholescene.pretrain.methods.mae import MAE
from wholescene.pretrain.methods.method import Method, MethodOptions
from wholescene.pretrain.methods.moco import MoCo
from wholescene.pretrain.methods.mocobyol import MoCoBYOL
from wholescene.pretrain.methods.pixpro import PixPro
from wholescene.pretrain.methods.simclr import SimCLR
from wholescene.pretrain.methods.simsiam import SimSiam
from wholescene.pretrain.methods.swav import SwAV
from wholescene.pretrain.methods.vicregl import VICRegL

__all__ = ["METHODS", "Method", "MethodOptions", "build_method", "method_options"]

METHODS: dict[str, type[Method]] = {
    "glcnet": GLCNet,
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "mocobyol": MoCoBYOL,
    "simsiam": SimSiam,
    "swav": SwAV,
    "densecl": DenseCL,
    "pixpro": PixPro,
    "vicregl": VICRegL,
    "inpainting": Inpainting,
    "jigsaw": Jigsaw,
    "mae": MAE,
}
"""Every method by the name it has in a configuration."""


def method_options(name: str, options: Mapping[str, Any]) -> MethodOptions:
    """Check the name and options of a method without building it.

    Raises:
        ConfigError: If there is no such method, or an option is unknown or out of range.
    """
    if name not in METHODS:
        raise ConfigError(f"no method {name!r}; method.name is one of {', '.join(METHODS)}")
    legal = METHODS[name].Options
    try:
        return legal.model_validate(dict(options))
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(map(str, part['loc'])) or 'options'}: {part['msg']}"
            for part in error.errors()
        )
        raise ConfigError(
            f"method {name!r} cannot take method.options: {reasons}. It knows "
            f"{', '.join(legal.model_fields) or 'no options'}"
        ) from None


def build_method(
    name: str, network: Segmenter, options: Mapping[str, Any], *, view_px: int
) -> Method:
    """Build a pretext task around a network.

    Args:
        name: Name in ``METHODS``.
        network: What is trained.
        options: Options of the method.
        view_px: Side of a view of full size.

    Raises:
        ConfigError: If the options are not legal, or do not fit the network.
    """
    checked = method_options(name, options)
    # Each class takes its own options; the table pairs them.
    build = cast("Callable[[Segmenter, MethodOptions, int], Method]", METHODS[name])
    return build(network, checked, view_px)
