"""A pool of scenes without labels, a little of it labelled, and a configuration for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from affine import Affine

from wholescene.config import PretrainConfig
from wholescene.datasets import (
    ClassEntry,
    Dataset,
    DatasetSpec,
    SceneRecord,
    Statistics,
    load_dataset,
    write_dataset,
)
from wholescene.geometry import Size
from wholescene.raster import BandSpec, SourceSpec, StripWriter

BANDS = tuple(BandSpec(name=name) for name in ("red", "green", "blue", "nir"))
SIDE = 96

MakeConfig = Callable[..., PretrainConfig]
"""Type of the fixture ``make_pretrain_config``."""


def write_raster(path: Path, pixels: np.ndarray, *, east: float) -> Path:
    with StripWriter(
        path,
        size=Size(*pixels.shape[1:]),
        bands=len(pixels),
        dtype="uint8",
        transform=Affine(1, 0, 500_000 + east, 0, -1, 5_000_000),
        crs="EPSG:32633",
        **({"band_specs": BANDS} if len(pixels) == len(BANDS) else {}),
    ) as writer:
        writer.write(0, pixels)
    return path


def make_pool(folder: Path, splits: dict[str, int], *, unlabelled: tuple[str, ...]) -> Dataset:
    """Halves of two textures, fine and coarse, side by side at a random column."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes: list[SceneRecord] = []
    for split, count in splits.items():
        for number in range(count):
            rng = np.random.default_rng(len(scenes))
            label = np.zeros((1, SIDE, SIDE), np.uint8)
            label[:, :, int(rng.integers(30, 66)) :] = 1
            coarse = np.kron(rng.integers(60, 180, (4, SIDE // 8, SIDE // 8)), np.ones((1, 8, 8)))
            fine = rng.integers(60, 180, (4, SIDE, SIDE))
            image = np.where(label == 1, fine, coarse).astype(np.uint8)
            name, east = f"{split}{number}", 1000.0 * len(scenes)
            files = {"image": (write_raster(folder / f"{name}.tif", image, east=east),)}
            labels = {}
            if split not in unlabelled:
                labels["label"] = write_raster(folder / f"{name}_label.tif", label, east=east)
            scenes.append(SceneRecord(id=name, split=split, files=files, labels=labels))
    spec = DatasetSpec(
        name="pool",
        classes=(ClassEntry(id=0, name="coarse"), ClassEntry(id=1, name="fine")),
        sources=(SourceSpec(bands=BANDS),),
        statistics=Statistics(
            mean=(120.0,) * 4, std=(35.0,) * 4, bands=tuple(band.name for band in BANDS)
        ),
    )
    return load_dataset(write_dataset(spec, scenes, folder))
