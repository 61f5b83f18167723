"""One scene over several processes: each maps its rows, together they compute one network."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from wholescene.errors import InputError, OutputError, WholesceneError
from wholescene.geometry import Size, Window
from wholescene.launch import Say, launched, run_ranks
from wholescene.models import Segmenter, in_fast_order, normalise
from wholescene.prediction.engine import PRECISIONS, borrowed, check_finite, float_bytes
from wholescene.prediction.outputs import Outputs
from wholescene.progress import Progress
from wholescene.raster import RowStore, SceneReader
from wholescene.spatial import Plan, Shard, equal_cuts, run_sharded
from wholescene.spatial.wire import Wire

__all__ = ["OpenScene", "ShardedEngine", "ShardedMap", "map_sharded"]

ROWS_AT_ONCE = 512
"""Rows read or written at once."""

OpenScene = Callable[[], SceneReader]
"""Opens the scene in another process."""


@dataclass(frozen=True)
class ShardedEngine:
    """Run the network once, its rows over several processes.

    Args:
        size: Scene.
        ranks: Processes.
        plan: What the network takes as one.
    """

    size: Size
    ranks: int
    plan: Plan
    name: ClassVar[str] = "sharded"
    disk_bytes: ClassVar[int] = 0
    file_bytes: ClassVar[int] = 0

    @property
    def settings(self) -> dict[str, int]:
        """What the numbers depend on besides the network."""
        return {"ranks": self.ranks}

    @property
    def num_blocks(self) -> int:
        """One forward pass for each process."""
        return self.ranks

    def working_bytes(self, num_bands: int, num_classes: int) -> int:
        """Image and logits of one process, and rows on their way to a file."""
        rows = Size(-(-self.size.height // self.ranks), self.size.width)
        few = Size(min(ROWS_AT_ONCE, rows.height), rows.width)
        return float_bytes(rows, num_bands + num_classes) + 2 * float_bytes(few, num_classes)

    def describe(self) -> str:
        """One line for a plan."""
        rows = -(-self.size.height // self.ranks)
        return f"sharded: exact, {self.ranks} processes of up to {rows} rows each over {self.size}"


@dataclass(frozen=True)
class ShardedMap:
    """What every process needs to know of a map.

    Args:
        open_scene: Opens the scene.
        model: The network.
        outputs: The files.
        making: Everything their bytes depend on.
        tags: What they say of themselves.
        device: As asked for.
        precision: As asked for.
        resume: Go on from finished parts.
    """

    open_scene: OpenScene
    model: Segmenter
    outputs: Outputs
    making: Mapping[str, Any]
    tags: dict[str, str]
    device: torch.device
    precision: str
    resume: bool

    def part(self, rank: int) -> Path:
        """Where a process leaves its rows."""
        return self.outputs.folder / f"rows-{rank}"


def map_sharded(task: ShardedMap, ranks: int, progress: Progress | None) -> bool:
    """Map a scene with several processes, those of torchrun or new ones.

    Args:
        task: The map.
        ranks: Processes.
        progress: Called with layers done and in all, in pixels of the scene.

    Returns:
        Whether the scene has any data.

    Raises:
        InputError: If torchrun started another number of processes.
        RankError: If a process fails; nothing stands under the map's name then.
    """
    world = launched()[1]
    if world not in (1, ranks):
        raise InputError(
            f"--ranks {ranks} was asked for, but torchrun started {world} processes; leave out "
            "--ranks, or start as many"
        )
    if task.device.type == "cuda" and torch.cuda.device_count() < ranks:
        raise InputError(
            f"{ranks} ranks want as many CUDA devices, but this machine has "
            f"{torch.cuda.device_count()}; lower --ranks, or use --device cpu"
        )
    say = None if progress is None else partial(_pass_on, progress)
    if world > 1:
        return _map_rows(task, say or _silent)
    return run_ranks(partial(_map_rows, task), num_ranks=ranks, progress=say)


def _pass_on(progress: Progress, message: tuple[int, int]) -> None:
    progress(*message)


def _silent(message: object) -> None:
    del message


def _map_rows(task: ShardedMap, say: Say) -> bool:
    """Map this process's rows, and in the first one put all of them together."""
    on_gpu = task.device.type == "cuda"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else task.device
    started = not dist.is_initialized()
    if started:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(hours=12))
    try:
        wire = Wire(dist.group.WORLD)
        with closing(task.open_scene()) as reader:
            has_data = _map_part(task, reader, device, wire, say)
            _together(task, reader, wire)
    finally:
        if started:
            dist.destroy_process_group()
    return has_data


