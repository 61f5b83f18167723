"""How many decoded pixels GDAL may keep in memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["cache_mb_per_process", "machine_memory_mb"]

SHARE_OF_MEMORY = 0.1
MOST_MB = 2048
LEAST_MB = 64

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def cache_mb_per_process(asked_mb: int | None, *, num_readers: int) -> int:
    """Share the cache among the processes of this machine that read patches.

    Args:
        asked_mb: Megabytes for all of them; ``None`` for a tenth of the memory, at most 2048.
        num_readers: Number of these processes.
    """
    if asked_mb is None:
        asked_mb = min(MOST_MB, int(SHARE_OF_MEMORY * machine_memory_mb()))
        return max(LEAST_MB, asked_mb // num_readers)
    return max(1, asked_mb // num_readers)


def machine_memory_mb() -> int:
    """Memory this process may use: of the machine, or of its container or job."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = 8 << 30  # no POSIX: assume a small machine
    with contextlib.suppress(OSError, ValueError):  # without a limit the file reads "max"
        total = min(total, int(_CGROUP_LIMIT.read_text()))
    return total >> 20
