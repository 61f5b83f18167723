"""The folder of a run: whether it may be used, where it goes on, how it ended."""

from __future__ import annotations

from pathlib import Path

from wholescene.errors import OutputError, ResumeError
from wholescene.train.checkpoint import LAST, read_checkpoint
from wholescene.train.record import (
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    Settings,
    check_same_run,
    write_config,
    write_environment,
)
from wholescene.train.runtime import find_ranks
from wholescene.train.session import Outcome

__all__ = ["find_start", "finished", "open_run", "saved_step"]


def find_start(config: Settings, out: Path, *, resume: bool) -> int:
    """Step to continue from; looks, but writes nothing.

    Raises:
        OutputError: If there is something in ``out`` and nothing may be resumed.
        ResumeError: If what is there cannot be continued.
    """
    if find_ranks().rank > 0:
        # Rank 0 checks for all, and may be filling the folder just now.
        return saved_step(out) if resume else 0
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give --out a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return 0
    if not resume:
        raise OutputError(
            f"{out} is not empty; continue the run in it with --resume, or choose another --out"
        )
    if not (out / CONFIG_FILE).exists():
        raise ResumeError(
            f"{out} holds files but no {CONFIG_FILE}, so it is no run to resume; choose another "
            "--out"
        )
    check_same_run(config, out)
    return saved_step(out)


def saved_step(out: Path) -> int:
    """Step of the last checkpoint; 0 if the run was cut short before its first."""
    return int(read_checkpoint(out / LAST)["global_step"]) if (out / LAST).exists() else 0


def open_run(config: Settings, out: Path, start: int, *, seed: int) -> None:
    """Make the folder and write what the run is."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_environment(out / ENVIRONMENT_FILE, seed=seed, step=start)
    except OSError as error:
        raise OutputError(
            f"cannot write to {out}: {error.strerror or error}; choose another --out"
        ) from error
    write_config(config, out / CONFIG_FILE)


def finished(out: Path) -> Outcome:
    """How a run ended whose last step is in its checkpoint."""
    checkpoint = read_checkpoint(out / LAST)
    state = checkpoint["callbacks"]["RunKeeper"]
    return Outcome(
        step=int(checkpoint["global_step"]),
        was_stopped=False,
        best_step=state["best_step"],
        best_miou=state["best_miou"],
        seconds=state["seconds"],
    )
