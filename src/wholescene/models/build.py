"""From a description to a network."""

from __future__ import annotations

import warnings
from pathlib import Path

from wholescene.errors import ConfigError
from wholescene.models.decoders import Decoder, build_decoder
from wholescene.models.encoder import Encoder, build_encoder
from wholescene.models.refiner import RefinedSegmenter, fine_spec
from wholescene.models.segmenter import Segmenter
from wholescene.models.spec import Architecture, ModelSpec
from wholescene.models.weights import load_encoder_weights, load_timm_weights

__all__ = ["build_segmenter", "start_encoder"]


def build_segmenter(
    spec: ModelSpec,
    *,
    pretrained: bool = False,
    weights: str | Path | None = None,
    weights_bands: tuple[str, ...] | None = None,
) -> Segmenter:
    """Build a network from its description, with random or pretrained encoder weights.

    Args:
        spec: Description.
        pretrained: Fetch timm's weights of the encoder.
        weights: Load the encoder's weights from a local file or model instead.
        weights_bands: Bands the file in ``weights`` was trained on, as ``source_bands`` of
            :func:`load_encoder_weights`.

    Warns:
        UserWarning: If the file is of this network, and yet leaves what reads the image at random.

    Raises:
        ConfigError: If the architecture has an unknown name or option.
        UnsupportedError: If encoder and decoder do not fit.
        ModelFileError: If weights cannot be fetched, read or matched.
    """
    if pretrained and weights is not None:
        raise ConfigError(
            f"model.pretrained = true and model.weights = {str(weights)!r} both start the encoder; "
            "keep one"
        )
    made = spec.architecture
    encoder = build_encoder(made.encoder, num_bands=spec.num_bands, options=made.encoder_options)
    decoder = build_decoder(made.decoder, encoder.levels, made.decoder_options, len(spec.classes))
    _check_fit(encoder, decoder, made)
    if made.refine is None:
        model = Segmenter(spec, encoder, decoder)
    else:
        model = RefinedSegmenter(spec, encoder, decoder, build_segmenter(fine_spec(spec)))
    start_encoder(model, pretrained=pretrained, weights=weights, weights_bands=weights_bands)
    return model


def start_encoder(
    model: Segmenter,
    *,
    pretrained: bool,
    weights: str | Path | None,
    weights_bands: tuple[str, ...] | None,
) -> None:
    """Give a network's encoder weights that were trained before; arguments as above.

    Raises:
        ModelFileError: If weights cannot be fetched, read or matched.
    """
    if pretrained:
        load_timm_weights(model)
    if weights is not None:
        report = load_encoder_weights(model, weights, source_bands=weights_bands)
        if report.fresh:
            warnings.warn(report.line, stacklevel=2)


def _check_fit(encoder: Encoder, decoder: Decoder, made: Architecture) -> None:
    if encoder.has_parallel_streams and not decoder.reads_all:
        raise ConfigError(
            f"encoder {encoder.name!r} has parallel streams; decoder {made.decoder!r} on some of "
            "them alone would leave layers that never train. Set model.decoder_options.levels = "
            "'all' if the decoder has it (fcn, ocrnet ...), with model.encoder_options = "
            "{feature_location: '', out_indices: [1, 2, 3, 4]} for the published form"
        )
    level, count = made.auxiliary_options.level, len(encoder.channels)
    if made.auxiliary and not -count <= level < count:
        raise ConfigError(
            f"encoder {encoder.name!r} gives {'one map' if count == 1 else f'{count} maps'}, and "
            f"the auxiliary head reads number {level} (negative: from the coarsest); set "
            "model.auxiliary = false or model.auxiliary_options.level to one there is"
        )
