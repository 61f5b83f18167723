"""Train a model into a run directory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wholescene import __version__
from wholescene.datasets import Dataset, load_dataset
from wholescene.launch import run_ranks
from wholescene.models import ModelSpec, build_segmenter, save_model
from wholescene.train.checkpoint import BEST, LAST, read_checkpoint
from wholescene.train.contract import RunSettings
from wholescene.train.folder import find_start, finished, open_run
from wholescene.train.module import CHECKPOINT_KEY
from wholescene.train.progress import Notice, TrainProgress
from wholescene.train.record import package_commit, settings_hash
from wholescene.train.rows import check_rows
from wholescene.train.runtime import find_ranks
from wholescene.train.session import Outcome, train_rank
from wholescene.train.setup import prepare_run
from wholescene.train.start import initial_model

__all__ = ["RunResult", "fit"]

MODEL_FOLDER = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A finished run.

    Args:
        out: Run directory.
        model: Directory of the exported model.
        steps: Steps of the run.
        resumed_from: Step this call continued from; 0 for a new run.
        exported_step: Step whose weights were exported.
        best_miou: Highest validation mIoU; ``None`` without validation.
        seconds: Seconds of training over all resumes.
    """

    out: Path
    model: Path
    steps: int
    resumed_from: int
    exported_step: int
    best_miou: float | None
    seconds: float

    def facts(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        plain = asdict(self)
        return {
            key: str(value) if isinstance(value, Path) else value for key, value in plain.items()
        }


def fit(
    config: RunSettings,
    dataset: Dataset | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    progress: TrainProgress | None = None,
) -> RunResult:
    """Train a model.

    Writes ``config.yaml``, ``environment.json``, ``metrics.csv``, ``checkpoints/``, TensorBoard
    events and, at the end, ``model/``: the averaged weights if ``train.ema`` is set, of the step
    with the highest validation mIoU, or of the last one without validation.

    A run that was killed continues from its last checkpoint with ``resume=True``. On a CPU its
    final weights are bit-identical to those of an uninterrupted run. SIGINT and SIGTERM finish the
    step, save a checkpoint and raise ``KeyboardInterrupt``.

    With ``train.devices`` above 1, or under torchrun or srun, several processes train together.
    Processes started from here import the main module again, so a script that calls ``fit`` so
    needs ``if __name__ == "__main__":``.

    Args:
        config: A ``wholescene.config.RunConfig``.
        dataset: The dataset, its ``dataset.yaml`` or its folder.
        out: Run directory; made if missing, and empty unless ``resume``.
        resume: Continue the run in ``out``. A run that is finished is only exported again; an
            empty folder starts from step 0.
        progress: Receives messages; called in this process, on rank 0 only.

    Raises:
        ConfigError: If settings contradict each other or this machine, or the loss diverges.
        DatasetError: If the dataset lacks what training needs.
        OutputError: If ``out`` holds something else, or cannot be written.
        ResumeError: If ``out`` was made under other settings, or its checkpoint is damaged.
        KeyboardInterrupt: If the run was stopped; it can be resumed.
    """
    out = Path(out)
    found = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    ranks = find_ranks()
    parts = prepare_run(config, found)
    check_rows(config, build_segmenter(parts.spec), ranks.world)
    start = find_start(config, out, resume=resume)
    model = None
    if start == 0:
        model, origin = initial_model(parts.spec, config.model, config.train)
        if progress is not None and ranks.rank == 0:
            progress(Notice(text=f"starting from {origin}"))
    if ranks.rank == 0:
        open_run(config, out, start, seed=config.train.seed)
    outcome = finished(out) if start >= config.train.steps else None
    num_ranks = config.train.devices * config.parallel.rows
    if outcome is None and ranks.world == 1 and num_ranks > 1:
        work = partial(train_rank, config, parts, out, start)
        outcome = run_ranks(work, num_ranks=num_ranks, progress=progress)
    elif outcome is None:
        outcome = train_rank(config, parts, out, start, progress, model=model)
    if outcome.was_stopped:
        raise KeyboardInterrupt(f"stopped after step {outcome.step} of {config.train.steps}")
    if ranks.rank == 0:
        _export(config, found, parts.spec, out, outcome)
    return _result(config, out, start, outcome)


def _export(
    config: RunSettings, dataset: Dataset, spec: ModelSpec, out: Path, outcome: Outcome
) -> None:
    """Write the model file from the best checkpoint, or the last without validation."""
    checkpoint = read_checkpoint(out / (LAST if outcome.best_step is None else BEST))
    average = checkpoint[CHECKPOINT_KEY]["average"]
    provenance = {
        "dataset": dataset.spec.name,
        "run": config.name,
        "config_hash": settings_hash(config),
        "commit": package_commit(),
        "version": __version__,
        "seed": config.train.seed,
        "step": int(checkpoint["global_step"]),
        "steps": config.train.steps,
        "weights": "raw" if average is None else "averaged",
        "val_miou": None if outcome.best_step is None else outcome.best_miou,
    }
    model = build_segmenter(spec.model_copy(update={"provenance": provenance}))
    if average is not None:
        model.load_state_dict(average["model"])
    else:
        weights = checkpoint["state_dict"].items()
        model.load_state_dict({k.removeprefix("model."): v for k, v in weights})
    save_model(model, out / MODEL_FOLDER)


def _result(config: RunSettings, out: Path, start: int, outcome: Outcome) -> RunResult:
    has_best = outcome.best_step is not None
    return RunResult(
        out=out,
        model=out / MODEL_FOLDER,
        steps=config.train.steps,
        resumed_from=start,
        exported_step=outcome.best_step if outcome.best_step is not None else config.train.steps,
        best_miou=outcome.best_miou if has_best else None,
        seconds=outcome.seconds,
    )
