"""Folders of small images and labels, as a user might have them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from wholescene.datasets import Dataset, load_dataset
from wholescene.datasets.prepare.folder import prepare_folder

UTM = "EPSG:32636"
DRIVERS = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG", ".jp2": "JP2OpenJPEG"}


def write(
    path: Path,
    pixels: NDArray[Any],
    *,
    x: float | None = None,
    transform: Affine | None = None,
    palette: dict[int, tuple[int, int, int]] | None = None,
) -> Path:
    """Write (h, w) or (bands, h, w) pixels; with ``x``, 1-m pixels from (x, 100) in UTM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    count, height, width = pixels.shape
    if x is not None:
        transform = Affine(1, 0, 5e5 + x, 0, -1, 1e5)
    place = {} if transform is None else {"crs": UTM, "transform": transform}
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(
            path,
            "w",
            driver=DRIVERS[path.suffix],
            count=count,
            height=height,
            width=width,
            dtype=pixels.dtype,
            **place,
        ) as file,
    ):
        file.write(pixels)
        if palette:
            file.write_colormap(1, palette)
    path.with_name(path.name + ".aux.xml").unlink(missing_ok=True)
    return path


def image(seed: int = 0, size: int = 12) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 250, (3, size, size), np.uint8)


def mask(seed: int = 0, values: tuple[int, ...] = (0, 1, 2), size: int = 12) -> NDArray[np.uint8]:
    found = np.random.default_rng(seed).choice(np.array(values, np.uint8), (size, size))
    found.flat[: len(values)] = values
    return found


def prepared(source: Path, out: Path | None = None, **settings: Any) -> tuple[Dataset, str]:
    made = prepare_folder(source, out or source.parent / "made", workers=2, **settings)
    return load_dataset(made.path), " | ".join(made.notes)


def label_ids(dataset: Dataset, scene: str) -> NDArray[Any]:
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(dataset.scene(scene).labels["label"]) as file,
    ):
        return np.asarray(file.read(1))


def by_split(dataset: Dataset) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for scene in dataset.scenes:
        found.setdefault(scene.split, []).append(scene.id)
    return found
