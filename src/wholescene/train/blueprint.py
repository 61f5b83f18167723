"""From settings and a dataset to the description of the model that will be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wholescene.datasets import Dataset, SceneRecord, Statistics
from wholescene.errors import ConfigError, DatasetError
from wholescene.models import Architecture, ClassSpec, ModelSpec
from wholescene.raster.bands import WAVELENGTH_TOLERANCE_NM, parse_bands
from wholescene.raster.read import SceneReader
from wholescene.raster.source import BandSpec, SourceSpec

__all__ = ["choose_bands", "describe_model", "describe_network", "replace_statistics"]


def choose_bands(dataset: Dataset, bands: Sequence[int | str] | None, *, split: str) -> Dataset:
    """Narrow a dataset to the bands a run trains on; sources and statistics follow.

    Args:
        dataset: With statistics of all its bands.
        bands: Bands of the first source, in the order the network shall see them: their numbers in
            the dataset, from 1; names; or wavelengths such as ``"665nm"``. ``None`` keeps all.
        split: Split whose first scene is opened.

    Returns:
        The dataset with every source listing its bands.

    Raises:
        ConfigError: If the dataset has no such band, or one is named twice.
        DatasetError: If the split is unknown or empty, or statistics are missing or of another
            number of bands.
        RasterError: If the scene cannot be opened.
    """
    scene = first_scene(dataset, split)
    statistics = _statistics(dataset)
    listed = [_list_bands(source, scene) for source in dataset.spec.sources]
    total = sum(len(part) for part in listed)
    if total != len(statistics.mean):
        raise DatasetError(
            f"{dataset.path} has statistics of {len(statistics.mean)} bands, scene "
            f"{scene.id!r} has {total}; compute them again with: wholescene data stats "
            f"{dataset.path}"
        )
    places = [*range(len(listed[0]))] if bands is None else _find(bands, listed[0], dataset)
    kept = [*places, *range(len(listed[0]), total)]
    listed[0] = [listed[0][place] for place in places]
    sources = tuple(
        source.model_copy(update={"bands": tuple(part)})
        for source, part in zip(dataset.spec.sources, listed, strict=True)
    )
    update = {
        "mean": tuple(statistics.mean[place] for place in kept),
        "std": tuple(statistics.std[place] for place in kept),
        "bands": tuple(band.name for part in listed for band in part),
    }
    narrowed = statistics.model_copy(update=update)
    spec = dataset.spec.model_copy(update={"sources": sources, "statistics": narrowed})
    return replace(dataset, spec=spec)


def replace_statistics(
    dataset: Dataset, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Dataset:
    """Put other numbers in the place of the measured mean and standard deviation.

    Args:
        dataset: From :func:`choose_bands`.
        mean: One per band; ``None`` keeps the measured ones.
        std: Likewise.

    Raises:
        ConfigError: If there are more or fewer numbers than bands.
        DatasetError: If the dataset has no statistics.
    """
    statistics = _statistics(dataset)
    given = {key: tuple(v) for key, v in (("mean", mean), ("std", std)) if v is not None}
    for key, values in given.items():
        if len(values) != len(statistics.mean):
            raise ConfigError(
                f"data.{key} lists {len(values)} numbers for the {len(statistics.mean)} bands "
                f"{list(statistics.bands or ())}; give one per band, in this order"
            )
    spec = dataset.spec.model_copy(update={"statistics": statistics.model_copy(update=given)})
    return replace(dataset, spec=spec)


def describe_model(
    architecture: Architecture, dataset: Dataset, *, split: str, target: str | None
) -> ModelSpec:
    """Settle bands, normalisation, classes and ground sampling distance of a new model.

    Args:
        architecture: The network.
        dataset: From :func:`choose_bands`.
        split: Split that trains.
        target: Label raster that trains; ``None`` takes the first.

    Raises:
        DatasetError: If the target is unknown.
    """
    table = dataset.spec.class_table(dataset.mask_target(target))
    classes = tuple(ClassSpec(id=c.id, name=c.name, color=c.color) for c in table.classes)
    return describe_network(
        architecture, dataset, split=split, classes=classes, ignore_id=table.ignore_id
    )


def describe_network(
    architecture: Architecture,
    dataset: Dataset,
    *,
    split: str,
    classes: tuple[ClassSpec, ...],
    ignore_id: int | None = None,
) -> ModelSpec:
    """The same for classes that are given, as for a pool without labels.

    Args:
        architecture: The network.
        dataset: From :func:`choose_bands`.
        split: Split that trains.
        classes: Classes of the network.
        ignore_id: Label id that never trains.
    """
    scene = first_scene(dataset, split)
    statistics = _statistics(dataset)
    with dataset.reader(scene) as reader:
        measured = reader.gsd_m
    return ModelSpec(
        architecture=architecture,
        sources=dataset.spec.sources,
        mean=statistics.mean,
        # A band that never changes carries nothing; 1 keeps it at 0 after normalisation.
        std=tuple(value if value > 0 else 1.0 for value in statistics.std),
        classes=classes,
        ignore_id=ignore_id,
        gsd_m=dataset.spec.gsd_m or scene.gsd_m or measured,
    )


def first_scene(dataset: Dataset, split: str) -> SceneRecord:
    """First scene of a split.

    Raises:
        DatasetError: If there is none.
    """
    scenes = dataset.split(split)
    if not scenes:
        raise DatasetError(
            f"{dataset.path}: split {split!r} has no scenes; name another in data.train_split"
        )
    return scenes[0]


def _statistics(dataset: Dataset) -> Statistics:
    if dataset.spec.statistics is None:
        raise DatasetError(
            f"{dataset.path} has no band statistics, and a model is normalised by them; compute "
            f"them once with: wholescene data stats {dataset.path}"
        )
    return dataset.spec.statistics


def _list_bands(source: SourceSpec, scene: SceneRecord) -> list[BandSpec]:
    """Bands of one source as its files name them."""
    with SceneReader({source.name: scene.files[source.name]}, [source]) as reader:
        found = list(reader.band_specs)
    if source.bands is None and any(band.name == f"band_{i}" for i, band in enumerate(found, 1)):
        # Files without names: the number is all there is to find a band by.
        return [band.model_copy(update={"index": i}) for i, band in enumerate(found, 1)]
    return found


def _find(asked: Sequence[int | str], listed: Sequence[BandSpec], dataset: Dataset) -> list[int]:
    """Place of each band that is asked for."""
    places = [_place(band, listed) for band in parse_bands(asked)]
    names = ", ".join(f"{i} {band.name}" for i, band in enumerate(listed, 1))
    for wanted, place in zip(asked, places, strict=True):
        if place is None:
            raise ConfigError(
                f"data.bands: the first source of {dataset.path} has no band {wanted!r}; it has "
                f"{names}"
            )
    found = [place for place in places if place is not None]
    if len(set(found)) < len(found) or not found:
        raise ConfigError(f"data.bands = {list(asked)}: name each band once, of {names}")
    return found


def _place(asked: BandSpec, listed: Sequence[BandSpec]) -> int | None:
    if asked.index is not None:
        return asked.index - 1 if asked.index <= len(listed) else None
    for place, band in enumerate(listed):
        if band.name.lower() == asked.name.lower():
            return place
    if asked.wavelength_nm is None:
        return None
    distances = [
        (abs(band.wavelength_nm - asked.wavelength_nm), place)
        for place, band in enumerate(listed)
        if band.wavelength_nm is not None
    ]
    distance, nearest = min(distances, default=(float("inf"), 0))
    return nearest if distance <= WAVELENGTH_TOLERANCE_NM else None
