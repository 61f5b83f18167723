"""Memory of the process that operators give back and take anew, many times a second."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["HeapWatch", "lean_heap", "plain_heap", "steady_heap", "tidy_heap"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # parameters of mallopt
# Once one is set, glibc adapts none any more: these are what it comes to with large arrays.
_PLAIN = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 65536}
_STEADY = {**_PLAIN, _TRIM_THRESHOLD: (1 << 31) - 1, _MMAP_MAX: 0}
_LEAN = {**_PLAIN, _TRIM_THRESHOLD: 16 << 20, _MMAP_THRESHOLD: 1 << 20}
_SMALL = range(24, 137, 16)
_STOCK = 4000
_SLACK = 64 << 20
_users: list[dict[int, int]] = []  # what each asked for; the last one's holds


@contextmanager
def steady_heap() -> Iterator[None]:
    """Keep what operators free for the next ones, where the C library is glibc; for the process.

    glibc gets large blocks from the operating system one by one and gives each back at once, so
    that every result of a layer is made of pages that must be cleared first.
    """
    with _kept(_STEADY):
        if (library := _glibc()) is not None:
            _stock_small_blocks(library)
        yield


@contextmanager
def lean_heap() -> Iterator[None]:
    """Hold what is in use and hardly more; for the process, where the C library is glibc.

    Every block from 1 MiB on is the operating system's. Clearing its pages anew takes time, but
    no free memory is left between blocks that stay, as much as that may be in a steady heap.
    """
    with _kept(_LEAN):
        _trim()
        yield


@contextmanager
def _kept(settings: dict[int, int]) -> Iterator[None]:
    own = dict(settings)  # a new one, to be found again among equal ones
    _users.append(own)
    _set(own)
    try:
        yield
    finally:
        _users[:] = [each for each in _users if each is not own]
        if _users:
            _set(_users[-1])
        else:
            plain_heap()


def plain_heap() -> None:
    """Leave the heap to the C library; for a process forked where it was kept steady, too."""
    _set(_PLAIN)
    _trim()


def _set(settings: dict[int, int]) -> None:
    library = _glibc()
    if library is not None:
        for name, number in settings.items():
            library.mallopt(name, number)


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
    """Give free memory back once there is more than ``limit`` of it, in bytes.

    Small allocations between large ones keep the gaps from being used again, so a heap that
    gives nothing back grows to a multiple of what is in use.
    """
    if free_bytes() > limit:
        _trim()


def _trim() -> None:
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def free_bytes() -> int:
    """Bytes of the heap that are not in use; 0 where the C library is not glibc."""
    library = _glibc()
    return 0 if library is None else int(library.mallinfo2().free)


class HeapWatch:
    """Keeps as much free memory as one piece of work leaves, for the next one like it."""

    def __init__(self) -> None:
        self._limit = 0

    def work_ended(self) -> None:
        """Give memory back where gaps have added an eighth to what the first work left free.

        Free pages that were given back stay in the heap, so what counts is what is resident.
        Does nothing outside of :func:`steady_heap`.
        """
        if not _users or _users[-1] != _STEADY:
            return
        resident = resident_bytes()
        if not self._limit:
            self._limit = resident + max(free_bytes() // 8, _SLACK)
        elif resident > self._limit:
            tidy_heap(0)


def resident_bytes() -> int:
    """Memory of the process that is really there; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


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
