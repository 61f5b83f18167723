"""What a pre-training would do, for ``--dry-run``; trains nothing and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wholescene.datasets import Dataset, load_dataset
from wholescene.models import build_segmenter
from wholescene.pretrain.contract import PretrainSettings
from wholescene.pretrain.setup import prepare_pretraining, wrap_network
from wholescene.train.record import flat_settings, settings_hash
from wholescene.train.runtime import find_ranks

__all__ = ["PretrainPlan", "plan_pretraining"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainPlan:
    """What a run would do; ``str`` makes it a text to print.

    Args:
        settings: Every setting, as ``section.key``.
        config_hash: Digest of the settings.
        device: Where it would train.
        num_ranks: Processes that would train together.
        scenes: Scenes of the pool.
        windows_per_epoch: Windows of one epoch, over all ranks.
        windows_per_step: Windows of one optimiser step, over all ranks.
        steps: Optimiser steps.
        epochs: The same in epochs.
        trained: What of the network is trained: ``encoder`` or ``all``.
        num_parameters: Weights that are trained, those of the task included.
    """

    settings: Mapping[str, Any]
    config_hash: str
    device: str
    num_ranks: int
    scenes: int
    windows_per_epoch: int
    windows_per_step: int
    steps: int
    epochs: float
    trained: str
    num_parameters: int

    def __str__(self) -> str:
        lines = [
            *(f"{key} = {json.dumps(value)}" for key, value in self.settings.items()),
            "",
            f"config hash   {self.config_hash}",
            f"device        {self.num_ranks} x {self.device}",
            f"scenes        {self.scenes}",
            f"windows       {self.windows_per_epoch} an epoch, {self.windows_per_step} a step",
            f"length        {self.steps} steps = {self.epochs:.1f} epochs",
            f"trains        {self.trained}, {self.num_parameters:,} weights with the task's own",
        ]
        return "\n".join(lines)


def plan_pretraining(config: PretrainSettings, dataset: Dataset | str | Path) -> PretrainPlan:
    """Check everything :func:`pretrain` would check, and say what it would do.

    Raises:
        WholesceneError: As :func:`pretrain`, for whatever would stop it.
    """
    found = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    parts = prepare_pretraining(config, found)
    method = wrap_network(config, build_segmenter(parts.spec))
    world = find_ranks().world
    num_ranks = world if world > 1 else config.train.devices
    per_step = config.data.batch_size * num_ranks * config.optim.accumulate
    per_epoch = parts.data.windows_per_epoch()
    trained = (p.numel() for p in method.parameters() if p.requires_grad)
    return PretrainPlan(
        settings=flat_settings(config.model_dump(mode="json")),
        config_hash=settings_hash(config),
        device=parts.device,
        num_ranks=num_ranks,
        scenes=len(parts.data.scenes),
        windows_per_epoch=per_epoch,
        windows_per_step=per_step,
        steps=config.train.steps,
        epochs=config.train.steps * per_step / per_epoch,
        trained=method.trained,
        num_parameters=sum(trained),
    )
