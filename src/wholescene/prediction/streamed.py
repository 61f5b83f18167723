"""The exact engine: the numbers of one plain forward over the whole scene, block by block."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from wholescene.geometry import Size, Window
from wholescene.models import in_fast_order
from wholescene.prediction.ahead import Ahead
from wholescene.prediction.engine import Band, Forward, check_finite, float_bytes
from wholescene.raster import SceneReader
from wholescene.spatial import Checkpoint, Plan, Streamer
from wholescene.spatial.checkpoint import Position
from wholescene.spatial.execute import Done

__all__ = ["StreamedEngine"]

BANDS_HELD = 2
"""One that is being filled and one that is being written."""


@dataclass(frozen=True)
class StreamedEngine:
    """Run the network over the scene block by block, without windows or overlap.

    The result is that of :class:`~wholescene.prediction.whole.WholeEngine`, up to rounding.

    Args:
        size: Scene.
        streamer: The network, ready to run over it.
    """

    size: Size
    streamer: Streamer
    name: ClassVar[str] = "streamed"

    @property
    def plan(self) -> Plan:
        """What the network needs."""
        return self.streamer.plan

    @property
    def settings(self) -> dict[str, int]:
        """What the numbers depend on besides the network."""
        return {"block": self.plan.block}

    @property
    def num_blocks(self) -> int:
        """Blocks over all sweeps."""
        return sum(rows * cols for rows, cols in self.plan.steps)

    @property
    def disk_bytes(self) -> int:
        """Values kept between sweeps, in files."""
        return self.plan.spill_bytes

    @property
    def file_bytes(self) -> int:
        """Largest of these files."""
        return max((note.num_bytes for note in self.plan.kept), default=0)

    def working_bytes(self, num_bands: int, num_classes: int) -> int:
        """Bands of probabilities, regions read ahead."""
        block = Size(min(self.plan.block, self.size.height), min(self.plan.block, self.size.width))
        # The last band also has the rows that the layers held back until then.
        rows = Size(min(block.height * 3 // 2, self.size.height), self.size.width)
        return BANDS_HELD * float_bytes(rows, num_classes) + float_bytes(block, 5 * num_bands)

    def describe(self) -> str:
        """One line for a plan."""
        plan = self.plan
        return (
            f"streamed: exact, {self.num_blocks} blocks of up to {plan.block} px in {plan.sweeps} "
            f"sweep{'s' * (plan.sweeps != 1)} over {self.size}"
        )

    def bands(
        self, reader: SceneReader, forward: Forward, rows_done: int, folder: Path | None = None
    ) -> Generator[Band, None, None]:
        """Give all rows from ``rows_done`` on; a band may have no rows and only tell the progress.

        The next band is computed, on another thread, while the last one is written. Whoever asks
        for the next one has made the last one's rows safe.
        """
        run = _Run(self.streamer, reader, forward, rows_done, folder)
        with closing(run.steps()) as steps, run.started(steps) as ahead:
            for step in ahead:
                if step.position is not None:
                    run.write(step.position)
                yield from step.bands


@dataclass(frozen=True)
class _Step:
    """What a row of blocks gave.

    Args:
        bands: Finished rows.
        position: Where to go on once all rows of earlier steps are safe.
    """

    bands: list[Band]
    position: Position | None


class _SafeCheckpoint(Checkpoint):
    """Writes a position down only when the rows before it are safe.

    Within a sweep that is later, by whoever takes the rows; between sweeps, where kept values
    are let go of, the execution waits for it.

    Args:
        folder: As for the base.
        await_rows: Returns when all rows given are safe.
    """

    def __init__(self, folder: Path, await_rows: Callable[[], None]) -> None:
        super().__init__(folder)
        self._await_rows = await_rows
        self._level = 0
        self._pending: Position | None = None

    def load(self) -> Position:
        found = super().load()
        self._level = found.level
        return found

    def save(self, position: Position) -> None:
        if position.level == self._level:
            # Sums go on growing in place.
            self._pending = replace(position, totals=copy.deepcopy(position.totals))
            return
        self._await_rows()
        self._pending, self._level = None, position.level
        super().save(position)

    def take(self) -> Position | None:
        """The position that waits to be written."""
        found, self._pending = self._pending, None
        return found

    def write(self, position: Position) -> None:
        """Write a position down."""
        super().save(position)


class _Run:
    """One execution over one scene, on its own thread.

    Args:
        streamer: The network.
        reader: Scene.
        forward: Normalises and checks.
        rows_done: Rows that are safe already.
        folder: Where to keep what it takes to go on; nothing is kept without.
    """

    def __init__(
        self,
        streamer: Streamer,
        reader: SceneReader,
        forward: Forward,
        rows_done: int,
        folder: Path | None,
    ) -> None:
        self._streamer, self._reader, self._forward = streamer, reader, forward
        self._rows_done = rows_done
        self._parts: dict[tuple[int, int], Tensor] = {}
        self._ahead: Ahead[_Step] | None = None
        self._checkpoint = (
            None if folder is None else _SafeCheckpoint(folder, lambda: self._thread.await_use())
        )

    @property
    def _thread(self) -> Ahead[_Step]:
        assert self._ahead is not None
        return self._ahead

    def started(self, steps: Iterator[_Step]) -> Ahead[_Step]:
        """The thread that makes the steps."""
        self._ahead = Ahead(steps)
        return self._ahead

    def write(self, position: Position) -> None:
        """Write down where to go on."""
        assert self._checkpoint is not None
        self._checkpoint.write(position)

    def steps(self) -> Generator[_Step, None, None]:
        """Compute row of blocks by row of blocks."""
        rows = self._streamer.rows(self._read, self._take, checkpoint=self._checkpoint)
        with closing(rows):
            for done in rows:
                bands = list(self._bands(done))
                position = self._checkpoint.take() if self._checkpoint is not None else None
                # Rows that are safe already are no news.
                if bands or position is not None:
                    yield _Step(bands, position)

    def _read(self, rows: slice, cols: slice) -> Tensor:
        """A region of the normalised scene; called on the streamer's reading thread."""
        self._thread.check()
        window = Window.from_slices(rows, cols)
        return in_fast_order(self._forward.prepare([self._reader.read(window)]))

    def _take(self, rows: slice, cols: slice, logits: Tensor) -> None:
        """Put a region of the result into its band."""
        self._thread.check()
        window = Window.from_slices(rows, cols)
        probabilities = logits[0].float().softmax(0)
        check_finite(probabilities, window)
        place = rows.start, rows.stop
        if place not in self._parts:
            shape = len(probabilities), window.height, self._reader.size.width
            self._parts[place] = torch.empty(shape)
        self._parts[place][..., cols] = probabilities

    def _bands(self, done: Done) -> Iterator[Band]:
        share = done.steps / done.num_steps
        for start, stop in sorted(self._parts):
            part, first = self._parts.pop((start, stop)), max(start, self._rows_done)
            if first < stop:
                yield Band(first, part[:, first - start :], share)
        if done.rows == 0:
            yield Band(0, torch.empty(0, 0, self._reader.size.width), share)
