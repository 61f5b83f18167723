"""The ``data`` section of a run configuration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ColorDistortion", "DataSettings", "Sampling", "ValMode"]

Sampling = Literal["random", "grid", "balanced", "scenes"]
ValMode = Literal["patches", "scenes"]

_STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ColorDistortion(BaseModel):
    """Random changes of colour as photographs get them, in random order; 0 leaves one out."""

    model_config = _STRICT

    brightness: float = Field(default=0.4, ge=0, lt=1)
    """Random factor on all values, up to 1 +- this."""
    contrast: float = Field(default=0.4, ge=0, lt=1)
    """Random factor on the distance from the patch's mean grey, up to 1 +- this."""
    saturation: float = Field(default=0.4, ge=0, lt=1)
    """Random factor on the distance from each pixel's grey, up to 1 +- this."""
    hue_degrees: float = Field(default=25.4, ge=0, le=180)
    """Random turn of the hue, up to +- this; 25.4 is 18 of the 255 steps of an 8-bit hue."""
    chance: float = Field(default=0.5, ge=0, le=1)
    """Chance of each change."""
    white: float = Field(default=255.0, gt=0, allow_inf_nan=False)
    """Largest value of a band; every change ends at 0 and at this."""


class DataSettings(BaseModel):
    """Which scenes train and validate, and how patches are cut from them and varied."""

    model_config = _STRICT

    dataset: Path
    """``dataset.yaml`` of the dataset, or its folder."""
    train_split: str = Field(default="train", min_length=1)
    """Split whose labelled scenes train."""
    val_split: str | None = Field(default="val", min_length=1)
    """Split that validates, never seen in training; none: no validation."""
    fraction: Path | None = None
    """Table of the labels that may train (``data fraction``); none: every label of the split."""
    bands: tuple[int | str, ...] | None = None
    """Bands of the first source: 1-based numbers, names or wavelengths such as ``665nm``; none:
    those of the dataset."""
    target: str | None = None
    """Label column of the scene table; none: the first target of kind mask."""
    mean: tuple[float, ...] | None = None
    """Mean that normalises each band, in the order of the bands; none: that of the dataset."""
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """Standard deviation likewise."""

    patch_px: int = Field(default=256, ge=8, le=16_384)
    """Height and width of a patch as the network sees it, in pixels."""
    sampling: Sampling = "random"
    """``random``: anywhere, by area; ``grid``: every place once per epoch, in shuffled order;
    ``balanced``: around pixels of a class drawn first, so that rare classes come up; ``scenes``:
    every scene whole, at its own size, whatever ``patch_px``; one a batch."""
    balance_power: float = Field(default=0.0, ge=0, le=1)
    """How balanced sampling draws the class: share of pixels to this power. 0: all classes
    equally often; 0.5: by the square root of their share; 1: as often as they occur."""
    patches_per_epoch: int | None = Field(default=None, ge=1)
    """Patches of one epoch over all processes; none: as many as cover the training area once."""
    batch_size: int = Field(default=8, ge=1)
    """Patches of one batch in each process."""
    num_workers: int = Field(default=2, ge=0, le=256)
    """Worker processes that read patches, for each training process; 0 reads in the training
    process. The patches are the same for every number."""
    cache_mb: int | None = Field(default=None, ge=16)
    """Megabytes of decoded pixels GDAL may keep, over all workers of this machine; none: a tenth of
    its memory, at most 2048. The environment variable GDAL_CACHEMAX goes before it."""

    flips: bool | Literal["left-right"] = True
    """Mirror patches at random, left-right and top-bottom; ``left-right``: not top-bottom, as long
    as ``turns`` are off."""
    turns: bool = True
    """Turn patches at random by quarters."""
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest side of the window a patch is cut from, as a factor of ``patch_px``;
    drawn evenly in its logarithm. 2 shows twice the ground at half the resolution."""
    zooms: tuple[Annotated[float, Field(ge=0.1, le=10)], ...] | None = Field(
        default=None, min_length=1
    )
    """Enlargements of the scene before a patch is cut, each as likely as the others, in the place
    of ``scale_jitter``. 0.5 shows twice the ground at half the resolution."""
    gain: float = Field(default=0.0, ge=0, lt=1)
    """Random factor on the physical values of all bands, up to 1 +- this (sensor gain, light)."""
    band_gain: float = Field(default=0.0, ge=0, lt=1)
    """The same, drawn for each band on its own."""
    brightness: float = Field(default=0.0, ge=0)
    """Random shift of all bands, up to +- this many standard deviations."""
    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Random factor on the distance from the dataset's mean, up to 1 +- this."""
    noise: float = Field(default=0.0, ge=0)
    """Random noise per pixel; its strength is drawn between 0 and this many standard deviations."""
    channel_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance of each band to be blanked to its mean; one band always stays."""
    color_distortion: ColorDistortion | None = None
    """Change brightness, contrast, saturation and hue of three bands; none: do not."""

    val_mode: ValMode = "patches"
    """``patches``: windows side by side, each pixel once; ``scenes``: whole scenes through the
    prediction engine."""

    @model_validator(mode="after")
    def _scales_in_order(self) -> DataSettings:
        low, high = self.scale_jitter
        if not (0.1 <= low <= high <= 10 and math.isfinite(high)):
            raise ValueError(
                f"scale_jitter {list(self.scale_jitter)} is not (smallest, largest) with "
                "0.1 <= smallest <= largest <= 10; (1.0, 1.0) keeps the scale"
            )
        if self.sampling == "scenes" and (self.batch_size > 1 or self.zooms or low != high):
            raise ValueError(
                "sampling 'scenes' trains on one whole scene at a time and at its own scale, but "
                f"batch_size is {self.batch_size}, scale_jitter {list(self.scale_jitter)} and "
                f"zooms {self.zooms}; set batch_size: 1 and leave the others out, and use "
                "optim.accumulate for more scenes a step"
            )
        if self.zooms is not None and self.scale_jitter != (1.0, 1.0):
            raise ValueError(
                f"zooms {list(self.zooms)} and scale_jitter {list(self.scale_jitter)} both choose "
                "the scale of a patch; keep one"
            )
        return self
