"""The ``data``, ``views``, ``method`` and ``probe`` sections of a pre-training configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["MethodSettings", "PoolSettings", "ProbeSettings", "ViewSettings"]

_STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

Chance = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class PoolSettings(BaseModel):
    """Which scenes are learned from, and how windows are cut from them; labels are not read."""

    model_config = _STRICT

    dataset: Path
    """``dataset.yaml`` of the pool, or its folder."""
    split: str = Field(default="train", min_length=1)
    """Split that is learned from, labelled or not; several joined as ``train+pool``."""
    bands: tuple[int | str, ...] | None = None
    """Bands of the first source: 1-based numbers, names or wavelengths such as ``665nm``; none:
    those of the dataset."""
    mean: tuple[float, ...] | None = None
    """Mean that normalises each band, in the order of the bands; none: that of the dataset."""
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """Standard deviation likewise."""
    window_px: int = Field(default=256, ge=16, le=16_384)
    """Height and width of the window the views of one sample are cut from, in pixels."""
    draw: Literal["area", "scene"] = "area"
    """``area``: every place of the pool equally often; ``scene``: every scene, which opens scenes
    only when they are drawn, as pools of very many files need."""
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest part of the scene a window shows, as a factor of ``window_px``; drawn
    evenly in its logarithm. 2 shows twice the ground at half the resolution."""
    least_valid: float = Field(default=0.5, ge=0, le=1)
    """Share of a window that must have data; another one is drawn otherwise."""
    windows_per_epoch: int | None = Field(default=None, ge=1)
    """Windows of one epoch over all processes; none: as many as cover the pool once, or one of each
    scene with ``draw: scene``."""
    batch_size: int = Field(default=64, ge=2)
    """Windows of one batch in each process."""
    num_workers: int = Field(default=2, ge=0, le=256)
    """Worker processes that read windows, for each training process; 0 reads in the training
    process. The windows are the same for every number."""
    cache_mb: int | None = Field(default=None, ge=16)
    """Megabytes of decoded pixels GDAL may keep, over all workers of this machine; none: a tenth of
    its memory, at most 2048."""

    @model_validator(mode="after")
    def _scales_in_order(self) -> PoolSettings:
        low, high = self.scale_jitter
        if not 0.1 <= low <= high <= 10:
            raise ValueError(
                f"scale_jitter {list(self.scale_jitter)} is not (smallest, largest) with "
                "0.1 <= smallest <= largest <= 10; (1.0, 1.0) keeps the scale"
            )
        return self


class ViewSettings(BaseModel):
    """How the views of a window are made.

    Values with two numbers are for the first view and for all others.
    """

    model_config = _STRICT

    faithful: bool = False
    """Make the views as GLCNet's release does; every setting but ``view_px`` is fixed then."""
    view_px: int = Field(default=224, ge=16, le=4096)
    """Height and width of a view, in pixels."""
    area: tuple[float, float] = (0.2, 1.0)
    """Smallest and largest share of the window that a view shows."""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width by height of that part."""
    least_overlap: float = Field(default=0.1, ge=0, le=1)
    """Share of the smaller of two views that the other should show as well."""
    flips: bool = True
    """Mirror views at random."""
    turns: bool = True
    """Turn views at random by quarters."""
    color_chance: tuple[Chance, Chance] = (0.8, 0.8)
    """Chance that gain, brightness and contrast of a view change."""
    gain: Share = 0.2
    """Random factor on the physical values of all bands, up to 1 +- this (sensor gain, light)."""
    band_gain: Share = 0.05
    """The same, drawn for each band on its own; small, so that the bands keep their relations."""
    brightness: float = Field(default=0.4, ge=0)
    """Random shift of all bands, up to +- this many standard deviations of the pool."""
    contrast: Share = 0.4
    """Random factor on the distance from the view's mean, up to 1 +- this."""
    grey_chance: Chance = 0.0
    """Chance that three bands become their mean; for images of three bands only."""
    blur_chance: tuple[Chance, Chance] = (0.5, 0.5)
    """Chance of a Gaussian blur."""
    blur_px: tuple[float, float] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels of the view."""
    solarise_chance: tuple[Chance, Chance] = (0.0, 0.0)
    """Chance that values above the pool's mean are mirrored at it."""
    noise: float = Field(default=0.0, ge=0)
    """Random noise per pixel; its strength is drawn between 0 and this many standard deviations."""
    channel_dropout: Share = 0.0
    """Chance of each band to be blanked to its mean; one band always stays."""

    @model_validator(mode="after")
    def _consistent(self) -> ViewSettings:
        given = sorted(self.model_fields_set - {"faithful", "view_px"})
        changed = [n for n in given if getattr(self, n) != type(self).model_fields[n].default]
        if self.faithful and changed:
            raise ValueError(
                f"faithful fixes how views are made, so {', '.join(changed)} would have no effect; "
                "leave them out, or set faithful to false"
            )
        for name, least, most in (
            ("area", 0.0, 1.0),
            ("aspect", 0.1, 10.0),
            ("blur_px", 0.0, 10.0),
        ):
            low, high = getattr(self, name)
            if not least < low <= high <= most:
                raise ValueError(
                    f"{name} {[low, high]} is not (smallest, largest) with {least:g} < smallest <= "
                    f"largest <= {most:g}"
                )
        return self


class MethodSettings(BaseModel):
    """What is learned."""

    model_config = _STRICT

    name: str = "glcnet"
    """glcnet, simclr, moco, byol, mocobyol, simsiam, swav, densecl, pixpro, vicregl, inpainting,
    jigsaw or mae."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the method (docs/pretraining.md)."""


class ProbeSettings(BaseModel):
    """Nearest neighbours on labelled windows, to see whether the features become useful.

    A window belongs to the class of most of its pixels.
    """

    model_config = _STRICT

    bank_split: str = "train"
    """Split whose labelled windows are the neighbours."""
    query_split: str = "val"
    """Split whose labelled windows are to be classified."""
    target: str | None = None
    """Label column of the scene table; none: the first target of kind mask."""
    windows: int = Field(default=256, ge=8)
    """Windows of each split, drawn once and kept in memory."""
    neighbours: int = Field(default=20, ge=1)
    """Neighbours that vote."""
