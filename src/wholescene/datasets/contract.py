"""The dataset contract: ``dataset.yaml`` and the scenes it lists.

A dataset is a folder with a description (classes, sources, targets, statistics) and a table with
one row per scene. Scenes stay whole; patches are windows read on the fly.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wholescene.datasets.table import SceneRecord, read_table, write_table
from wholescene.errors import ConfigError, DatasetError
from wholescene.labels import ClassTable, LabelClass
from wholescene.raster.read import LabelReader, SceneReader
from wholescene.raster.source import SourceSpec
from wholescene.yamlfile import explain_validation_error, parse_yaml, write_yaml, yaml_lines

__all__ = [
    "DESCRIPTION_FILE",
    "ClassEntry",
    "Dataset",
    "DatasetSpec",
    "Statistics",
    "TargetSpec",
    "load_dataset",
    "write_dataset",
]

DESCRIPTION_FILE = "dataset.yaml"
"""Name looked for when a folder is given."""

_FIXED_COLUMNS = ("id", "split", "group", "datetime", "gsd_m")


class ClassEntry(BaseModel):
    """One class of a label raster.

    Args:
        id: Value in the raster.
        name: Human-readable name.
        color: Red, green, blue, 0 to 255; ``None`` takes a distinct one by position.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: int
    name: str
    color: tuple[int, int, int] | None = None


class TargetSpec(BaseModel):
    """One kind of label a scene may have.

    Args:
        name: Column of the scene table.
        kind: ``mask`` (raster of class ids), ``vector`` (polygons) or ``boxes`` (oriented boxes).
        classes: Classes of this target where they differ from the dataset's.
        ignore_id: Ignore id that goes with ``classes``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="label", min_length=1)
    kind: Literal["mask", "vector", "boxes"] = "mask"
    classes: tuple[ClassEntry, ...] | None = None
    ignore_id: int | None = None


class Statistics(BaseModel):
    """What one pass over a split found; see :func:`wholescene.datasets.compute_statistics`.

    Args:
        mean: Mean of each band in physical units, over valid pixels.
        std: Standard deviation of each band, likewise.
        class_counts: Labelled pixels of each class, in the order of the class table.
        ignored_pixels: Label pixels of no class.
        bands: Names of the bands, in the order of ``mean``.
        split: Split that was read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_counts: tuple[int, ...] | None = None
    ignored_pixels: int | None = Field(default=None, ge=0)
    bands: tuple[str, ...] | None = None
    split: str = "train"

    @model_validator(mode="after")
    def _one_of_each_per_band(self) -> Statistics:
        lengths = {len(part) for part in (self.mean, self.std, self.bands) if part is not None}
        if len(lengths) != 1:
            raise ValueError(
                f"{len(self.mean)} means, {len(self.std)} standard deviations and "
                f"{'no' if self.bands is None else len(self.bands)} band names; give one of each "
                "per band, or run 'wholescene data stats' to compute them"
            )
        return self


