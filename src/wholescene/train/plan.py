"""What a run would do, for ``--dry-run``; trains nothing and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wholescene.datasets import Dataset, load_dataset
from wholescene.geometry import Size
from wholescene.models import Segmenter, build_segmenter
from wholescene.train.contract import RunSettings
from wholescene.train.frozen import freeze_weights
from wholescene.train.optim import parameter_groups
from wholescene.train.probe import probe_run
from wholescene.train.record import flat_settings, settings_hash
from wholescene.train.rows import bytes_in_segments, check_rows
from wholescene.train.runtime import find_ranks
from wholescene.train.setup import RunParts, largest_patch, prepare_run

__all__ = ["TrainPlan", "plan"]

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPlan:
    """What a run would do; ``str`` makes it a text to print.

    Args:
        settings: Every setting, as ``section.key``.
        config_hash: Digest of the settings.
        device: Where it would train.
        num_ranks: Processes that would train together.
        scenes: Scenes of each split that is used.
        patches_per_epoch: Patches that cover the training area once, over all ranks.
        patches_per_step: Patches of one optimiser step, over all ranks.
        steps: Optimiser steps.
        epochs: The same in epochs.
        num_parameters: Weights of the network.
        learning_rates: Lowest and highest learning rate after the warm-up.
        memory_bytes: Guess of what one rank needs for weights, gradients, optimiser, average and
            activations in float32; ``None`` where the network cannot be probed.
    """

    settings: Mapping[str, Any]
    config_hash: str
    device: str
    num_ranks: int
    scenes: Mapping[str, int]
    patches_per_epoch: int
    patches_per_step: int
    steps: int
    epochs: float
    num_parameters: int
    learning_rates: tuple[float, float]
    memory_bytes: int | None

    def __str__(self) -> str:
        low, high = self.learning_rates
        memory = "unknown" if self.memory_bytes is None else f"{self.memory_bytes / 2**30:.2f} GiB"
        lines = [
            *(f"{key} = {json.dumps(value)}" for key, value in self.settings.items()),
            "",
            f"config hash   {self.config_hash}",
            f"device        {self.num_ranks} x {self.device}",
            f"scenes        {', '.join(f'{split} {n}' for split, n in self.scenes.items())}",
            f"patches       {self.patches_per_epoch} an epoch, {self.patches_per_step} a step",
            f"length        {self.steps} steps = {self.epochs:.1f} epochs",
            f"parameters    {self.num_parameters:,}",
            f"learning rate {high:g}" if low == high else f"learning rate {low:g} to {high:g}",
            f"memory        about {memory} on each device, for weights and activations",
        ]
        return "\n".join(lines)


def plan(config: RunSettings, dataset: Dataset | str | Path) -> TrainPlan:
    """Check everything :func:`fit` would check, and say what it would do.

    Raises:
        WholesceneError: As :func:`fit`, for whatever would stop it.
    """
    found = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    parts = prepare_run(config, found)
    model = build_segmenter(parts.spec)
    freeze_weights(model, config.train.freeze)
    world = find_ranks().world
    rows = config.parallel.rows
    check_rows(config, world)
    num_ranks = world if world > 1 else config.train.devices * rows
    per_batch = config.data.batch_size * (num_ranks // rows)
    per_step = per_batch * config.optim.accumulate
    # The loaders know of one process until a Trainer tells them otherwise.
    per_epoch = parts.data.batches_per_epoch() * config.data.batch_size
    rates = [group["lr"] for group in parameter_groups(model, config.optim)]
    return TrainPlan(
        settings=flat_settings(config.model_dump(mode="json")),
        config_hash=settings_hash(config),
        device=parts.device,
        num_ranks=num_ranks,
        scenes=_scenes(config, parts),
        patches_per_epoch=per_epoch,
        patches_per_step=per_step,
        steps=config.train.steps,
        epochs=config.train.steps * per_step / per_epoch,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        learning_rates=(min(rates), max(rates)),
        memory_bytes=_memory(config, parts, model),
    )


def _scenes(config: RunSettings, parts: RunParts) -> dict[str, int]:
    scenes = {config.data.train_split: len(parts.data.train_scenes)}
    if config.data.val_split is not None:
        scenes[config.data.val_split] = len(parts.data.val_scenes)
    return scenes


def _memory(config: RunSettings, parts: RunParts, model: Segmenter) -> int | None:
    patch = largest_patch(config, parts)
    patch = Size(-(-patch.height // config.parallel.rows), patch.width)
    probe = probe_run(model, config, patch)
    if probe is None:
        return None
    states = 2 if config.optim.name.startswith("adam") else 1
    kept = probe.num_parameters * (2 if config.train.ema is not None else 1)
    moved = probe.num_trained * (1 + states)  # gradients, and what the optimiser remembers
    halved = 1 if config.train.precision == "float32" else 2
    activations = probe.activation_bytes // halved
    if config.parallel.segments > 1:
        shape = (config.data.batch_size, model.spec.num_bands, *patch)
        maps = bytes_in_segments(model, shape, config.parallel.segments)
        activations = maps.ends + activations * maps.largest // maps.every
    return FLOAT_BYTES * (kept + moved) + activations
