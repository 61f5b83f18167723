"""Lightning's Trainer as this project wants it: our devices, our files, and silence."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy

from wholescene.errors import ConfigError
from wholescene.launch import launched
from wholescene.train.checkpoint import AtomicCheckpointIO
from wholescene.train.progress import Notice, TrainProgress
from wholescene.train.settings import OptimSettings, TrainSettings

__all__ = [
    "Ranks",
    "build_trainer",
    "choose_device",
    "event_loggers",
    "find_ranks",
    "quiet_lightning",
]

Accelerator = Literal["cpu", "cuda", "mps"]

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

PRECISION: dict[str, Precision] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}
"""Names of this package and of Lightning."""


NO_TENSORBOARD = (
    "TensorBoard is not installed, so its events are left out; metrics.csv has every figure. "
    "To have them: pip install 'wholescene[tensorboard]'"
)


class Ranks:
    """This process among those that train together.

    Args:
        rank: Number of this process, 0 to ``world - 1``.
        world: Number of processes.
        environment: How they find each other.
    """

    def __init__(self, rank: int, world: int, environment: ClusterEnvironment) -> None:
        self.rank, self.world, self.environment = rank, world, environment


def find_ranks() -> Ranks:
    """Look whether torchrun or srun started this process as one of several."""
    if TorchElasticEnvironment.detect():
        return Ranks(*launched(), TorchElasticEnvironment())
    world = int(os.environ.get("SLURM_NTASKS", "1"))
    if world > 1 and SLURMEnvironment.detect():
        return Ranks(int(os.environ["SLURM_PROCID"]), world, SLURMEnvironment(auto_requeue=False))
    return Ranks(0, 1, LightningEnvironment())


def choose_device(settings: TrainSettings, *, rows: int = 1) -> Accelerator:
    """Settle ``train.device`` for this machine.

    Args:
        settings: Which device, and how many batches at once.
        rows: Processes that share each batch.

    Raises:
        ConfigError: If the machine cannot do what is asked.
    """
    has = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    device: Accelerator = "cpu"
    if settings.device == "auto":
        device = "cuda" if has["cuda"] else "mps" if has["mps"] else "cpu"
    else:
        device = settings.device
    if not has[device]:
        raise ConfigError(
            f"train.device {device!r} is not available here; this machine has "
            f"{', '.join(name for name, found in has.items() if found)}. Use train.device auto"
        )
    _check_device(settings, device, rows)
    return device


def _check_device(settings: TrainSettings, device: Accelerator, rows: int) -> None:
    if settings.precision == "float16" and device == "cpu":
        raise ConfigError("train.precision 'float16' needs a GPU; use bfloat16 or float32 on a CPU")
    if settings.sync_batchnorm and device != "cuda":
        raise ConfigError(f"train.sync_batchnorm needs CUDA devices, not {device!r}; unset it")
    wanted = settings.devices * rows
    limit = {"cuda": torch.cuda.device_count(), "mps": 1, "cpu": wanted}[device]
    if wanted > limit:
        shared = f" x parallel.rows {rows}" if rows > 1 else ""
        raise ConfigError(
            f"train.devices {settings.devices}{shared} asks for more than the {limit} {device} "
            "device(s) of this machine; lower it"
        )


def build_trainer(
    settings: TrainSettings,
    optim: OptimSettings,
    *,
    device: Accelerator,
    ranks: Ranks,
    out: Path,
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
    find_unused: bool,
) -> Trainer:
    """Assemble the Trainer; validation, checkpoints and progress are those of ``callbacks``.

    Args:
        settings: Length, precision, determinism.
        optim: Clipping and accumulation.
        device: Kind of device.
        ranks: This process among the others.
        out: Run directory.
        callbacks: What happens between steps.
        loggers: Where figures go besides ``metrics.csv``.
        find_unused: Let DDP look for weights without a gradient in every step.
    """
    strategy: Strategy | str = "auto"
    num_local = ranks.world // _num_nodes()
    if ranks.world > 1:
        backend = "nccl" if device == "cuda" else "gloo"
        strategy = DDPStrategy(
            process_group_backend=backend,
            cluster_environment=ranks.environment,
            find_unused_parameters=find_unused,
            checkpoint_io=AtomicCheckpointIO(),
        )
    return Trainer(
        accelerator=device,
        devices=num_local,
        num_nodes=_num_nodes(),
        strategy=strategy,
        plugins=[] if ranks.world > 1 else [AtomicCheckpointIO(), ranks.environment],
        precision=PRECISION[settings.precision],
        max_steps=settings.steps,
        max_epochs=-1,
        accumulate_grad_batches=optim.accumulate,
        gradient_clip_val=optim.clip_norm,
        deterministic=settings.deterministic or None,
        sync_batchnorm=settings.sync_batchnorm,
        default_root_dir=out,
        callbacks=list(callbacks),
        logger=list(loggers) or False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def event_loggers(
    settings: TrainSettings, *, out: Path, step: int, progress: TrainProgress | None
) -> list[Logger]:
    """Loggers besides ``metrics.csv``: TensorBoard, if asked for and installed."""
    if not settings.tensorboard:
        return []
    if find_spec("tensorboard") is None:
        if progress is not None:
            progress(Notice(text=NO_TENSORBOARD))
        return []
    purge_step = step + 1 if step else None
    return [TensorBoardLogger(out, name="", version="tensorboard", purge_step=purge_step)]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's banners and advice from the user; its errors still raise."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _num_nodes() -> int:
    """Machines that train together, as torchrun or srun state it."""
    if TorchElasticEnvironment.detect():
        return int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    return int(os.environ.get("SLURM_NNODES", "1")) if SLURMEnvironment.detect() else 1
