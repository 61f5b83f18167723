"""Which weights a new run starts from."""

from __future__ import annotations

import torch

from wholescene.errors import ConfigError, ModelFileError
from wholescene.models import (
    ModelSettings,
    ModelSpec,
    RefinedSegmenter,
    RefineRunSettings,
    Segmenter,
    build_segmenter,
    load_encoder_weights,
    load_model,
    start_encoder,
)
from wholescene.train.settings import TrainSettings

__all__ = ["initial_model"]

HEADS = ("head.", "auxiliary.", "decoder.heads.")
"""Parts whose tensors belong to the classes."""

INTERACTION = ("interaction.",)
"""Layers over the scene, which a network may gain; they start out adding nothing."""

REFINER = ("fine.", "scale", "bias")
"""Parts of a refined network that a coarse one lacks."""


def initial_model(
    spec: ModelSpec, model: ModelSettings, train: TrainSettings
) -> tuple[Segmenter, str]:
    """Build the network with random, pretrained or transferred weights.

    Args:
        spec: Description of the network.
        model: Whether its encoder starts pretrained.
        train: Seed of the random weights, and ``init_from``.

    Returns:
        The network, and one line on where its weights come from.

    Raises:
        ConfigError: If two settings want to start an encoder, or none starts what is refined.
        ModelFileError: If weights cannot be read or do not fit.
    """
    _check_origins(model, train)
    torch.manual_seed(train.seed)
    network = build_segmenter(
        spec,
        pretrained=model.pretrained,
        weights=model.weights,
        weights_bands=model.weights_bands,
    )
    if train.init_from is None:
        return network, _describe(model)
    if train.init_part == "all":
        return network, _take_all(network, model, train)
    report = load_encoder_weights(network, train.init_from)
    return network, f"{report.matched} of {report.total} encoder tensors from {train.init_from}"


def _check_origins(model: ModelSettings, train: TrainSettings) -> None:
    started = model.pretrained or model.weights is not None
    if train.init_from is not None and started:
        raise ConfigError(
            f"train.init_from = {str(train.init_from)!r} and model.pretrained or model.weights "
            "would both start the encoder; keep one"
        )
    if model.refine is not None and (train.init_from is None or train.init_part != "all"):
        raise ConfigError(
            "model.refine corrects a coarse network that was trained before and stays as it is; "
            "set train.init_from to its run and train.init_part to all"
        )


def _describe(model: ModelSettings | RefineRunSettings) -> str:
    if model.weights is not None:
        return f"encoder weights from {model.weights}"
    return "timm's pretrained encoder" if model.pretrained else "random weights"


def _take_all(network: Segmenter, model: ModelSettings, train: TrainSettings) -> str:
    """Copy every tensor that fits; only the head may differ, where the classes do."""
    assert train.init_from is not None
    source = load_model(train.init_from)
    if source.spec.band_names != network.spec.band_names:
        raise ModelFileError(
            f"train.init_from = {str(train.init_from)!r} reads bands "
            f"{list(source.spec.band_names)}, this run {list(network.spec.band_names)}; use the "
            "same bands in the same order, or train.init_part encoder"
        )
    if source.spec.provenance.get("trained") == "encoder":
        raise ModelFileError(
            f"train.init_from = {str(train.init_from)!r} was pre-trained by "
            f"{source.spec.provenance.get('pretraining')!r}, which teaches only the encoder; use "
            "train.init_part encoder, or pre-train with glcnet, which teaches the decoder as well"
        )
    own = network.state_dict()
    has_same_classes = source.spec.classes == network.spec.classes
    fitting = {
        name: value
        for name, value in source.state_dict().items()
        if name in own
        and own[name].shape == value.shape
        and (has_same_classes or not name.startswith(HEADS))
    }
    lacking = sorted(own.keys() - fitting.keys())
    may_lack = (*HEADS, *INTERACTION, *(REFINER if isinstance(network, RefinedSegmenter) else ()))
    foreign = [name for name in lacking if not name.startswith(may_lack)]
    if foreign:
        raise ModelFileError(
            f"train.init_from = {str(train.init_from)!r} fills {len(fitting)} of {len(own)} "
            f"tensors; missing or of another shape: {', '.join(foreign[:5])}"
            f"{' ...' if len(foreign) > 5 else ''}. Use the same model section, or train.init_part "
            "encoder"
        )
    network.load_state_dict(fitting, strict=False)
    fresh = f"; {len(lacking)} start afresh" if lacking else ""
    text = f"{len(fitting)} of {len(own)} tensors from {train.init_from}{fresh}"
    if isinstance(network, RefinedSegmenter) and model.refine is not None:
        has_fine = isinstance(source, RefinedSegmenter)
        return text + _start_fine(network, model.refine, train, has_fine=has_fine)
    return text


def _start_fine(
    network: RefinedSegmenter, settings: RefineRunSettings, train: TrainSettings, *, has_fine: bool
) -> str:
    """Start the fine network's encoder, if anything but chance does."""
    if not settings.is_started:
        return ""
    if has_fine:
        raise ConfigError(
            f"train.init_from = {str(train.init_from)!r} holds a fine network, and "
            "model.refine.pretrained or model.refine.weights would start it as well; keep one"
        )
    try:
        start_encoder(
            network.fine,
            pretrained=settings.pretrained,
            weights=settings.weights,
            weights_bands=settings.weights_bands,
        )
    except ModelFileError as error:
        raise ModelFileError(
            f"the fine network, whose settings are in model.refine instead of model: {error}"
        ) from error
    return f"; the fine network: {_describe(settings)}"
