"""What ranks send each other: rows of a value, sums over the scene, and bad news."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from wholescene.errors import RankError
from wholescene.spatial.links import Links, links_of, told

__all__ = ["Wire"]

SMALL_BYTES = 1 << 20
"""Up to which every rank sums the tensors of all; of larger ones each sums a share."""


class Wire:
    """The ranks that share one scene.

    Args:
        group: Process group; ``None`` for this process alone.

    Attributes:
        bytes_sent: Bytes that this rank has sent.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.size = 1 if group is None else dist.get_world_size(group)
        self.rank = 0 if group is None else dist.get_rank(group)
        self.bytes_sent = 0
        self._links = links_of(group) if group is not None and self.size > 1 else None

    def _links_for(self, tensor: Tensor) -> Links | None:
        return self._links if tensor.device.type == "cpu" else None

    def begin_swap(
        self,
        sent: list[tuple[int, Tensor]],
        shapes: list[tuple[int, tuple[int, ...]]],
        like: Tensor,
    ) -> Callable[[], list[Tensor]]:
        """Begin to send tensors to ranks and to receive others.

        Args:
            sent: Rank and tensor, in the order in which that rank awaits them.
            shapes: Rank and shape of what comes, likewise.
            like: Has the type and device of what comes.

        Returns:
            Waits for what comes, and must be called.
        """
        taken = [like.new_empty(shape) for _, shape in shapes]
        whole = [(peer, tensor.contiguous()) for peer, tensor in sent]
        rooms = [(peer, tensor) for (peer, _), tensor in zip(shapes, taken, strict=True)]
        self.bytes_sent += sum(tensor.nbytes for _, tensor in whole)
        links = self._links_for(like)
        with _awaiting():
            finish = (links.begin if links is not None else self._begin)(whole, rooms)

        def wait() -> list[Tensor]:
            with _awaiting():
                finish()
            whole.clear()  # held until here: it was being sent
            return taken

        return wait

    def _begin(
        self, sent: list[tuple[int, Tensor]], taken: list[tuple[int, Tensor]]
    ) -> Callable[[], None]:
        ops = [self._op(dist.isend, tensor, peer) for peer, tensor in sent]
        ops += [self._op(dist.irecv, tensor, peer) for peer, tensor in taken]
        works = dist.batch_isend_irecv(ops) if ops else []

        def finish() -> None:
            for work in works:
                work.wait()

        return finish

    def _op(self, kind: object, tensor: Tensor, peer: int) -> dist.P2POp:
        assert self.group is not None
        raw = tensor.view(-1).view(torch.uint8)
        return dist.P2POp(kind, raw, dist.get_global_rank(self.group, peer), self.group)  # type: ignore[arg-type]

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over ranks, in place."""
        if self.size == 1:
            return tensor
        links = self._links_for(tensor)
        if links is None:
            self.bytes_sent += 2 * tensor.nbytes * (self.size - 1) // self.size
            with _awaiting():
                dist.all_reduce(tensor, group=self.group)
        elif tensor.nbytes <= SMALL_BYTES:
            tensor.copy_(_in_order(self.gather(tensor)))
        else:
            self._sum_in_shares(tensor, links)
        return tensor

    def _sum_in_shares(self, tensor: Tensor, links: Links) -> None:
        """Each rank sums a share of the tensor and sends it to all others."""
        shares = tensor.view(-1).tensor_split(self.size)
        mine = shares[self.rank]
        parts = [torch.empty_like(mine) for _ in shares]
        parts[self.rank] = mine
        self.bytes_sent += tensor.nbytes + (self.size - 2) * mine.nbytes
        with _awaiting():
            links.trade(shares, parts)
            mine.copy_(_in_order(parts))
            links.trade([mine] * self.size, shares)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every rank; all have the same shape."""
        if self.size == 1:
            return [tensor]
        tensor = tensor.contiguous()
        self.bytes_sent += tensor.nbytes * (self.size - 1)
        links = self._links_for(tensor)
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with _awaiting():
            if links is None:
                dist.all_gather(parts, tensor, group=self.group)
            else:
                parts[self.rank] = tensor
                links.trade([tensor] * self.size, parts)
        return parts

    def tell(self, message: object) -> list[object]:
        """What every rank has to say; small things only."""
        if self.group is None or self.size == 1:
            return [message]
        with _awaiting():
            return told(message, self.group)

    def agree(self, trouble: str | None) -> None:
        """Raise on every rank if any of them has trouble.

        Raises:
            RankError: Names the first rank with trouble, and what it is.
        """
        for rank, said in enumerate(self.tell(trouble)):
            if said is not None:
                raise RankError(f"rank {rank} of {self.size} failed: {said}")


def _in_order(parts: list[Tensor]) -> Tensor:
    """Their sum in the order of ranks, so that it has the same bits wherever it is made."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


@contextmanager
def _awaiting() -> Iterator[None]:
    """Say what it means that the others do not answer."""
    try:
        yield
    except RuntimeError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RankError(
            f"another rank of this scene is gone or waits for something else ({lines[0][:120]}); "
            "its own message says why"
        ) from error
