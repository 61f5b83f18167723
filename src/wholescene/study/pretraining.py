"""Pre-training from a config file: what ``wholescene pretrain`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wholescene.config import load_pretrain_config
from wholescene.pretrain import PretrainResult, plan_pretraining, pretrain
from wholescene.progress import Progress
from wholescene.train import Notice, TrainMessage, TrainStep

__all__ = ["describe_pretraining", "narrate_pretraining", "pretrain_run"]

Say = Callable[[str], None]


def pretrain_run(
    config: Path,
    overrides: Sequence[str],
    *,
    out: Path | None = None,
    resume: bool = False,
    say: Say,
    progress: Progress,
) -> PretrainResult:
    """Pre-train as a config file says.

    Args:
        config: YAML file of the run.
        overrides: Changes such as ``"optim.lr=1e-3"``.
        out: Run directory; ``None`` takes ``runs/<name>``.
        resume: Continue the run in ``out``.
        say: Receives one line per event worth reading.
        progress: Called with steps done and in all.

    Raises:
        ConfigError: If the config is not legal.
        DatasetError: If the dataset lacks what is needed.
        ResumeError: If the run in ``out`` has other settings.
    """
    run = load_pretrain_config(config, overrides)
    folder = out or Path("runs") / run.name
    receive = narrate_pretraining(say, progress)
    return pretrain(run, run.data.dataset, folder, resume=resume, progress=receive)


def describe_pretraining(config: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Say what ``pretrain_run`` would do, as plain values and as text; trains nothing."""
    run = load_pretrain_config(config, overrides)
    found = plan_pretraining(run, run.data.dataset)
    return asdict(found), str(found)


def narrate_pretraining(say: Say, progress: Progress) -> Callable[[TrainMessage], None]:
    """Turn the messages of a pre-training into lines and a progress bar."""

    def receive(message: TrainMessage) -> None:
        if isinstance(message, TrainStep):
            progress(message.step, message.total)
        elif isinstance(message, Notice):
            say(message.text)

    return receive
