"""The ``optim`` and ``train`` sections of a run configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wholescene.train.frozen import Freeze, FreezeNorm

__all__ = ["EmaSettings", "OptimSettings", "TrainSettings"]

_STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class OptimSettings(BaseModel):
    """How weights move: optimiser, schedule, clipping, accumulation."""

    model_config = _STRICT

    name: Literal["adamw", "adam", "sgd", "lars"] = "adamw"
    """Optimiser; ``adam`` adds the weight decay to the gradient, as older recipes do; ``lars``
    scales each weight's step to its norm, for the large batches of self-supervision."""
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Learning rate at the end of the warm-up."""
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    """Weight decay; not applied to biases, norms and other 1-D parameters."""
    decay_all: bool = False
    """Apply it to those as well, as older recipes do."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of AdamW and Adam."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD and LARS."""
    encoder_lr_factor: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Learning rate of the encoder, as a factor of ``lr``."""
    layer_decay: float | None = Field(default=None, gt=0, lt=1)
    """Factor of the learning rate per encoder layer, counted from its end; none: no decay."""
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    """Course of the learning rate over the steps."""
    power: float = Field(default=0.9, gt=0)
    """Exponent of the poly schedule."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly."""
    warmup_factor: float = Field(default=1e-3, ge=0, le=1)
    """Share of the learning rate at step 0 of the warm-up."""
    final_factor: float = Field(default=0.0, ge=0, le=1)
    """Share of the learning rate that poly and cosine end at."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient over all weights; none: no clipping."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are averaged into one step."""

    @model_validator(mode="after")
    def _betas_in_range(self) -> OptimSettings:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {list(self.betas)} must both lie in 0 <= beta < 1")
        return self


class EmaSettings(BaseModel):
    """Averaged weights, used for validation and in the exported model."""

    model_config = _STRICT

    decay: float = Field(default=0.999, ge=0, lt=1)
    """Share of the average that survives one step, once warmed up."""
    warmup: bool = True
    """Let the decay grow as ``(1 + step) / (10 + step)`` until it reaches ``decay``."""


class ParallelSettings(BaseModel):
    """How one batch is spread over processes."""

    model_config = _STRICT

    rows: int = Field(default=1, ge=1, le=1024)
    """Processes, one device each, that share every sample: each has some of its rows, and together
    they compute what one would. Weights, checkpoints and results do not depend on it."""
    segments: int = Field(default=1, ge=1, le=1024)
    """Activation checkpointing: parts of the network that keep only their ends in a step and are
    computed again on the way back, for less memory and about a third more time; 1 keeps all."""


class TrainSettings(BaseModel):
    """Length, hardware and checkpoints of a run."""

    model_config = _STRICT

    steps: int = Field(default=10_000, ge=1)
    """Optimiser steps."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of weights, data order, augmentation and dropout."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    devices: int = Field(default=1, ge=1)
    """Batches trained at once on this machine, each on a device of its own, or on ``parallel.rows``
    of them; ignored under torchrun or srun."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the network; weights stay float32."""
    deterministic: bool = False
    """Use only deterministic kernels on a GPU; CPU runs are always deterministic."""
    sync_batchnorm: bool = False
    """Share batch statistics between GPUs."""
    freeze_norm: FreezeNorm = "none"
    """Where batch norms keep the running statistics they start with."""
    freeze: Freeze = "none"
    """``encoder``: it stays as it starts, statistics of norms included, and runs as in prediction;
    only what follows it learns. With ``model.decoder: linear`` this is a linear probe."""
    ema: EmaSettings | None = None
    """Average the weights; none: use the raw ones."""
    validate_every: int = Field(default=1000, ge=1)
    """Steps between validations; the last step always validates."""
    checkpoint_every: int = Field(default=1000, ge=1)
    """Steps between checkpoints; at most this much is lost when a run is killed."""
    log_every: int = Field(default=50, ge=1)
    """Steps between rows of ``metrics.csv``."""
    tensorboard: bool = True
    """Also write TensorBoard events, if TensorBoard is installed."""
    init_from: Path | None = None
    """Run or model folder whose weights to start from."""
    init_part: Literal["encoder", "all"] = "encoder"
    """Which weights of ``init_from`` to take."""
