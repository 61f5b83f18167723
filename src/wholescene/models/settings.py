"""The ``model`` section of a run configuration."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wholescene.models.auxiliary import AuxiliaryOptions
from wholescene.models.decoders import decoder_options
from wholescene.models.encoder import check_encoder
from wholescene.models.interaction import InteractionOptions
from wholescene.models.refine import RefineRunSettings
from wholescene.models.spec import Architecture

__all__ = ["ModelSettings"]


class ModelSettings(BaseModel):
    """Which network to train, and what it starts from.

    Args:
        encoder: timm model name, ``stdc1`` or ``stdc2`` (``wholescene models list``).
        pretrained: Start the encoder from timm's weights, fetched over the network.
        weights: Start the encoder from a local file instead: .safetensors, a PyTorch checkpoint
            without code, or a model of this package.
        weights_bands: Bands that file was trained on, in order, or those of each of its groups
            after another (SatMAE); by default what a model of this package says, else red, green,
            blue for three channels.
        decoder: Name of the decoder (``wholescene models list``).
        decoder_options: Options of the decoder, such as ``channels`` or ``dropout``.
        encoder_options: Arguments of timm, such as ``output_stride`` or ``drop_path_rate``; for
            ResNets also ``dilation`` and ``multi_grid`` (``wholescene.models.dilation``).
        auxiliary: Train a second, small head on one of the encoder's maps.
        auxiliary_options: Which map, by default the second-coarsest, and the layers on it.
        interaction: Layers of attention over the whole scene between encoder and decoder; a
            network trained without them may be gone on with (``train.init_from``).
        refine: Train a second network that looks again at windows with small objects; the first
            one comes from ``train.init_from`` and stays as it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "resnet18"
    pretrained: bool = False
    weights: str | None = None
    weights_bands: tuple[str, ...] | None = None
    decoder: str = "unet"
    decoder_options: dict[str, Any] = Field(default_factory=dict)
    encoder_options: dict[str, Any] = Field(default_factory=dict)
    auxiliary: bool = False
    auxiliary_options: AuxiliaryOptions = AuxiliaryOptions()
    interaction: InteractionOptions | None = None
    refine: RefineRunSettings | None = None

    @model_validator(mode="after")
    def _names_exist(self) -> ModelSettings:
        check_encoder(self.encoder)
        decoder_options(self.decoder, self.decoder_options)
        if self.refine is not None:
            check_encoder(self.refine.encoder)
            decoder_options(self.refine.decoder, self.refine.decoder_options)
        if self.pretrained and self.weights is not None:
            raise ValueError(
                "pretrained = true and weights both start the encoder; keep one of them"
            )
        return self

    @property
    def architecture(self) -> Architecture:
        """The part a model file keeps."""
        return Architecture(
            encoder=self.encoder,
            decoder=self.decoder,
            decoder_options=self.decoder_options,
            encoder_options=self.encoder_options,
            auxiliary=self.auxiliary,
            auxiliary_options=self.auxiliary_options,
            interaction=self.interaction,
            refine=self.refine and self.refine.kept,
        )
