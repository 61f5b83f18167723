"""The ``model.refine`` section: what a second network looks at again."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["RefineRunSettings", "RefineSettings"]


class RefineSettings(BaseModel):
    """What is looked at again, and by which network.

    Args:
        classes: Names of the small classes.
        window_px: Side of a window; windows lie edge to edge from the scene's upper left corner.
        margin_px: Context on each side of a window that the fine network sees as well.
        encoder: Encoder of the fine network, as ``model.encoder``.
        decoder: Its decoder.
        encoder_options: As ``model.encoder_options``.
        decoder_options: As ``model.decoder_options``.
        per_class: Tell the small classes apart; else only small objects from everything else.
        fusion: ``learned`` adds the fine network's log-odds with a scale and a bias per class;
            ``published`` adds its probability to the coarse logits.
        stride_px: Distance of the windows that training chooses from.
        budget: Windows an image trains on.
        empty_share: Share of them that is drawn at random.
        faithful: Train as published: windows by what the coarse network predicts alone, near
            duplicates among them, ignored pixels taken for background.
        batch: Windows the fine network takes at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: tuple[str, ...] = Field(min_length=1)
    window_px: int = Field(default=128, ge=8)
    margin_px: int = Field(default=16, ge=0)
    encoder: str = "hrnet_w18"
    decoder: str = "fcn"
    encoder_options: dict[str, Any] = Field(default_factory=dict)
    decoder_options: dict[str, Any] = Field(default_factory=dict)
    per_class: bool = True
    fusion: Literal["learned", "published"] = "learned"
    stride_px: int = Field(default=32, ge=1)
    budget: int = Field(default=32, ge=1)
    empty_share: float = Field(default=0.25, ge=0, le=1)
    faithful: bool = False
    batch: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _published_is_whole(self) -> RefineSettings:
        if self.faithful and (self.per_class or self.fusion != "published" or self.margin_px):
            raise ValueError(
                "faithful refinement has per_class: false, fusion: published and margin_px: 0; set "
                "them, or leave faithful out"
            )
        return self


class RefineRunSettings(RefineSettings):
    """The same for a run: also what the encoder of the fine network starts from.

    Args:
        pretrained: As ``model.pretrained``.
        weights: As ``model.weights``; the run of the coarse network gives its encoder.
        weights_bands: As ``model.weights_bands``.
    """

    pretrained: bool = False
    weights: str | None = None
    weights_bands: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one_start(self) -> RefineRunSettings:
        if self.pretrained and self.weights is not None:
            raise ValueError(
                "pretrained = true and weights both start the fine network's encoder; keep one of "
                "them"
            )
        return self

    @property
    def is_started(self) -> bool:
        """Whether the encoder starts from weights somebody trained before."""
        return self.pretrained or self.weights is not None

    @property
    def kept(self) -> RefineSettings:
        """The part a model file keeps."""
        return RefineSettings(**self.model_dump(include=set(RefineSettings.model_fields)))
