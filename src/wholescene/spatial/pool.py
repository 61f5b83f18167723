"""Memory that is used again and again, so that it is asked for only once.

Regions have the same sizes at almost every step. Left to the C library, their memory would be given
back and taken anew each time, which costs more than filling it, or be scattered over a heap that
grows to a multiple of what is in use.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["Pool", "pages", "steady_heap", "tidy_heap"]


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
    """Flat buffers that are lent and taken back.

    Buffers for a step are lent to whoever needs that much; those for a row of blocks or a whole
    sweep are lent again for the same size only, so that no large one goes to waste.

    Args:
        device: Where they are.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._free: list[Tensor] = []
        self._lasting: dict[int, list[Tensor]] = {}

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

    def take_lasting(self, num_bytes: int) -> Tensor:
        """Borrow a buffer of just so many bytes for longer than a step."""
        same = self._lasting.get(num_bytes)
        return same.pop() if same else pages(num_bytes, self.device)

    def give_lasting(self, buffer: Tensor) -> None:
        """Take such a buffer back."""
        self._lasting.setdefault(buffer.numel(), []).append(buffer)


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt, and what glibc sets them to
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}
_STEADY = {_TRIM_THRESHOLD: (1 << 31) - 1, _MMAP_MAX: 0}
_SMALL = range(24, 137, 16)
_STOCK = 4000
_users: list[None] = []


@contextmanager
def steady_heap() -> Iterator[None]:
    """Keep what operators free for the next ones, where the C library is glibc; for the process.

    glibc gets large blocks from the operating system one by one and gives each back at once, so
    that every result of a layer is made of pages that must be cleared first.
    """
    library = _glibc()
    _users.append(None)
    try:
        if library is not None:
            for name, number in _STEADY.items():
                library.mallopt(name, number)
            _stock_small_blocks(library)
        yield
    finally:
        _users.pop()
        if library is not None and not _users:
            for name, number in _DEFAULTS.items():
                library.mallopt(name, number)
            library.malloc_trim(0)


@cache
def _stock_small_blocks(library: Any) -> None:
    """Put free small blocks aside, once, each between two that stay in use.

    Aligned large blocks leave gaps of up to 96 bytes around them. Small allocations that found
    nothing else would settle there, and the large block could not be used again for its size.
    """
    for size in _SMALL:
        blocks = [library.malloc(size) for _ in range(2 * _STOCK)]
        for block in blocks[::2]:
            library.free(block)


def tidy_heap(limit: int) -> None:
    """Give free memory back once there is more than ``limit`` of it.

    Small allocations between large ones keep the gaps from being used again, so a heap that
    gives nothing back grows to a multiple of what is in use.
    """
    library = _glibc()
    if library is not None and library.mallinfo2().free > limit:
        library.malloc_trim(0)


class _Usage(ctypes.Structure):
    """``struct mallinfo2`` of glibc; ``free`` are bytes in the heap that are not in use."""

    _fields_ = (
        ("before", ctypes.c_size_t * 8),
        ("free", ctypes.c_size_t),
        ("top", ctypes.c_size_t),
    )


@cache
def _glibc() -> Any:
    """The C library, if it is glibc of 2.33 or later."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # only glibc has it
        library.mallinfo2.restype = _Usage
        library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
        library.malloc_trim.argtypes = [ctypes.c_size_t]
        library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
        library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    except (AttributeError, OSError, TypeError):
        return None
    return library
