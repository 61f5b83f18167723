"""Checkpoints: written aside and renamed, read without unpickling objects."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from wholescene.errors import OutputError, ResumeError

__all__ = ["BEST", "LAST", "AtomicCheckpointIO", "read_checkpoint"]

LAST = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"
"""Where a run directory keeps its checkpoints."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """A file under its name is always whole, even if the machine stops while it is written."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write aside, flush to disk, rename."""
        del storage_options
        path = Path(path)
        aside = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            aside.unlink(missing_ok=True)
            raise OutputError(
                f"cannot write checkpoint {path}: {error}; free some space, then continue from "
                "the checkpoint before with --resume"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read tensors and plain values only."""
        del weights_only
        return read_checkpoint(Path(path), map_location=map_location or "cpu")


def read_checkpoint(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of a run; never executes what is in it.

    Raises:
        ResumeError: If it is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        return dict(torch.load(path, map_location=map_location, weights_only=True))
    except FileNotFoundError:
        raise ResumeError(f"no checkpoint {path}; start the run without --resume") from None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0]
        raise ResumeError(
            f"cannot read checkpoint {path}: {first}; delete the run's folder and start again, or "
            "put a whole copy of the file in its place"
        ) from error
