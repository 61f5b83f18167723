"""Band statistics and class frequencies of a split, and a summary of a dataset."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from wholescene.datasets.contract import Dataset, Statistics, write_spec
from wholescene.datasets.table import SceneRecord
from wholescene.errors import DatasetError
from wholescene.progress import Progress
from wholescene.raster.read import LabelReader, SceneReader
from wholescene.raster.statistics import band_statistics, class_counts

__all__ = ["compute_statistics", "dataset_overview", "store_statistics"]

_VALUES_AT_ONCE = 1 << 23  # hyperspectral scenes have hundreds of bands


def compute_statistics(
    dataset: Dataset, split: str = "train", *, progress: Progress | None = None
) -> Statistics:
    """Find mean and spread of each band, and how often each class occurs, in one pass.

    Args:
        dataset: Dataset to read.
        split: Split to read, or several as ``"train+val"``; normalisation must come from training
            scenes alone.
        progress: Called with rasters done and in all.

    Returns:
        Statistics over valid pixels; without class counts if no scene of the split is labelled.

    Raises:
        DatasetError: If the split is unknown, its scenes differ in bands, or none has a valid
            pixel.
    """
    scenes = dataset.split(split)
    labelled = [scene for scene in scenes if _is_labelled(dataset, scene)]
    count = _Counter(len(scenes) + len(labelled), progress)
    bands = _common_bands(dataset, scenes)
    block = max(1, min(1024, math.isqrt(_VALUES_AT_ONCE // len(bands))))
    found = band_statistics(_images(dataset, scenes, count), block=block)
    if not int(found.count) > 0:
        raise DatasetError(
            f"split {split!r} of {dataset.path} has no valid pixel; check nodata with 'wholescene "
            "info' on one of its scenes"
        )
    counts = class_counts(_labels(dataset, labelled, count)) if labelled else None
    return Statistics(
        mean=tuple(float(value) for value in found.mean),
        std=tuple(float(value) for value in found.std),
        class_counts=None if counts is None else tuple(int(n) for n in counts[:-1]),
        ignored_pixels=None if counts is None else int(counts[-1]),
        bands=bands,
        split=split,
    )


def store_statistics(
    dataset: Dataset, split: str = "train", *, progress: Progress | None = None
) -> Dataset:
    """Compute the statistics of a split and write them into ``dataset.yaml``.

    Everything else in the file keeps its meaning; comments are lost.

    Returns:
        The dataset with its new description.

    Raises:
        DatasetError: As :func:`compute_statistics`.
        OutputError: If the file cannot be written.
    """
    statistics = compute_statistics(dataset, split, progress=progress)
    spec = dataset.spec.model_copy(update={"statistics": statistics})
    write_spec(spec, dataset.path)
    return replace(dataset, spec=spec)


def dataset_overview(dataset: Dataset) -> dict[str, Any]:
    """Summarise a dataset in plain values; opens files, but reads no pixels.

    Returns:
        ``name, path, licence, description, gsd_m``; ``splits`` with scenes, labelled scenes and
        pixels of each; ``bands`` with mean and std, and ``classes`` with pixels and share among
        labelled pixels, as far as statistics are stored; ``ignored_pixels``;
        ``statistics_split``.
    """
    spec = dataset.spec
    return {
        "name": spec.name,
        "path": str(dataset.path),
        "licence": spec.licence,
        "description": spec.description,
        "gsd_m": spec.gsd_m,
        "splits": {split: _split_facts(dataset, split) for split in dataset.splits},
        "bands": _band_facts(dataset),
        "classes": _class_facts(dataset),
        "ignored_pixels": spec.statistics.ignored_pixels if spec.statistics else None,
        "statistics_split": spec.statistics.split if spec.statistics else None,
    }


class _Counter:
    """Tells how many rasters are done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done = 0
        self.total = total
        self.progress = progress

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _is_labelled(dataset: Dataset, scene: SceneRecord) -> bool:
    has_masks = any(target.kind == "mask" for target in dataset.spec.targets)
    return has_masks and dataset.is_labelled(scene)


def _common_bands(dataset: Dataset, scenes: Sequence[SceneRecord]) -> tuple[str, ...]:
    first: tuple[str, ...] = ()
    for scene in scenes:
        with dataset.reader(scene) as image:
            names = tuple(image.band_names)
        first = first or names
        if len(names) != len(first):
            raise DatasetError(
                f"scene {scene.id!r} has {len(names)} bands, scene {scenes[0].id!r} has "
                f"{len(first)}; list the bands to use under 'sources' in {dataset.path}"
            )
    return first


def _images(
    dataset: Dataset, scenes: Sequence[SceneRecord], count: _Counter
) -> Iterator[SceneReader]:
    for scene in scenes:
        with dataset.reader(scene) as image:
            yield image
        count()


def _labels(
    dataset: Dataset, scenes: Sequence[SceneRecord], count: _Counter
) -> Iterator[LabelReader]:
    for scene in scenes:
        with dataset.label_reader(scene) as label:
            yield label
        count()


def _split_facts(dataset: Dataset, split: str) -> dict[str, int]:
    scenes = dataset.split(split)
    pixels = 0
    for scene in scenes:
        with dataset.reader(scene) as image:
            pixels += image.size.area
    labelled = sum(_is_labelled(dataset, scene) for scene in scenes)
    return {"scenes": len(scenes), "labelled": labelled, "pixels": pixels}


def _band_facts(dataset: Dataset) -> list[dict[str, Any]]:
    statistics = dataset.spec.statistics
    with dataset.reader(dataset.scenes[0]) as image:
        bands = image.band_specs
    facts: list[dict[str, Any]] = [
        {"name": band.name, "wavelength_nm": band.wavelength_nm} for band in bands
    ]
    if statistics is not None:
        for fact, mean, std in zip(facts, statistics.mean, statistics.std, strict=False):
            fact.update(mean=mean, std=std)
    return facts


def _class_facts(dataset: Dataset) -> list[dict[str, Any]]:
    statistics = dataset.spec.statistics
    counts = statistics.class_counts if statistics else None
    labelled = sum(counts) if counts else 0
    facts: list[dict[str, Any]] = []
    for i, entry in enumerate(dataset.classes.classes if dataset.spec.classes else ()):
        fact: dict[str, Any] = {"id": entry.id, "name": entry.name, "color": list(entry.color)}
        if counts:
            fact["pixels"] = counts[i]
            fact["share"] = counts[i] / labelled if labelled else 0.0
        facts.append(fact)
    return facts
