"""Giving freed memory back to the operating system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

__all__ = ["release_freed_memory"]


def release_freed_memory() -> None:
    """Return what the C library keeps of freed memory; does nothing where it is not glibc.

    glibc keeps blocks of up to 32 MiB for reuse, scattered over a heap for each thread. Over a
    scene that adds up to hundreds of megabytes that differ from run to run.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
