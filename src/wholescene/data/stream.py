"""Which samples this process takes next: sharded over processes, resumable by one number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch.utils.data import Dataset, DistributedSampler

from wholescene.errors import InputError

__all__ = ["SampleStream", "ShardedBatches"]


class ShardedBatches(DistributedSampler[range]):
    """Gives the sample numbers of each batch of one process.

    Batch ``b`` of rank ``r`` holds samples ``(b * batch_size + j) * world + r``: over the ranks
    every number stands once, and what a number means depends neither on ``world`` nor on
    ``batch_size``. It is a ``DistributedSampler`` so that Lightning knows it is sharded already.

    Args:
        num_batches: Batches of one pass.
        batch_size: Samples of one batch.
        rank: Number of this process.
        world: Number of processes.
    """

    def __init__(self, num_batches: int, batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        numbers = range(num_batches * batch_size * world)
        # Only the length of what is sampled matters here; torch types it as a Dataset.
        super().__init__(cast("Dataset[int]", numbers), num_replicas=world, rank=rank)
        self.num_batches, self.batch_size = num_batches, batch_size

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[range]:
        return (self.batch(number) for number in range(self.num_batches))

    def batch(self, number: int) -> range:
        """Sample numbers of batch ``number``."""
        first = number * self.batch_size
        stop = first + self.batch_size
        return range(
            first * self.num_replicas + self.rank, stop * self.num_replicas, self.num_replicas
        )


class SampleStream(ShardedBatches):
    """The endless stream of batches of a run, cut into epochs of ``num_batches``.

    A pass begins where the last one ended, or at the epoch named by ``set_epoch`` if that is
    further on; it ends at the next multiple of ``num_batches``. So a stream that starts inside an
    epoch gives the rest of that epoch first.

    Args:
        num_batches: Batches of one epoch.
        batch_size: Samples of one batch.
        rank: Number of this process.
        world: Number of processes.
        start: Batches this process has taken before, in earlier parts of the run.
    """

    def __init__(
        self, num_batches: int, batch_size: int, *, rank: int = 0, world: int = 1, start: int = 0
    ) -> None:
        if start < 0:
            raise InputError(f"cannot start at batch {start}; the first one is 0")
        super().__init__(num_batches, batch_size, rank=rank, world=world)
        self.position = start

    def set_epoch(self, epoch: int) -> None:
        """Move on to the beginning of an epoch, unless the stream is further."""
        self.position = max(self.position, epoch * self.num_batches)

    def __iter__(self) -> Iterator[range]:
        stop = (self.position // self.num_batches + 1) * self.num_batches
        for number in range(self.position, stop):
            if number == stop - 1:
                # Before the last batch, because not every loader asks for more after it.
                self.position = stop
            yield self.batch(number)
