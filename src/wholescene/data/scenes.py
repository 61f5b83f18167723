"""The scenes of a split: checked before work begins, opened once and kept open."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wholescene.data.regions import SceneArea
from wholescene.datasets import Dataset, SceneRecord
from wholescene.datasets.fraction import FractionTable, read_fraction
from wholescene.errors import DatasetError
from wholescene.geometry import Window
from wholescene.raster.read import LabelReader, SceneReader

__all__ = ["ScenePool", "find_labelled", "limit", "restrict", "survey"]

MAX_OPEN_SCENES = 128


@dataclass
class ScenePool:
    """Readers of the scenes of a split, opened when first asked for.

    At most ``max_open`` scenes are open in a process; the one asked for longest ago is closed.

    Args:
        dataset: Dataset the scenes are of.
        records: Labelled scenes, in a fixed order.
        target: Label column; ``None`` for the first.
        bands: Bands of the first source; ``None`` for those of the dataset.
        max_open: Largest number of open scenes.
    """

    dataset: Dataset
    records: Sequence[SceneRecord]
    target: str | None = None
    bands: Sequence[int | str] | None = None
    max_open: int = MAX_OPEN_SCENES
    _open: OrderedDict[int, tuple[SceneReader, LabelReader]] = field(
        default_factory=OrderedDict, init=False, repr=False
    )

    def get(self, scene: int) -> tuple[SceneReader, LabelReader]:
        """Readers of image and labels of a scene."""
        if scene in self._open:
            self._open.move_to_end(scene)
            return self._open[scene]
        while len(self._open) >= self.max_open:
            self._close(self._open.popitem(last=False)[1])
        record = self.records[scene]
        image = SceneReader(record.files, self.dataset.spec.sources, bands=self.bands)
        self._open[scene] = image, self.dataset.label_reader(record, self.target)
        return self._open[scene]

    def label_path(self, scene: int) -> Path:
        """Label raster of a scene."""
        return self.records[scene].labels[self.dataset.mask_target(self.target)]

    def close(self) -> None:
        """Close every reader; ``get`` opens them again."""
        while self._open:
            self._close(self._open.popitem()[1])

    @staticmethod
    def _close(readers: tuple[SceneReader, LabelReader]) -> None:
        for reader in readers:
            reader.close()

    def __getstate__(self) -> dict[str, Any]:
        # Workers open their own.
        return {**self.__dict__, "_open": OrderedDict()}


def find_labelled(dataset: Dataset, split: str, target: str | None) -> tuple[SceneRecord, ...]:
    """Scenes of a split that have labels.

    Raises:
        DatasetError: If the split is unknown or none of its scenes is labelled.
    """
    scenes = dataset.split(split)
    labelled = tuple(scene for scene in scenes if dataset.is_labelled(scene, target))
    if not labelled:
        raise DatasetError(
            f"{dataset.path}: none of the {len(scenes)} scenes of split {split!r} has a "
            f"{dataset.mask_target(target)!r}; fill that column of {dataset.spec.scenes}, or name "
            "a labelled split in data.train_split or data.val_split"
        )
    if len(labelled) < len(scenes):
        warnings.warn(
            f"{len(scenes) - len(labelled)} of the {len(scenes)} scenes of split {split!r} have no "
            f"{dataset.mask_target(target)!r} and are left out",
            stacklevel=2,
        )
    return labelled


def survey(pool: ScenePool, *, num_bands: int) -> tuple[SceneArea, ...]:
    """Open every scene once, check that image, labels and statistics fit, and take its size.

    Raises:
        DatasetError: If an image has other bands than the statistics, or another size than its
            labels.
        RasterError: If a file cannot be opened.
    """
    areas = []
    for number, record in enumerate(pool.records):
        image, label = pool.get(number)
        if image.num_bands != num_bands:
            raise DatasetError(
                f"scene {record.id!r} has {image.num_bands} bands ({', '.join(image.band_names)}), "
                f"but mean and std are of {num_bands}; check 'sources' in {pool.dataset.path} and "
                "data.bands, then run 'wholescene data stats'"
            )
        if image.size != label.size:
            raise DatasetError(
                f"scene {record.id!r}: the image is {image.size}, its labels "
                f"{pool.label_path(number)} are {label.size}; labels must lie on the grid of the "
                "first source"
            )
        areas.append(SceneArea(image.size))
    pool.close()
    return tuple(areas)


def restrict(
    records: Sequence[SceneRecord], *, file: Path, dataset: Dataset, split: str
) -> tuple[tuple[SceneRecord, ...], dict[str, tuple[Window, ...]]]:
    """Keep the scenes a fraction table names; also gives the windows of each.

    Raises:
        DatasetError: If the table is of another dataset or split, or names unknown scenes.
    """
    table = read_fraction(file)
    _check_fraction(table, file=file, dataset=dataset, split=split)
    windows = table.windows
    unknown = sorted(windows.keys() - {record.id for record in records})
    if unknown:
        raise DatasetError(
            f"{file}: scene {unknown[0]!r} is no labelled scene of split {split!r} of "
            f"{dataset.path}; the scene table has changed since, so draw the fraction again"
        )
    return tuple(record for record in records if record.id in windows), windows


def _check_fraction(table: FractionTable, *, file: Path, dataset: Dataset, split: str) -> None:
    for what, found, wanted in (
        ("dataset", table.dataset, dataset.spec.name),
        ("split", table.split, split),
    ):
        if found != wanted:
            raise DatasetError(
                f"{file} was drawn from {what} {found!r}, but the run trains on {wanted!r}; draw "
                f"it again with 'wholescene data fraction {dataset.path}', or change data.fraction"
            )


def limit(
    areas: Sequence[SceneArea],
    records: Sequence[SceneRecord],
    windows: dict[str, tuple[Window, ...]],
    *,
    file: Path,
) -> tuple[SceneArea, ...]:
    """Limit each scene to the windows of a fraction table.

    Raises:
        DatasetError: If a window reaches beyond its scene.
    """
    limited = []
    for area, record in zip(areas, records, strict=True):
        whole, parts = Window.whole(area.size), windows[record.id]
        for part in parts:
            if part.intersect(whole) != part:
                raise DatasetError(
                    f"{file}: {part} reaches beyond scene {record.id!r} of {area.size}; the scene "
                    "has changed since, so draw the fraction again"
                )
        limited.append(area if parts == (whole,) else SceneArea(area.size, parts))
    return tuple(limited)
