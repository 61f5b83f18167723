"""Memory that is used again and again, so that it is asked for only once.

Regions have the same sizes at almost every step. Left to the C library, their memory would be given
back and taken anew each time, which costs more than filling it, or be scattered over a heap that
grows to a multiple of what is in use.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

__all__ = ["Pool", "pages"]


def pages(num_bytes: int, device: torch.device) -> Tensor:
    """A flat buffer that is no part of the C library's heap.

    What lives long would otherwise lie between results of layers, so that no room as large as
    theirs becomes free again.
    """
    flags = getattr(mmap, "MAP_PRIVATE", None)
    if device.type != "cpu" or num_bytes == 0 or flags is None:
        return torch.empty(num_bytes, dtype=torch.uint8, device=device)
    mapped = mmap.mmap(-1, num_bytes, flags=flags | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(mapped, dtype=torch.uint8)


class Pool:
    """Flat buffers that are lent for a step and taken back.

    Args:
        device: Where they are.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._free: list[Tensor] = []

    @property
    def num_bytes(self) -> int:
        """Bytes of all buffers that are not lent."""
        return sum(buffer.numel() for buffer in self._free)

    def take(self, num_bytes: int) -> Tensor:
        """Borrow the smallest buffer of at least so many bytes.

        If there is none, a new one takes the place of the largest: there are never more buffers
        than were lent at once.
        """
        self._free.sort(key=Tensor.numel)
        fitting = [k for k, buffer in enumerate(self._free) if buffer.numel() >= num_bytes]
        if fitting:
            return self._free.pop(fitting[0])
        if self._free:
            self._free.pop()
        return pages(num_bytes, self.device)

    def give(self, buffer: Tensor) -> None:
        """Take a buffer back; nothing may read it any more."""
        self._free.append(buffer)
