"""One process's share of a run: from the parts to trained weights in checkpoints."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import LightningModule

from wholescene.heap import steady_heap
from wholescene.models import Segmenter, build_segmenter
from wholescene.train.checkpoint import LAST
from wholescene.train.contract import RunSettings
from wholescene.train.frozen import freeze_weights
from wholescene.train.keeper import Pace, RunKeeper
from wholescene.train.metrics import metric_columns
from wholescene.train.module import SegmentationModule
from wholescene.train.probe import probe_run
from wholescene.train.progress import Notice, TrainProgress
from wholescene.train.rows import SharedRows, may_lack_rows
from wholescene.train.runtime import (
    Accelerator,
    build_trainer,
    event_loggers,
    find_ranks,
    quiet_lightning,
)
from wholescene.train.scene_validation import SceneValidator
from wholescene.train.settings import OptimSettings, TrainSettings
from wholescene.train.setup import EndlessBatches, Loaders, RunParts, largest_patch, smallest_height
from wholescene.train.start import initial_model
from wholescene.train.validation import PatchValidator, Validator

__all__ = ["Outcome", "run_module", "train_rank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the training ended.

    Args:
        step: Steps done.
        was_stopped: Whether it was asked to stop before the end.
        best_step: Step with the highest validation mIoU; ``None`` without validation.
        best_miou: That mIoU.
        seconds: Seconds of training over all resumes.
    """

    step: int
    was_stopped: bool
    best_step: int | None
    best_miou: float
    seconds: float


def train_rank(
    config: RunSettings,
    parts: RunParts,
    out: Path,
    start: int,
    progress: TrainProgress | None,
    *,
    built: Segmenter | None = None,
) -> Outcome:
    """Train in this process, alone or as one of several.

    Args:
        config: The run.
        parts: From :func:`prepare_run`.
        out: Run directory.
        start: Step to continue from; 0 begins.
        progress: Receives messages, on rank 0.
        built: Network to begin with; ``None`` builds it.

    Raises:
        KeyboardInterrupt: If a second SIGINT came.
    """
    if built is not None:
        model = built
    elif start:
        model = build_segmenter(parts.spec)
    else:
        model, _ = initial_model(parts.spec, config.model, config.train)
    freeze_weights(model, config.train.freeze)
    ranks = find_ranks()
    progress = progress if ranks.rank == 0 else None
    rows, segments = config.parallel.rows, config.parallel.segments
    height = smallest_height(config, parts)
    find_unused = not _freeze_unreached(model, config, parts, progress)
    find_unused = find_unused or may_lack_rows(rows, model.stride, height)
    module = SegmentationModule(
        model,
        parts.loss,
        optim=config.optim,
        steps=config.train.steps,
        seed=config.train.seed,
        ema=config.train.ema,
        freeze=config.train.freeze,
        freeze_norm=config.train.freeze_norm,
        rows=SharedRows(rows, model, segments=segments) if max(rows, segments) > 1 else None,
    )
    keeper = _keeper(config, parts, out, progress)
    return run_module(
        module,
        keeper,
        train=config.train,
        optim=config.optim,
        loaders=parts.data,
        batch_size=config.data.batch_size,
        device=parts.device,
        out=out,
        start=start,
        progress=progress,
        find_unused=find_unused,
        rows=rows,
    )


def run_module(
    module: LightningModule,
    keeper: RunKeeper,
    *,
    train: TrainSettings,
    optim: OptimSettings,
    loaders: Loaders,
    batch_size: int,
    device: Accelerator,
    out: Path,
    start: int,
    progress: TrainProgress | None,
    find_unused: bool,
    rows: int = 1,
) -> Outcome:
    """Train a module to its last step, or until it is asked to stop.

    Args:
        module: What is trained.
        keeper: Keeps the run directory.
        train: Length and hardware.
        optim: Clipping and accumulation.
        loaders: Where batches come from.
        batch_size: Samples of a batch in each process.
        device: Kind of device.
        out: Run directory.
        start: Step to continue from.
        progress: Receives messages, on rank 0.
        find_unused: Let DDP look for weights without a gradient in every step.
        rows: Processes that share each sample.

    Raises:
        KeyboardInterrupt: If a second SIGINT came.
    """
    with quiet_lightning(), steady_heap() if device == "cpu" else nullcontext():
        trainer = build_trainer(
            train,
            optim,
            device=device,
            ranks=find_ranks(),
            out=out,
            callbacks=[keeper],
            loggers=event_loggers(train, out=out, step=start, progress=progress),
            find_unused=find_unused,
        )
        loaders.trainer = trainer
        loaders.set_start(start * optim.accumulate)
        at_once = batch_size * (trainer.world_size // rows)
        keeper.pace = Pace(
            patches_per_step=at_once * optim.accumulate,
            patches_per_epoch=at_once * loaders.batches_per_epoch(),
        )
        try:
            trainer.fit(module, EndlessBatches(loaders), ckpt_path=out / LAST if start else None)
        except SystemExit as error:  # how Lightning passes on a KeyboardInterrupt
            raise KeyboardInterrupt from error
        except RuntimeError as error:
            # A signal to all processes of a job ends the data workers before this one could save.
            if keeper.stop.is_set:
                raise KeyboardInterrupt("stopped; the last checkpoint stands") from error
            raise
        finally:
            loaders.trainer = None
    return Outcome(
        step=trainer.global_step,
        was_stopped=keeper.was_stopped,
        best_step=keeper.best_step,
        best_miou=keeper.best_miou,
        seconds=keeper.state_dict()["seconds"],
    )


def _freeze_unreached(
    model: Segmenter, config: RunSettings, parts: RunParts, progress: TrainProgress | None
) -> bool:
    """Freeze weights no step can reach, which DDP would wait for; ``False`` if none can be told."""
    probe = probe_run(model, config, largest_patch(config, parts))
    if probe is None:
        return False
    for name in probe.unreached:
        model.get_parameter(name).requires_grad_(False)
    if probe.unreached and progress is not None:
        listed = ", ".join(probe.unreached[:3]) + (" ..." if len(probe.unreached) > 3 else "")
        text = f"{len(probe.unreached)} weights get no gradient and stay as they are: {listed}"
        progress(Notice(text=text))
    return True


def _keeper(
    config: RunSettings, parts: RunParts, out: Path, progress: TrainProgress | None
) -> RunKeeper:
    classes = parts.spec.class_table
    return RunKeeper(
        config.train,
        out=out,
        columns=metric_columns(classes),
        validator=_validator(config, parts, progress),
        progress=progress,
    )


def _validator(
    config: RunSettings, parts: RunParts, progress: TrainProgress | None
) -> Validator | None:
    if config.data.val_split is None:
        return None
    if config.data.val_mode == "scenes":
        return SceneValidator(parts.data, precision=config.train.precision, progress=progress)
    open_loader = parts.data.val_dataloader
    return PatchValidator(open_loader, parts.spec.class_table, progress=progress)
