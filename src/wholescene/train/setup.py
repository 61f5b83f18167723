"""Checks before any work, and the parts a run is put together from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from wholescene.data import SceneDataModule
from wholescene.datasets import Dataset
from wholescene.errors import ConfigError
from wholescene.geometry import Size
from wholescene.losses import CombinedLoss, build_loss
from wholescene.models import DECODERS, ModelSpec
from wholescene.train.blueprint import choose_bands, describe_model, replace_statistics
from wholescene.train.contract import RunSettings
from wholescene.train.runtime import Accelerator, choose_device

__all__ = [
    "EndlessBatches",
    "Loaders",
    "RunParts",
    "largest_patch",
    "prepare_run",
    "smallest_height",
]


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """What was settled before any work; can be sent to other processes.

    Args:
        spec: Description of the model.
        data: Loaders; every scene was opened once.
        loss: What is minimised.
        device: Where it trains.
    """

    spec: ModelSpec
    data: SceneDataModule
    loss: CombinedLoss
    device: Accelerator


def prepare_run(config: RunSettings, dataset: Dataset) -> RunParts:
    """Find everything that can be wrong before a network is built or a file written.

    Raises:
        ConfigError: If settings contradict each other, the dataset or this machine.
        DatasetError: If the dataset lacks what training needs.
        RasterError: If a scene cannot be opened.
    """
    if config.optim.warmup_steps >= config.train.steps and config.optim.warmup_steps:
        raise ConfigError(
            f"optim.warmup_steps = {config.optim.warmup_steps} leaves none of the "
            f"{config.train.steps} steps in train.steps; lower the one or raise the other"
        )
    if config.train.freeze != "none" and config.model.refine is not None:
        raise ConfigError(
            f"train.freeze = {config.train.freeze!r} does not go with model.refine, which leaves "
            "the whole coarse network as it is already; leave train.freeze out"
        )
    device = choose_device(config.train, rows=config.parallel.rows)
    settings = config.data
    chosen = choose_bands(dataset, settings.bands, split=settings.train_split)
    chosen = replace_statistics(chosen, settings.mean, settings.std)
    spec = describe_model(
        config.model.architecture, chosen, split=settings.train_split, target=settings.target
    )
    loss = build_loss(
        config.loss,
        _class_counts(config, chosen, spec),
        auxiliary_weights=DECODERS[config.model.decoder].auxiliary_weights,
    )
    # The chosen bands are those of the dataset now.
    data = SceneDataModule(
        settings.model_copy(update={"bands": None}),
        chosen,
        mean=spec.mean,
        std=spec.std,
        seed=config.train.seed,
        rows=config.parallel.rows,
    )
    return RunParts(spec=spec, data=data, loss=loss, device=device)


def largest_patch(config: RunSettings, parts: RunParts) -> Size:
    """Size of the largest sample of a run."""
    return max(_patches(config, parts), key=lambda size: size.area)


def smallest_height(config: RunSettings, parts: RunParts) -> int:
    """Rows of the lowest sample of a run, laid on any side."""
    return min(min(size) for size in _patches(config, parts))


def _patches(config: RunSettings, parts: RunParts) -> list[Size]:
    if config.data.sampling != "scenes":
        return [Size(config.data.patch_px, config.data.patch_px)]
    return [window.size for area in parts.data.train_areas for window in area.windows]


class Loaders(Protocol):
    """Where the batches of a run come from; told which Trainer asks and where it goes on."""

    trainer: Any

    def set_start(self, step: int) -> None:
        """Give batch ``step`` of each process first."""
        ...

    def batches_per_epoch(self) -> int:
        """Training batches of one epoch in each process."""
        ...

    def train_dataloader(self) -> Iterable[Any]:
        """Training batches, an epoch at a time."""
        ...


class EndlessBatches:
    """The training batches of a run, one after the other, without end.

    Lightning cuts gradient accumulation short where a loader ends; a run counts steps, not epochs.
    """

    def __init__(self, data: Loaders) -> None:
        self._data = data

    def __iter__(self) -> Iterator[Any]:
        loader = self._data.train_dataloader()
        while True:
            yield from loader


def _class_counts(config: RunSettings, dataset: Dataset, spec: ModelSpec) -> tuple[int, ...] | None:
    """Labelled training pixels of each class, if the statistics are of this target."""
    counts = dataset.spec.statistics.class_counts if dataset.spec.statistics else None
    if config.data.target not in (None, dataset.mask_target()):
        counts = None
    weights = config.loss.class_weights
    if not isinstance(weights, str) and len(weights) != len(spec.classes):
        raise ConfigError(
            f"loss.class_weights lists {len(weights)} numbers for the {len(spec.classes)} classes "
            f"{[c.name for c in spec.classes]}; give one per class, in this order"
        )
    return counts
