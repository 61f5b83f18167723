"""Runs from a config file: what ``wholescene train`` and ``wholescene pretrain`` do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wholescene.config import load_config, load_pretrain_config
from wholescene.pretrain import PretrainResult, plan_pretraining, pretrain
from wholescene.progress import Progress
from wholescene.train import Notice, RunResult, TrainMessage, TrainStep, Validated, fit, plan

__all__ = ["describe_pretraining", "describe_run", "narrate", "pretrain_run", "train_run"]

Say = Callable[[str], None]


def train_run(
    config: Path,
    overrides: Sequence[str],
    *,
    out: Path | None = None,
    resume: bool = False,
    say: Say,
    progress: Progress,
) -> RunResult:
    """Train as a config file says.

    Args:
        config: YAML file of the run.
        overrides: Changes such as ``"optim.lr=1e-3"``.
        out: Run directory; ``None`` takes ``runs/<name>``.
        resume: Continue the run in ``out``.
        say: Receives one line per event worth reading.
        progress: Called with steps done and in all.

    Raises:
        ConfigError: If the config is not legal.
        DatasetError: If the dataset lacks what training needs.
        ResumeError: If the run in ``out`` has other settings.
    """
    run = load_config(config, overrides)
    folder = out or Path("runs") / run.name
    return fit(run, run.data.dataset, folder, resume=resume, progress=narrate(say, progress))


def pretrain_run(
    config: Path,
    overrides: Sequence[str],
    *,
    out: Path | None = None,
    resume: bool = False,
    say: Say,
    progress: Progress,
) -> PretrainResult:
    """Pre-train as a config file says; arguments and errors as for :func:`train_run`."""
    run = load_pretrain_config(config, overrides)
    folder = out or Path("runs") / run.name
    return pretrain(run, run.data.dataset, folder, resume=resume, progress=narrate(say, progress))


def describe_run(config: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Say what ``train_run`` would do, as plain values and as text; trains nothing."""
    run = load_config(config, overrides)
    found = plan(run, run.data.dataset)
    return asdict(found), str(found)


def describe_pretraining(config: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Say what ``pretrain_run`` would do, as plain values and as text; trains nothing."""
    run = load_pretrain_config(config, overrides)
    found = plan_pretraining(run, run.data.dataset)
    return asdict(found), str(found)


def narrate(say: Say, progress: Progress) -> Callable[[TrainMessage], None]:
    """Turn the messages of a run into lines and a progress bar."""

    def receive(message: TrainMessage) -> None:
        if isinstance(message, TrainStep):
            progress(message.step, message.total)
        elif isinstance(message, Validated):
            best = ", best so far" if message.is_best else ""
            say(
                f"step {message.step}: val mIoU {100 * message.miou:.2f} %, "
                f"overall accuracy {100 * message.overall_accuracy:.2f} %{best}"
            )
        elif isinstance(message, Notice):
            say(message.text)

    return receive
