"""What a model or dataset expects of the files behind a scene."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["BandSpec", "Resampling", "SourceSpec"]

Resampling = Literal["nearest", "bilinear", "cubic", "average"]


class BandSpec(BaseModel):
    """One band of a source.

    Args:
        name: Name, unique within the scene.
        wavelength_nm: Centre wavelength in nanometres, where it has one.
        index: 1-based band of the file; without it the band is found by name, then wavelength,
            then position.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    wavelength_nm: float | None = Field(default=None, gt=0)
    index: int | None = Field(default=None, ge=1)


class SourceSpec(BaseModel):
    """One raster, or one file per band, of a scene; the first source sets the grid.

    Args:
        name: Column of the scene table.
        bands: Bands in the order the network sees them; ``None`` takes every data band.
        scale: Factor from stored to physical values; ``None`` reads the file's tag.
        offset: Added after ``scale``; ``None`` reads the file's tag.
        nodata: Stored value of missing pixels; ``None`` reads the file's.
        resampling: How the source is brought to the grid of the first.
        grey_as_color: Whether a raster with one data band gives it for each of ``bands``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="image", min_length=1)
    bands: tuple[BandSpec, ...] | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    resampling: Resampling = "bilinear"
    grey_as_color: bool = False
