"""Connections between the processes of one host that the calling thread itself serves.

gloo hands each message to threads of its own. Where every core computes, such a thread gets its
turn only when the scheduler next looks: 3 to 4 ms a message on two busy cores with Linux 6.18,
whatever its size. A training step of a ResNet has 150 of them. Here the thread that waits looks
itself, and sleeps a few microseconds in between.
"""

from __future__ import annotations

import os
import select
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, finalize

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Links", "links_of", "told"]

NAP_S = 2e-5
NAPS = 500
"""Looks, each after a nap, before a process that waits sleeps until something comes."""

SETUP_S = 60.0
RANK_BYTES = 4


@dataclass
class _Message:
    """Bytes that leave or come; ``left`` shrinks as they do."""

    left: memoryview


class Links:
    """Connections of this rank to all others of its group.

    Args:
        peers: Connected stream sockets, by rank.
    """

    def __init__(self, peers: dict[int, socket.socket]) -> None:
        self._peers = peers
        for peer in peers.values():
            peer.setblocking(False)
        self._leaving: dict[int, deque[_Message]] = {rank: deque() for rank in peers}
        self._coming: dict[int, deque[_Message]] = {rank: deque() for rank in peers}
        finalize(self, _close, list(peers.values()))

    def begin(
        self, sent: Sequence[tuple[int, Tensor]], taken: Sequence[tuple[int, Tensor]]
    ) -> Callable[[], None]:
        """Begin to send contiguous tensors and to fill others with what comes.

        Args:
            sent: Rank and tensor, in the order in which that rank takes them.
            taken: Likewise; neither may be touched until the wait is over.

        Returns:
            Waits until all have left and come, as long as the others live, and must be called. It
            raises ``RuntimeError`` if one is gone.
        """
        messages = []
        for queues, ends in ((self._leaving, sent), (self._coming, taken)):
            for rank, tensor in ends:
                message = _Message(_bytes_of(tensor))
                if message.left.nbytes:
                    queues[rank].append(message)
                    messages.append(message)
        if messages:
            self._move()
        return lambda: self._finish(messages)

    def trade(self, sent: Sequence[Tensor], taken: Sequence[Tensor]) -> None:
        """Send one tensor to every other rank, and take one; those of this rank are let be."""
        self.begin(
            [(peer, sent[peer]) for peer in self._peers],
            [(peer, taken[peer]) for peer in self._peers],
        )()

    def _finish(self, messages: list[_Message]) -> None:
        looks = 0
        while any(message.left for message in messages):
            if self._move():
                looks = 0
            elif looks < NAPS:
                looks += 1
                time.sleep(NAP_S)
            else:
                self._sleep()

    def _sleep(self) -> None:
        """Until another process takes or gives something."""
        poll = select.poll()
        for rank, peer in self._peers.items():
            events = select.POLLIN if self._coming[rank] else 0
            events |= select.POLLOUT if self._leaving[rank] else 0
            if events:
                poll.register(peer, events)
        poll.poll()

    def _move(self) -> bool:
        """Move what can be moved now; whether anything did."""
        moved = False
        for rank, peer in self._peers.items():
            moved |= _drain(self._leaving[rank], peer.send, rank)
            moved |= _drain(self._coming[rank], peer.recv_into, rank)
        return moved


def _drain(queue: deque[_Message], move: Callable[[memoryview], int], rank: int) -> bool:
    """Move messages of one direction until the socket would block."""
    moved = False
    while queue:
        message = queue[0]
        try:
            count = move(message.left)
        except BlockingIOError:
            break
        except OSError as error:
            raise RuntimeError(f"connection to rank {rank} is lost: {error}") from error
        if not count:
            raise RuntimeError(f"connection to rank {rank} is closed")
        message.left, moved = message.left[count:], True
        if not message.left:
            queue.popleft()
    return moved


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().view(-1).view(torch.uint8).numpy().data


def _close(peers: list[socket.socket]) -> None:
    for peer in peers:
        peer.close()


_LINKS: WeakKeyDictionary[dist.ProcessGroup, Links | None] = WeakKeyDictionary()


def links_of(group: dist.ProcessGroup) -> Links | None:
    """The links of a group, made when first asked for, by all its ranks together.

    Returns:
        ``None``, on every rank, unless the group uses gloo and all ranks are on one host.
    """
    if group not in _LINKS:
        _LINKS[group] = _connect(group) if dist.get_backend(group) == "gloo" else None
    return _LINKS[group]


def _connect(group: dist.ProcessGroup) -> Links | None:
    """Every rank listens at a path of its own, and calls those before it."""
    with tempfile.TemporaryDirectory(prefix="wholescene-") as folder:
        path = str(Path(folder) / "link")
        listener = _listen(path, dist.get_world_size(group))
        places = told(None if listener is None else (_host(), path), group)
        peers = None
        if listener is not None and len({place and place[0] for place in places}) == 1:
            peers = _meet(listener, [path for _, path in places], dist.get_rank(group))
        are_made = told(peers is not None, group)  # before the paths go
    if listener is not None:
        listener.close()
    if peers is None:
        return None
    if all(are_made):
        return Links(peers)
    _close(list(peers.values()))
    return None


def told(message: object, group: dist.ProcessGroup) -> list[Any]:
    """What every rank has to say; small things only."""
    said: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(said, message, group)
    return said


def _listen(path: str, size: int) -> socket.socket | None:
    """A socket that others can call; ``None`` where there are none, or the path is too long."""
    if not hasattr(socket, "AF_UNIX"):
        return None
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(SETUP_S)
    try:
        listener.bind(path)
        listener.listen(size)
    except OSError:
        listener.close()
        return None
    return listener


def _meet(
    listener: socket.socket, paths: Sequence[str], rank: int
) -> dict[int, socket.socket] | None:
    """Sockets to all other ranks; ``None`` if one cannot be reached, such as in a container."""
    peers: dict[int, socket.socket] = {}
    try:
        for before, path in enumerate(paths[:rank]):
            peers[before] = socket.socket(socket.AF_UNIX)
            peers[before].settimeout(SETUP_S)
            peers[before].connect(path)
            peers[before].sendall(rank.to_bytes(RANK_BYTES, "little"))
        for _ in paths[rank + 1 :]:
            caller, _ = listener.accept()
            caller.settimeout(SETUP_S)
            number = caller.recv(RANK_BYTES, socket.MSG_WAITALL)
            peers[int.from_bytes(number, "little")] = caller
    except OSError:
        _close(list(peers.values()))
        return None
    return peers


def _host() -> str:
    """A name that no other running machine has."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text() if boot.exists() else os.uname()}"
