"""Pixels, colour masks and archives for tiny datasets; independent of the code under test."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Trap:
    """A fault and what must be said about it.

    Args:
        plant: Puts it into a folder that ``make`` filled.
        error: Words of the error or finding.
        found_by: ``prepare`` if preparing must fail, ``verify`` if verification must find it.
        settings: Further arguments of ``prepare_dataset``.
    """

    plant: Callable[[Path], None]
    error: str
    found_by: str = "prepare"
    settings: Mapping[str, object] | None = None


def class_ids(height: int, width: int, values: Sequence[int], seed: int) -> np.ndarray:
    """Blocks of 8 px with all values, int64 (height, width)."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(values, size=(-(-height // 8), -(-width // 8)))
    coarse.ravel()[: len(values)] = values[: coarse.size]
    return np.kron(coarse, np.ones((8, 8), np.int64))[:height, :width]


def pixels(ids: np.ndarray, bands: int, dtype: str, seed: int, top: int | None = None):
    """Bands that depend on the class, with noise: (bands, height, width)."""
    rng = np.random.default_rng(seed + 1000)
    limit = top or (200 if dtype == "uint8" else 4000)
    level = (ids[None] * (37 + 11 * np.arange(bands)[:, None, None])) % limit
    return np.clip(level + rng.integers(1, limit // 5, (bands, *ids.shape)), 1, None).astype(dtype)


def colored(ids: np.ndarray, palette: Mapping[int, Color]) -> np.ndarray:
    """Colour mask, uint8 (3, height, width)."""
    out = np.zeros((3, *ids.shape), np.uint8)
    for value, color in palette.items():
        out[:, ids == value] = np.array(color, np.uint8)[:, None]
    return out


def write(path: Path, values: np.ndarray, *, place: int | None = None, **profile: object) -> None:
    """Write an array (height, width) or (bands, height, width) in the format of the suffix.

    Args:
        place: Metres east of an origin; gives the file a georeference.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = values[None] if values.ndim == 2 else values
    driver = {".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG", ".jpg": "JPEG"}[path.suffix]
    if place is not None:
        profile |= {
            "crs": "EPSG:32633",
            "transform": Affine(1, 0, 350_000 + place, 0, -1, 5_800_000),
        }
    count, height, width = bands.shape
    profile |= {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, **profile) as file:
            file.write(bands)
    Path(f"{path}.aux.xml").unlink(missing_ok=True)


def read(path: Path) -> np.ndarray:
    """Stored values, (bands, height, width)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read()


def real(name: str) -> Path:
    """A folder of real imagery; skips the test where it is not there."""
    root = os.environ.get("WHOLESCENE_DATA")
    if root is None:
        pytest.skip("WHOLESCENE_DATA is unset")
    if not (Path(root) / name).is_dir():
        pytest.skip(f"no folder {name} in WHOLESCENE_DATA")
    return Path(root) / name


def zip_folder(folder: Path, archive: Path, *, remove: bool = True) -> None:
    """Pack a folder's content, and remove it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with zipfile.ZipFile(archive, "w") as file:
        for path in files:
            file.write(path, path.relative_to(folder))
    if remove:
        for path in files:
            path.unlink()
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir()
        folder.rmdir()
