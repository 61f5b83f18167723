"""What an execution writes down, so that another process can go on from there."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from wholescene.errors import ResumeError

__all__ = ["Checkpoint", "Position"]

_FILE = "position.pt"


@dataclass(frozen=True)
class Position:
    """How far an execution has come.

    Args:
        level: Sweep it is in.
        row: Rows of blocks of that sweep that are done.
        totals: Sums so far and the entries they count, by value.
        complete: Small values of earlier sweeps.
    """

    level: int = 0
    row: int = 0
    totals: Mapping[int, tuple[Tensor, int]] = field(default_factory=dict)
    complete: Mapping[int, Tensor] = field(default_factory=dict)


class Checkpoint:
    """A folder that holds an execution's position and the values kept between its sweeps.

    Whoever owns the folder makes sure that it belongs to the same network, scene and block.

    Args:
        folder: Made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> Position:
        """Where the last execution was; the beginning if there was none.

        Raises:
            ResumeError: If the file cannot be read.
        """
        path = self.folder / _FILE
        if not path.exists():
            return Position()
        try:
            return Position(**torch.load(path, weights_only=True))
        except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise ResumeError(
                f"{path} is damaged ({type(error).__name__}); run again without --resume to start "
                "afresh"
            ) from error

    def save(self, position: Position) -> None:
        """Make kept values durable, then write the position down."""
        for kept in self.folder.glob("*.raw"):
            _synchronise(kept)
        aside = self.folder / (_FILE + ".new")
        torch.save(vars(position), aside)
        _synchronise(aside)
        aside.replace(self.folder / _FILE)


def _synchronise(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
