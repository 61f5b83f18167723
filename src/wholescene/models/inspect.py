"""What can be built, and what a network is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
from torch import nn

from wholescene.errors import ConfigError, ModelFileError
from wholescene.models.build import build_segmenter
from wholescene.models.container import read_spec
from wholescene.models.decoders import DECODERS
from wholescene.models.encoder import build_encoder
from wholescene.models.spec import ModelSpec

__all__ = ["ModelDescription", "describe", "list_decoders", "list_encoders", "show"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """The parts of a network.

    Args:
        encoder: timm name.
        decoder: Decoder name.
        num_bands: Channels in.
        num_classes: Channels out.
        stride: Images are padded to a multiple of this many pixels.
        channels: Channels of the encoder's maps, finest first.
        reductions: Stride of each map, in pixels.
        parameters: Number of parameters of ``encoder``, ``decoder``, ``head``, ``auxiliary``.
    """

    encoder: str
    decoder: str
    num_bands: int
    num_classes: int
    stride: int
    channels: tuple[int, ...]
    reductions: tuple[int, ...]
    parameters: dict[str, int]

    @property
    def num_parameters(self) -> int:
        """Parameters altogether."""
        return sum(self.parameters.values())


def list_encoders(pattern: str = "*") -> tuple[str, ...]:
    """Names of timm's models and of those entered among them (STDC), by shell pattern.

    A few of them work on one image size only; they are refused when built.
    """
    return tuple(timm.list_models(pattern or "*"))


def list_decoders() -> tuple[str, ...]:
    """Names a configuration may give as ``model.decoder``."""
    return tuple(DECODERS)


def describe(spec: ModelSpec) -> ModelDescription:
    """Build the network with random weights and count.

    Raises:
        ConfigError: If it cannot be built.
    """
    model = build_segmenter(spec)
    encoder = model.encoder
    parts = {name: _count(part) for name, part in model.named_children()}
    return ModelDescription(
        encoder=encoder.name,
        decoder=spec.architecture.decoder,
        num_bands=spec.num_bands,
        num_classes=len(spec.classes),
        stride=encoder.stride,
        channels=encoder.channels,
        reductions=encoder.reductions,
        parameters=parts,
    )


def show(name: str) -> dict[str, Any]:
    """Give the facts about an encoder or a model file, ready for JSON.

    Args:
        name: timm model name, or the path of a model.

    Raises:
        ConfigError: If it is neither.
        ModelFileError: If the model cannot be read.
    """
    if Path(name).exists():
        spec = read_spec(name)
        facts = asdict(describe(spec))
        return {**facts, **spec.model_dump(mode="json", exclude={"architecture"})}
    try:
        encoder = build_encoder(name, num_bands=3)
    except ConfigError as error:
        if "/" in name or "\\" in name:
            raise ModelFileError(f"there is no model at {name}") from None
        raise error
    return {
        "encoder": encoder.name,
        "channels": encoder.channels,
        "reductions": encoder.reductions,
        "stride": encoder.stride,
        "parameters": _count(encoder),
        "pretrained": timm.list_pretrained(f"{name.partition('.')[0]}.*"),
    }


def _count(part: nn.Module | None) -> int:
    return 0 if part is None else sum(p.numel() for p in part.parameters())
