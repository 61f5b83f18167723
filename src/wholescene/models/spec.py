"""What a model file says about itself (``model.json``)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wholescene.labels import ClassTable, LabelClass
from wholescene.models.auxiliary import AuxiliaryOptions
from wholescene.models.interaction import InteractionOptions
from wholescene.models.refine import RefineSettings
from wholescene.raster.source import SourceSpec

__all__ = ["FORMAT_VERSION", "Architecture", "ClassSpec", "ModelSpec"]

FORMAT_VERSION: Literal[1] = 1


class ClassSpec(BaseModel):
    """One class: raster id, name and colour."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: int
    name: str
    color: tuple[int, int, int]


class Architecture(BaseModel):
    """Everything needed to build the network without its weights.

    Args:
        encoder: timm model name.
        decoder: Name in ``wholescene.models.DECODERS``.
        decoder_options: Keyword arguments of the decoder.
        encoder_options: As in ``ModelSettings``.
        auxiliary: Whether an auxiliary head was trained.
        auxiliary_options: What it reads and is made of.
        interaction: Attention over the scene between encoder and decoder; ``None``: none.
        refine: What a second network looks at again; ``None`` for one network.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str
    decoder: str
    decoder_options: dict[str, Any] = Field(default_factory=dict)
    encoder_options: dict[str, Any] = Field(default_factory=dict)
    auxiliary: bool = False
    auxiliary_options: AuxiliaryOptions = AuxiliaryOptions()
    interaction: InteractionOptions | None = None
    refine: RefineSettings | None = None


class ModelSpec(BaseModel):
    """A self-describing segmentation model.

    Args:
        architecture: How to build the network.
        sources: Rasters and bands it reads, in channel order.
        mean: Mean of each band in physical units (after scale and offset).
        std: Standard deviation of each band, > 0.
        classes: Classes in index order.
        ignore_id: Label id that never trained.
        gsd_m: Ground sampling distance it was trained at, in metres.
        padding: How a scene is padded to what the network needs: ``"zero"`` (the band mean after
            normalisation) at the bottom and right.
        licence: Licence of the weights.
        provenance: Where it comes from: data set, commit, config hash, seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = FORMAT_VERSION
    architecture: Architecture
    sources: tuple[SourceSpec, ...] = Field(min_length=1)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[ClassSpec, ...] = Field(min_length=1)
    ignore_id: int | None = None
    gsd_m: float | None = Field(default=None, gt=0)
    padding: Literal["zero"] = "zero"
    licence: str | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _bands_fit(self) -> ModelSpec:
        listed = [band for source in self.sources for band in source.bands or ()]
        if any(source.bands is None for source in self.sources):
            raise ValueError("every source of a model lists its bands")
        if not len(listed) == len(self.mean) == len(self.std):
            raise ValueError(
                f"{len(listed)} bands, but {len(self.mean)} means and {len(self.std)} standard "
                "deviations; give one of each per band"
            )
        if any(not value > 0 for value in self.std):
            raise ValueError(f"std {self.std} holds a value that is not > 0")
        return self

    @property
    def num_bands(self) -> int:
        """Channels the network takes."""
        return len(self.mean)

    @property
    def band_names(self) -> tuple[str, ...]:
        """Band names in channel order."""
        return tuple(band.name for source in self.sources for band in source.bands or ())

    @property
    def class_table(self) -> ClassTable:
        """Classes as a :class:`~wholescene.labels.ClassTable`."""
        classes = tuple(LabelClass(id=c.id, name=c.name, color=c.color) for c in self.classes)
        return ClassTable(classes, self.ignore_id)
