"""Train a model into a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wholescene.datasets import Dataset, load_dataset
from wholescene.models import ModelSpec, build_segmenter, save_model
from wholescene.train.checkpoint import BEST, LAST, read_checkpoint
from wholescene.train.contract import RunSettings
from wholescene.train.module import CHECKPOINT_KEY
from wholescene.train.progress import TrainProgress
from wholescene.train.record import plain_facts, provenance_of
from wholescene.train.rows import check_rows
from wholescene.train.runtime import find_ranks
from wholescene.train.session import Outcome, train_rank
from wholescene.train.setup import prepare_run
from wholescene.train.start import initial_model
from wholescene.train.whole_run import MODEL_FOLDER, carry_out

__all__ = ["RunResult", "fit"]


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
        return plain_facts(self)


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
    check_rows(config, ranks.world)
    start, outcome = carry_out(
        config,
        out,
        resume=resume,
        num_ranks=config.train.devices * config.parallel.rows,
        build=partial(initial_model, parts.spec, config.model, config.train),
        work=partial(train_rank, config, parts),
        progress=progress,
    )
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
        **provenance_of(config, dataset.spec.name, int(checkpoint["global_step"])),
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
