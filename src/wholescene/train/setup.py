"""Checks before any work, and the parts a run is put together from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wholescene.data import Batch, SceneDataModule
from wholescene.datasets import Dataset
from wholescene.errors import ConfigError
from wholescene.losses import CombinedLoss, build_loss
from wholescene.models import DECODERS, ModelSpec
from wholescene.train.blueprint import choose_bands, describe_model, replace_statistics
from wholescene.train.contract import RunSettings
from wholescene.train.runtime import Accelerator, choose_device

__all__ = ["EndlessBatches", "RunParts", "prepare_run"]


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
    device = choose_device(config.train)
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
    )
    return RunParts(spec=spec, data=data, loss=loss, device=device)


class EndlessBatches:
    """The training batches of a run, one after the other, without end.

    Lightning cuts gradient accumulation short where a loader ends; a run counts steps, not epochs.
    """

    def __init__(self, data: SceneDataModule) -> None:
        self._data = data

    def __iter__(self) -> Iterator[Batch]:
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