def _map_part(
    task: ShardedMap, reader: SceneReader, device: torch.device, wire: Wire, say: Say
) -> bool:
    """Compute and store this process's rows; whether any process has data."""
    height, width = reader.size
    first, last = equal_cuts(height, wire.size)[wire.rank :][:2]
    key = {**task.making, "rows": [first, last]}
    trouble, store, image, has_data = None, None, None, False
    try:
        size = Size(last - first, width)
        store = RowStore(task.part(wire.rank), task.outputs.products, size, key, task.resume)
        is_done = store.rows_done == last - first
    except WholesceneError as error:
        trouble, is_done = str(error), False
    try:
        if trouble is None:
            image, has_data = _read(task.model, reader, first, last)
    except WholesceneError as error:
        trouble = str(error)
    wire.agree(trouble)
    assert store is not None
    assert image is not None
    with store:
        if not all(wire.tell(is_done)):
            logits = _logits(task, Shard(image, first, height, wire.group), device, say)
            wire.agree(_written(task, reader, store, logits, first))
    return any(wire.tell(has_data))


def _read(model: Segmenter, reader: SceneReader, first: int, last: int) -> tuple[Tensor, bool]:
    """Normalised rows of the scene, and whether any pixel is valid."""
    spec, width = model.spec, reader.size.width
    image = torch.empty(1, spec.num_bands, last - first, width)
    has_data = False
    for row in range(first, last, ROWS_AT_ONCE):
        stop = min(row + ROWS_AT_ONCE, last)
        pixels = reader.read(Window.from_slices(slice(row, stop), slice(0, width)))
        has_data = has_data or bool(pixels.valid.any())
        part = normalise(pixels.values, pixels.valid, spec.mean, spec.std)
        image[0, :, row - first : stop - first] = part
    return image, has_data


@torch.no_grad()
def _logits(task: ShardedMap, shard: Shard, device: torch.device, say: Say) -> Tensor:
    dtype, area = PRECISIONS[task.precision], shard.height * shard.local_rows.shape[3]
    model = task.model if dtype is torch.float32 else copy.deepcopy(task.model).to(dtype)
    rows = in_fast_order(shard.local_rows.to(device, dtype))
    with borrowed(model, device):
        found = run_sharded(
            model,
            Shard(rows, shard.start, shard.height, shard.group),
            progress=lambda done, count: say((area * done // count, area)),
        )
    return found.local[0]


def _written(
    task: ShardedMap, reader: SceneReader, store: RowStore, logits: Tensor, first: int
) -> str | None:
    """Store rows; what went wrong, if something did."""
    width = reader.size.width
    try:
        for row in range(store.rows_done, logits.shape[1], ROWS_AT_ONCE):
            stop = min(row + ROWS_AT_ONCE, logits.shape[1])
            window = Window.from_slices(slice(first + row, first + stop), slice(0, width))
            probabilities = logits[:, row:stop].float().softmax(0).cpu()
            check_finite(probabilities, window)
            task.outputs.put(store, row, probabilities, reader.valid(window))
            store.commit(stop)
    except WholesceneError as error:
        return str(error)
    return None


def _together(task: ShardedMap, reader: SceneReader, wire: Wire) -> None:
    """Put the parts together and publish, in the first process."""
    trouble = None
    if wire.rank == 0:
        try:
            _publish(task, reader, wire.size)
        except WholesceneError as error:
            trouble = str(error)
    wire.agree(trouble)


def _publish(task: ShardedMap, reader: SceneReader, ranks: int) -> None:
    outputs, size = task.outputs, reader.size
    spans = list(pairwise(equal_cuts(size.height, ranks)))
    for rank, (first, last) in enumerate(spans):
        _check_part(task, Size(last - first, size.width), rank)
    with RowStore(outputs.folder, outputs.products, size, task.making, task.resume) as store:
        for rank, (first, last) in enumerate(spans):
            for product, (bands, dtype) in outputs.products.items():
                shape = (bands, last - first, size.width)
                rows = np.memmap(_raw(task, rank, product), dtype, "r", shape=shape)
                for row in range(0, last - first, ROWS_AT_ONCE):
                    store.write_rows(product, first + row, rows[:, row : row + ROWS_AT_ONCE])
        outputs.publish(store, reader, task.tags)
        for rank in range(ranks):
            shutil.rmtree(task.part(rank), ignore_errors=True)
        store.remove()


def _raw(task: ShardedMap, rank: int, product: str) -> Path:
    return task.part(rank) / f"{product}.raw"


def _check_part(task: ShardedMap, size: Size, rank: int) -> None:
    for product, (bands, dtype) in task.outputs.products.items():
        path = _raw(task, rank, product)
        wanted = bands * size.area * np.dtype(dtype).itemsize
        if not path.is_file() or path.stat().st_size != wanted:
            raise OutputError(
                f"{path}: the rows of process {rank} are gone or incomplete, so there is no map; "
                "run again with --resume to compute them again"
            )
