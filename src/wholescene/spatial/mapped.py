"""Files that are read and written like memory, without taking any for long."""

from __future__ import annotations

import mmap
from pathlib import Path

import torch

__all__ = ["MappedFile"]


class MappedFile:
    """A file as a flat tensor of bytes.

    Pages that were read or written count as memory of the process until they are unloaded.

    Args:
        path: The file; made if need be, and what it holds is kept.
        num_bytes: Its size, at least 1.
    """

    def __init__(self, path: Path, num_bytes: int) -> None:
        self.path = path
        with path.open("r+b" if path.exists() else "w+b") as file:
            if path.stat().st_size < num_bytes:
                file.truncate(num_bytes)
            self._map = mmap.mmap(file.fileno(), num_bytes)
        self.tensor = torch.frombuffer(self._map, dtype=torch.uint8)

    def unload(self) -> None:
        """Leave it to the system what of the file is in memory; nothing is lost."""
        advice = getattr(mmap, "MADV_DONTNEED", None)
        if advice is not None:
            self._map.madvise(advice)

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