class DatasetSpec(BaseModel):
    """The content of ``dataset.yaml``.

    Args:
        name: Name of the dataset.
        classes: Classes of the labels, in index order; none for a pool without targets.
        ignore_id: Label id that neither trains nor scores; ``None`` if there is none.
        gsd_m: Ground sampling distance in metres, where all scenes share it.
        sources: Rasters of a scene; the first sets the grid.
        targets: Kinds of label; a scene without one is unlabelled.
        scenes: Scene table, CSV or Parquet, relative to the file.
        statistics: Band and class statistics of the training split.
        split_way: Way to split that a public dataset was prepared with.
        licence: Terms of the data.
        description: Free text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    classes: tuple[ClassEntry, ...] = ()
    ignore_id: int | None = None
    gsd_m: float | None = Field(default=None, gt=0)
    sources: tuple[SourceSpec, ...] = Field(default=(SourceSpec(),), min_length=1)
    targets: tuple[TargetSpec, ...] = (TargetSpec(),)
    scenes: str = "scenes.csv"
    statistics: Statistics | None = None
    split_way: str | None = None
    licence: str | None = None
    description: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        columns = [*_FIXED_COLUMNS, *self.source_names, *self.target_names]
        repeated = sorted({name for name in columns if columns.count(name) > 1})
        if repeated:
            raise ValueError(
                f"{', '.join(map(repr, repeated))} would name two columns of the scene table; "
                f"sources and targets need names of their own, other than {list(_FIXED_COLUMNS)}"
            )
        if not self.classes and any(target.classes is None for target in self.targets):
            raise ValueError(
                "classes is empty; list them, or set 'targets: []' if nothing is labelled"
            )
        if self.classes:
            self.class_table()
        for target in self.targets:
            self.class_table(target.name)
        counts = self.statistics.class_counts if self.statistics else None
        if counts is not None and len(counts) != len(self.classes):
            raise ValueError(
                f"statistics.class_counts has {len(counts)} entries for {len(self.classes)} "
                "classes; run 'wholescene data stats' to compute them again"
            )
        return self

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the sources, in order."""
        return tuple(source.name for source in self.sources)

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the targets, in order."""
        return tuple(target.name for target in self.targets)

    def class_table(self, target: str | None = None) -> ClassTable:
        """Classes of a target, or those of the dataset."""
        own = next((t for t in self.targets if t.name == target and t.classes), None)
        entries = own.classes if own and own.classes else self.classes
        colors = ClassTable.from_names(str(i) for i in range(len(entries))).colors
        classes = tuple(
            LabelClass(id=entry.id, name=entry.name, color=entry.color or spare)
            for entry, spare in zip(entries, colors, strict=True)
        )
        return ClassTable(classes, own.ignore_id if own else self.ignore_id)


@dataclass
class Dataset:
    """A dataset that was found legal; its files are opened only when read.

    Args:
        spec: Content of ``dataset.yaml``.
        root: Folder of that file.
        scenes: All scenes, in the order of the table.
        file: Name of the description inside ``root``.
    """

    spec: DatasetSpec
    root: Path
    scenes: tuple[SceneRecord, ...]
    file: str = DESCRIPTION_FILE

    @property
    def path(self) -> Path:
        """The description file."""
        return self.root / self.file

    @cached_property
    def classes(self) -> ClassTable:
        """Classes of the dataset."""
        return self.spec.class_table()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order they first appear."""
        return tuple(dict.fromkeys(scene.split for scene in self.scenes))

    def split(self, name: str) -> tuple[SceneRecord, ...]:
        """Scenes of a split, or of several joined as ``"train+val"``.

        Raises:
            DatasetError: If a split is unknown; the known ones are named.
        """
        wanted = [part.strip() for part in name.split("+")]
        unknown = [part for part in wanted if part not in self.splits]
        if unknown:
            raise DatasetError(
                f"{self.path}: no split {unknown[0]!r}; the scene table knows "
                f"{', '.join(self.splits)}"
            )
        return tuple(scene for scene in self.scenes if scene.split in wanted)

    def scene(self, scene_id: str) -> SceneRecord:
        """One scene by its id.

        Raises:
            DatasetError: If no scene has this id.
        """
        found = next((scene for scene in self.scenes if scene.id == scene_id), None)
        if found is None:
            raise DatasetError(f"{self.path}: no scene {scene_id!r} in {self.spec.scenes}")
        return found

    def reader(self, scene: SceneRecord) -> SceneReader:
        """Open the sources of a scene on the grid of the first."""
        return SceneReader(scene.files, self.spec.sources)

    def label_reader(self, scene: SceneRecord, target: str | None = None) -> LabelReader:
        """Open the label raster of a scene.

        Args:
            scene: One of ``scenes``.
            target: Name of a target of kind ``mask``; ``None`` takes the first.

        Raises:
            DatasetError: If there is no such target, or the scene is unlabelled.
        """
        name = self.mask_target(target)
        if name not in scene.labels:
            raise DatasetError(
                f"scene {scene.id!r} (split {scene.split!r}) is unlabelled: column {name!r} of "
                f"{self.root / self.spec.scenes} is empty there"
            )
        return LabelReader(scene.labels[name], self.spec.class_table(name))

    def mask_target(self, target: str | None = None) -> str:
        """Name of the label raster to use; ``None`` takes the first target of kind ``mask``.

        Raises:
            DatasetError: If there is no such target.
        """
        masks = [t.name for t in self.spec.targets if t.kind == "mask"]
        if not masks or (target is not None and target not in masks):
            raise DatasetError(
                f"{self.path}: no target {target or 'of kind mask'!r}; label rasters are "
                f"{', '.join(masks) or 'none'}; see 'targets'"
            )
        return target or masks[0]

    def is_labelled(self, scene: SceneRecord, target: str | None = None) -> bool:
        """Whether a scene has a label raster."""
        return self.mask_target(target) in scene.labels


def load_dataset(path: str | Path) -> Dataset:
    """Read a dataset description and its scene table; opens no raster.

    Args:
        path: ``dataset.yaml`` or its folder.

    Raises:
        DatasetError: If a file is missing or not legal; with file, line, key and what is legal.
    """
    path = Path(path)
    file = path / DESCRIPTION_FILE if path.is_dir() else path
    if not file.is_file():
        raise DatasetError(
            f"no dataset at {path}: there is no file {file}; give a {DESCRIPTION_FILE} or the "
            "folder that holds it"
        )
    spec = _read_spec(file)
    root = file.parent
    scenes = read_table(
        root / spec.scenes, sources=spec.source_names, targets=spec.target_names, root=root
    )
    return Dataset(spec, root, scenes, file.name)


def write_dataset(spec: DatasetSpec, scenes: Iterable[SceneRecord], folder: str | Path) -> Path:
    """Write ``dataset.yaml`` and its scene table; paths become relative to the folder.

    Args:
        spec: The description; ``spec.scenes`` names the table.
        scenes: One record per scene; relative paths count from the working directory.
        folder: Made if missing.

    Returns:
        Path of the ``dataset.yaml``.

    Raises:
        DatasetError: If there is no scene, an id repeats, or a record has other sources or
            targets than the description.
        OutputError: If a file cannot be written.
    """
    folder = Path(folder)
    write_table(
        folder / spec.scenes,
        scenes,
        sources=spec.source_names,
        targets=spec.target_names,
        root=folder,
    )
    path = folder / DESCRIPTION_FILE
    write_spec(spec, path)
    return path


def write_spec(spec: DatasetSpec, path: Path) -> None:
    """Write the description alone; comments of an earlier file are lost."""
    data = spec.model_dump(mode="json", exclude_none=True)
    write_yaml(path, {"name": data.pop("name"), **data})


def _read_spec(file: Path) -> DatasetSpec:
    try:
        text = file.read_text(encoding="utf-8")
        data: dict[str, Any] = parse_yaml(text, str(file))
        return DatasetSpec.model_validate(data)
    except ValidationError as error:
        message = explain_validation_error(error, DatasetSpec, str(file), lines=yaml_lines(text))
        raise DatasetError(message) from None
    except ConfigError as error:
        raise DatasetError(str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {os.fspath(file)}: {error}") from None
