"""Worker processes that read batches."""

from __future__ import annotations

import gc
import signal
from functools import partial
from typing import TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from wholescene.data.cache import cache_mb_per_process
from wholescene.data.stream import ShardedBatches
from wholescene.heap import plain_heap
from wholescene.raster.read import cap_gdal_cache

__all__ = ["open_loader"]

T = TypeVar("T", covariant=True)


def open_loader(
    batches: TorchDataset[T],
    order: ShardedBatches,
    *,
    num_workers: int,
    cache_mb: int | None,
    num_local: int,
    keep_workers: bool = False,
) -> DataLoader[T]:
    """Open a loader whose items are whole batches.

    Args:
        batches: Gives the batch of a list of sample numbers.
        order: Which numbers, in which order.
        num_workers: Worker processes; 0 reads in this one.
        cache_mb: Megabytes of decoded pixels for all readers of this machine; ``None`` chooses.
        num_local: Training processes on this machine.
        keep_workers: Let the workers live on between passes.
    """
    share_mb = cache_mb_per_process(cache_mb, num_readers=num_local * max(1, num_workers))
    if num_workers == 0:
        cap_gdal_cache(share_mb)
    return _Loader(
        batches,
        batch_size=None,
        sampler=order,
        num_workers=num_workers,
        persistent_workers=keep_workers and num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=partial(_start_worker, cache_mb=share_mb),
    )


class _Loader(DataLoader[T]):
    def check_worker_number_rationality(self) -> None:
        """More workers than cores are slow, but were asked for."""


def _start_worker(worker: int, *, cache_mb: int) -> None:
    # Ctrl-C reaches every process of the terminal; the training process alone decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cap_gdal_cache(cache_mb)
    plain_heap()
    # What came from the training process is left alone by the collector, so its pages stay shared.
    gc.freeze()
