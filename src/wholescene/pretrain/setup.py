"""Checks before any work, and the parts a pre-training is put together from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wholescene.datasets import Dataset, Statistics
from wholescene.errors import ConfigError
from wholescene.models import ClassSpec, ModelSpec, Segmenter, build_segmenter
from wholescene.pretrain.contract import PretrainSettings
from wholescene.pretrain.methods import Method, build_method, method_options
from wholescene.pretrain.pool import PoolDataModule
from wholescene.pretrain.probe import ProbeData, read_probe
from wholescene.pretrain.settings import PoolSettings
from wholescene.pretrain.views import ViewMaker
from wholescene.train.blueprint import choose_bands, describe_network, replace_statistics
from wholescene.train.runtime import Accelerator, choose_device

__all__ = ["PretrainParts", "prepare_pretraining", "wrap_network"]

NO_CLASS = ClassSpec(id=0, name="unlabelled", color=(128, 128, 128))
"""A model file names at least one class; a pre-trained network knows none yet."""


@dataclass(frozen=True, kw_only=True)
class PretrainParts:
    """What was settled before any work; can be sent to other processes.

    Args:
        spec: Description of the network.
        data: Windows of the pool.
        views: Makes views of them.
        probe: Labelled windows; ``None`` without a probe.
        device: Where it trains.
    """

    spec: ModelSpec
    data: PoolDataModule
    views: ViewMaker
    probe: ProbeData | None
    device: Accelerator


def prepare_pretraining(config: PretrainSettings, dataset: Dataset) -> PretrainParts:
    """Find everything that can be wrong before a step is made or a file written.

    Raises:
        ConfigError: If settings contradict each other, the dataset or this machine.
        DatasetError: If the dataset lacks what is needed.
        RasterError: If a scene cannot be opened.
    """
    _check(config)
    device = choose_device(config.train)
    settings = config.data
    chosen = choose_bands(_with_statistics(dataset, settings), settings.bands, split=settings.split)
    chosen = replace_statistics(chosen, settings.mean, settings.std)
    spec = describe_network(
        config.model.architecture, chosen, split=settings.split, classes=(NO_CLASS,)
    )
    wrap_network(config, build_segmenter(spec))
    probe = None
    if config.probe is not None:
        probe = read_probe(config.probe, chosen, spec, window_px=settings.window_px)
    return PretrainParts(
        spec=spec,
        data=PoolDataModule(settings, chosen, mean=spec.mean, std=spec.std, seed=config.train.seed),
        views=ViewMaker(config.views, mean=spec.mean, std=spec.std),
        probe=probe,
        device=device,
    )


def wrap_network(config: PretrainSettings, network: Segmenter) -> Method:
    """Put the pretext task around a network.

    Raises:
        ConfigError: If they do not fit, or views do not fit the stride of the encoder.
    """
    side, stride = config.views.view_px, network.stride
    if side % stride:
        raise ConfigError(
            f"views.view_px = {side} is no multiple of the stride {stride} of encoder "
            f"{config.model.encoder!r}; set it to {max(1, round(side / stride)) * stride}"
        )
    method = config.method
    return build_method(method.name, network, method.options, view_px=side)


def _with_statistics(dataset: Dataset, settings: PoolSettings) -> Dataset:
    """Take mean and standard deviation from the settings where nobody measured them.

    Measuring would read the whole of a pool that may be very large.
    """
    is_given = settings.mean is not None and settings.std is not None and settings.bands is None
    if dataset.spec.statistics is not None or not is_given:
        return dataset
    assert settings.mean is not None
    assert settings.std is not None
    statistics = Statistics(mean=settings.mean, std=settings.std, split=settings.split)
    return replace(dataset, spec=dataset.spec.model_copy(update={"statistics": statistics}))


def _check(config: PretrainSettings) -> None:
    method_options(config.method.name, config.method.options)
    train = config.train
    if config.data.window_px < config.views.view_px:
        raise ConfigError(
            f"data.window_px = {config.data.window_px} is smaller than views.view_px = "
            f"{config.views.view_px}, so every view would be enlarged; raise the one or lower the "
            "other"
        )
    if train.ema is not None or train.freeze_norm != "none" or train.freeze != "none":
        raise ConfigError(
            "train.ema, train.freeze and train.freeze_norm are for training with labels; leave "
            "them out, the methods with a following network have options of their own"
        )
    if config.optim.layer_decay is not None:
        raise ConfigError("optim.layer_decay is for training with labels; leave it out")
    if config.model.refine is not None:
        raise ConfigError("model.refine is for training with labels; leave it out")
    if config.optim.warmup_steps >= train.steps and config.optim.warmup_steps:
        raise ConfigError(
            f"optim.warmup_steps = {config.optim.warmup_steps} leaves none of the {train.steps} "
            "steps in train.steps; lower the one or raise the other"
        )
