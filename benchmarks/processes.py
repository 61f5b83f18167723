"""Cells of a benchmark: fresh processes, memory as the kernel counts it, finished ones kept.

Needs nothing but Python, so that an interpreter without this package can use it too.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Cells", "Sampler", "interruptible", "reset_peak", "run_json", "status", "tune_malloc"]

SOURCE = Path(__file__).resolve().parent.parent / "src"
SAMPLE_S = 0.02
FIELDS = {"VmRSS": "rss", "RssAnon": "anonymous", "RssFile": "file"}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4

Cell = dict[str, Any]


def status() -> dict[str, int]:
    """Memory of this process in bytes, by field of ``/proc/self/status``."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    pairs = (line.split(":", 1) for line in lines)
    return {name: int(value.split()[0]) << 10 for name, value in pairs if value.endswith(" kB")}


def reset_peak() -> None:
    """Make ``VmHWM`` start again from the memory held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def tune_malloc() -> bool:
    """Let glibc keep freed memory instead of giving it back and faulting it in again.

    Returns:
        Whether it did, which it cannot where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))


class Sampler(threading.Thread):
    """Keeps the largest value of each part of memory."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = dict.fromkeys(FIELDS.values(), 0)
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            now = status()
            for field, name in FIELDS.items():
                self.peak[name] = max(self.peak[name], now[field])

    def stop(self) -> None:
        self._done.set()
        self.join()


class Cells:
    """Finished cells, a line each; a cell is known by its key.

    Args:
        path: File of JSON lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.found = [cell for line in lines if (cell := _parsed(line)) is not None]

    def get(self, key: Mapping[str, Any]) -> Cell | None:
        """The finished cell of a key."""
        return next((cell for cell in self.found if key.items() <= cell.items()), None)

    def run(self, key: Mapping[str, Any], command: Sequence[str]) -> Cell:
        """Run a cell, unless it is finished; a failure is given back but not kept."""
        known = self.get(key)
        if known is not None:
            return known
        start = time.perf_counter()
        cell = {**key, **run_json([*command, "--cell", json.dumps(key)])}
        cell["wall_seconds"] = round(time.perf_counter() - start, 1)
        if "error" not in cell:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(cell) + "\n")
            self.found.append(cell)
        print(json.dumps(cell), file=sys.stderr, flush=True)
        return cell


def _parsed(line: str) -> Cell | None:
    try:
        cell: Cell = json.loads(line)
    except json.JSONDecodeError:  # cut off when the benchmark was killed
        return None
    return cell


def interruptible(main: Callable[[], None]) -> Callable[[], None]:
    """Let Ctrl-C end a script with one line and exit code 130."""

    @functools.wraps(main)
    def wrapped() -> None:
        try:
            main()
        except KeyboardInterrupt:
            print("interrupted; finished cells are kept, run again to go on", file=sys.stderr)
            raise SystemExit(130) from None

    return wrapped


def run_json(command: Sequence[str]) -> Cell:
    """Run a command that prints JSON last; a failure is a result too."""
    # Another interpreter may lack this package, never this working copy of it.
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        return {"error": reason}
    cell: Cell = json.loads(done.stdout.splitlines()[-1])
    return cell
