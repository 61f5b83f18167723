"""Result files of benchmarks: what every one of them states, and how it is written.

A result is only worth keeping with the machine, the versions and the commit it was measured with.
``write_result`` adds these; ``tests/test_benchmark_results.py`` checks every file kept.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RESULTS", "Hardware", "Result", "hardware", "write_result"]

RESULTS = Path(__file__).parent / "results"

LIBRARIES = ("torch", "lightning", "timm", "rasterio", "numpy", "torchgeo", "monai", "terratorch")


class Hardware(BaseModel):
    """The machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    """Short name, part of the file name."""
    cpu: str
    cores: int = Field(ge=1)
    memory_gib: float = Field(gt=0)
    gpu: str | None = None


class Result(BaseModel):
    """One run of one benchmark."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    """Benchmark, part of the file name."""
    date: dt.date
    commit: str = Field(pattern=r"^([0-9a-f]{40}(-dirty)?|uncommitted)$")
    """Commit measured; ``-dirty`` with local changes."""
    command: str
    hardware: Hardware
    versions: dict[str, str]
    """Versions of Python, GDAL and the libraries that were there."""
    seconds: float = Field(ge=0)
    """Length of the whole run."""
    data: dict[str, Any] = Field(min_length=1)
    """What was measured, with its settings."""

    @property
    def file_name(self) -> str:
        """``name_hardware_date.json``."""
        return f"{self.name}_{self.hardware.name}_{self.date.isoformat()}.json"


def write_result(
    name: str, data: dict[str, Any], *, seconds: float, folder: Path = RESULTS
) -> Path:
    """Write one result with commit, hardware, versions and date.

    Args:
        name: Benchmark, lower case, words joined by ``-``.
        data: What was measured, with its settings; JSON.
        seconds: Length of the whole run.
        folder: Where results are kept.
    """
    result = Result(
        name=name,
        date=dt.datetime.now(dt.UTC).date(),
        commit=commit(),
        command=" ".join(["python", *sys.argv]),
        hardware=hardware(),
        versions=versions(),
        seconds=round(seconds, 1),
        data=data,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / result.file_name
    path.write_text(json.dumps(result.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    return path


def hardware() -> Hardware:
    """Describe this machine."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = _gpu()
    short = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") if gpu else f"cpu{cores}{_kind()}"
    return Hardware(name=short, cpu=_cpu(), cores=cores, memory_gib=round(memory, 1), gpu=gpu)


def versions() -> dict[str, str]:
    """Versions of what a benchmark may use."""
    found = {"python": platform.python_version(), "gdal": _gdal()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Commit of this repository, ``-dirty`` where the package or the benchmarks differ from it."""
    root = Path(__file__).parent.parent
    head = _git(root, "rev-parse", "--verify", "HEAD")
    if not head:
        return "uncommitted"
    changed = _git(root, "status", "--porcelain", "--", "src", "benchmarks/*.py")
    return f"{head}-dirty" if changed else head


def _git(root: Path, *args: str) -> str:
    command = ["git", "-C", str(root), *args]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _kind() -> str:
    """Keeps results of CPUs with AVX2 only apart from those with AVX-512: they differ much."""
    found = re.search(r"^flags\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    flags = found.group(1).split() if found else []
    return "-avx2" if "avx2" in flags and "avx512f" not in flags else ""


def _cpu() -> str:
    text = _cpuinfo()
    if not text:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _gdal() -> str:
    import rasterio

    return str(rasterio.__gdal_version__)
