"""How much memory a prediction may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from wholescene.spatial.memory import parse_bytes

__all__ = ["Budget", "find_budget", "size_text"]

DEVICE_SHARE = 0.8
MACHINE_SHARE = 0.5
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Budget:
    """Memory that may be taken.

    Args:
        num_bytes: How much.
        source: Where that comes from, in words.
    """

    num_bytes: int
    source: str

    def __str__(self) -> str:
        return f"{size_text(self.num_bytes)} ({self.source})"


def find_budget(memory: int | str | None, device: torch.device) -> Budget:
    """Memory as asked for; else half of the machine's, or 0.8 of a CUDA device's, if it is free.

    A share of all memory, not of what is free just now, so that the same call chooses the same
    engine every time; only where less than that is free does it count.

    Raises:
        InputError: If ``memory`` is no size.
    """
    if memory is not None:
        return Budget(parse_bytes(memory), "--memory")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return _share(total, free, DEVICE_SHARE, str(device))
    return _share(*_machine(), MACHINE_SHARE, "the machine")


def size_text(count: int) -> str:
    """Bytes for people."""
    if count < 1 << 20:
        return f"{count / 2**10:.0f} KiB"
    if count < 1 << 30:
        return f"{count / 2**20:.0f} MiB"
    return f"{count / 2**30:.1f} GiB"


def _share(total: int, free: int, share: float, owner: str) -> Budget:
    wanted = int(total * share)
    if free < wanted:
        return Budget(free, f"what is free of {owner}'s memory")
    return Budget(wanted, f"{share:g} of {owner}'s memory")


def _machine() -> tuple[int, int]:
    """Memory in all and free, as far as this process may use it."""
    info = Path("/proc/meminfo")
    if not info.exists():  # not Linux: nothing says what is free
        return 8 << 30, 8 << 30
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines())
    total, free = (int(lines[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    for path in map(Path, CGROUP_LIMITS):
        limit = path.read_text().strip() if path.exists() else "max"
        if limit.isdigit():
            total = min(total, int(limit))
    return total, min(free, total)
