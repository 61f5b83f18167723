"""What a run writes down about itself, and whether a run may be continued."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from wholescene import __version__
from wholescene.errors import ResumeError
from wholescene.train.contract import LearnSettings
from wholescene.yamlfile import read_yaml, write_yaml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "CONFIG_FILE",
    "ENVIRONMENT_FILE",
    "Settings",
    "check_same_run",
    "flat_settings",
    "package_commit",
    "plain_facts",
    "provenance_of",
    "settings_hash",
    "write_config",
    "write_environment",
]

CONFIG_FILE = "config.yaml"
ENVIRONMENT_FILE = "environment.json"

PACKAGES = ("lightning", "timm", "numpy", "rasterio", "pydantic")

FREE_KEYS = frozenset(
    {
        "data.cache_mb",
        "data.dataset",
        "data.num_workers",
        "name",
        "parallel.rows",
        "parallel.segments",
        "train.checkpoint_every",
        "train.device",
        "train.init_from",
        "train.log_every",
        "train.tensorboard",
    }
)
"""Settings that may differ on resume: none of them changes a weight.

The dataset may have moved; that it is the same one shows in its classes, bands and statistics.
"""


class Settings(Protocol):
    """Any configuration made of plain values."""

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        """All settings as plain values, as pydantic gives them."""
        ...


def settings_hash(settings: Settings) -> str:
    """Digest of all settings: 16 hexadecimal digits.

    Paths count by their last two parts, so that a run hashes the same on another machine.
    """
    text = json.dumps(_portable(settings.model_dump()), sort_keys=True, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten sections to ``section.key``.

    Examples:
        >>> flat_settings({"name": "run", "train": {"steps": 3}})
        {'name': 'run', 'train.steps': 3}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flat_settings(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def write_config(settings: Settings, path: Path) -> None:
    """Write every setting, defaults included, as YAML that loads to the same settings."""
    write_yaml(path, settings.model_dump(mode="json"))


def check_same_run(settings: Settings, folder: Path) -> None:
    """Refuse to continue a run under settings that would change its weights.

    Raises:
        ResumeError: If a setting differs; with both values.
    """
    before = flat_settings(read_yaml(folder / CONFIG_FILE))
    now = flat_settings(settings.model_dump(mode="json"))
    changed = [
        f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
        for key in sorted({*before, *now} - FREE_KEYS)
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise ResumeError(
            f"cannot resume {folder}: {'; '.join(changed)}. Use the settings of "
            f"{folder / CONFIG_FILE}, or train into a new folder"
        )


def write_environment(path: Path, *, seed: int, step: int) -> None:
    """Write versions, hardware, seed and command; a resumed run adds an entry to ``starts``."""
    starts: list[dict[str, Any]] = []
    if path.exists():
        starts = json.loads(path.read_text(encoding="utf-8")).get("starts", [])
    start = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        "command": sys.argv,
        "host": platform.node(),
    }
    facts = {
        "seed": seed,
        "commit": package_commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": _hardware(),
        "starts": [*starts, start],
    }
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    aside.replace(path)


def package_commit() -> str | None:
    """Commit of this package's source, with ``+changes`` if files differ; ``None`` if installed."""
    git, folder = shutil.which("git"), Path(__file__).resolve().parent
    if git is None:
        return None

    def ask(*words: str) -> str | None:
        command = [git, "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed copy may lie inside somebody else's repository.
    if ask("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    commit = ask("rev-parse", "HEAD")
    return f"{commit}+changes" if commit and ask("status", "--porcelain", "--", "..") else commit


def provenance_of(config: LearnSettings, dataset: str, step: int) -> dict[str, Any]:
    """Where the weights of a run come from, for the model file."""
    return {
        "dataset": dataset,
        "run": config.name,
        "config_hash": settings_hash(config),
        "commit": package_commit(),
        "version": __version__,
        "seed": config.train.seed,
        "step": step,
        "steps": config.train.steps,
    }


def plain_facts(result: DataclassInstance) -> dict[str, Any]:
    """A result as plain values, for ``--json``."""
    facts = asdict(result)
    return {key: str(value) if isinstance(value, Path) else value for key, value in facts.items()}


def _portable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _portable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(part) for part in value]
    return "/".join(value.parts[-2:]) if isinstance(value, Path) else value


def _versions() -> dict[str, str]:
    installed = {"wholescene": __version__, "torch": torch.__version__}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }
