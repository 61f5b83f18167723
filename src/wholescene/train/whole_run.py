"""What every run does around its steps: new or resumed, in one process or several."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from wholescene.launch import run_ranks
from wholescene.train.contract import LearnSettings
from wholescene.train.folder import find_start, finished, open_run
from wholescene.train.progress import Notice, TrainProgress
from wholescene.train.runtime import find_ranks
from wholescene.train.session import Outcome

__all__ = ["MODEL_FOLDER", "carry_out"]

MODEL_FOLDER = "model"

Made_contra = TypeVar("Made_contra", contravariant=True)


class Work(Protocol[Made_contra]):
    """The steps of one process; picklable."""

    def __call__(
        self,
        out: Path,
        start: int,
        progress: TrainProgress | None,
        *,
        built: Made_contra | None = None,
    ) -> Outcome:
        """Go on from step ``start``, with what a new run was built from if this process has it."""
        ...


def carry_out(
    config: LearnSettings,
    out: Path,
    *,
    resume: bool,
    num_ranks: int,
    build: Callable[[], tuple[Made_contra, str]],
    work: Work[Made_contra],
    progress: TrainProgress | None,
) -> tuple[int, Outcome]:
    """Start or resume a run and see it to its end.

    Args:
        config: The run.
        out: Its folder.
        resume: Continue what is in ``out``.
        num_ranks: Processes to start, unless torchrun or srun started them.
        build: Makes the network of a new run, and a line on where its weights come from; called
            before anything is written, so that weights that do not fit are refused first.
        work: The steps.
        progress: Receives messages, on rank 0.

    Returns:
        The step it started from, and how it ended.

    Raises:
        OutputError: If ``out`` holds something else, or cannot be written.
        ResumeError: If ``out`` was made under other settings, or its checkpoint is damaged.
        KeyboardInterrupt: If the run was stopped; it can be resumed.
    """
    ranks = find_ranks()
    start = find_start(config, out, resume=resume)
    progress = progress if ranks.rank == 0 else None
    built = None
    if start == 0:
        built, origin = build()
        if progress is not None:
            progress(Notice(text=f"starting from {origin}"))
    if ranks.rank == 0:
        open_run(config, out, start, seed=config.train.seed)
    outcome = finished(out) if start >= config.train.steps else None
    if outcome is None and ranks.world == 1 and num_ranks > 1:
        outcome = run_ranks(partial(work, out, start), num_ranks=num_ranks, progress=progress)
    elif outcome is None:
        outcome = work(out, start, progress, built=built)
    if outcome.was_stopped:
        raise KeyboardInterrupt(f"stopped after step {outcome.step} of {config.train.steps}")
    return start, outcome
