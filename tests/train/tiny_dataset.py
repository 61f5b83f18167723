"""A dataset of two classes that a tiny network learns in a few steps, and such a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from affine import Affine

from wholescene.config import RunConfig
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
from wholescene.models import Architecture, ClassSpec, ModelSpec, Segmenter, build_segmenter
from wholescene.raster.source import BandSpec, SourceSpec
from wholescene.raster.write import StripWriter

BANDS = ("red", "nir")
CLASSES = ("land", "water")

MakeConfig = Callable[..., RunConfig]
"""Type of the fixture ``make_config``."""


def write_scene(
    folder: Path, name: str, *, seed: int, side: int, ignored_rows: int, named: bool
) -> tuple[Path, Path]:
    """Water is dark in nir; the border between the classes is a random line."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:side, :side]
    label = (rows + cols * rng.uniform(-1, 1) > side * rng.uniform(0.3, 0.7)).astype(np.uint8)
    nir = np.where(label == 1, 20, 160) + rng.normal(0, 20, label.shape)
    red = 90 + rng.normal(0, 20, label.shape)
    image = np.stack([red, nir]).clip(1, 255).astype(np.uint8)
    label[:ignored_rows] = 255
    paths = folder / f"{name}.tif", folder / f"{name}_label.tif"
    transform = Affine(1, 0, 500_000 + seed * 1000, 0, -1, 4_000_000)
    for path, pixels in zip(paths, (image, label[None]), strict=True):
        options: dict[str, Any] = {}
        if named and path is paths[0]:
            options["band_specs"] = tuple(BandSpec(name=band) for band in BANDS)
        with StripWriter(
            path,
            size=Size(side, side),
            bands=pixels.shape[0],
            dtype="uint8",
            transform=transform,
            crs="EPSG:32632",
            **options,
        ) as writer:
            writer.write(0, pixels)
    return paths


def make_dataset(
    folder: Path,
    splits: dict[str, int],
    *,
    side: int = 64,
    ignored_rows: int = 3,
    unlabelled: tuple[str, ...] = (),
    named: bool = True,
    **spec: Any,
) -> Dataset:
    """Write scenes and their description."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for split, count in splits.items():
        for number in range(count):
            name = f"{split}{number}"
            image, label = write_scene(
                folder, name, seed=len(scenes), side=side, ignored_rows=ignored_rows, named=named
            )
            labels = {} if split in unlabelled else {"label": label}
            scenes.append(
                SceneRecord(id=name, split=split, files={"image": (image,)}, labels=labels)
            )
    described: dict[str, Any] = {
        "name": "tiny",
        "classes": tuple(ClassEntry(id=i, name=name) for i, name in enumerate(CLASSES)),
        "ignore_id": 255,
        "gsd_m": 1.0,
        "sources": (SourceSpec(bands=tuple(BandSpec(name=band) for band in BANDS)),),
        "statistics": Statistics(
            mean=(90.0, 90.0), std=(20.0, 70.0), class_counts=(3000, 1000), bands=BANDS
        ),
        **spec,
    }
    return load_dataset(write_dataset(DatasetSpec(**described), scenes, folder))


def tiny_segmenter(encoder: str = "test_resnet", *, auxiliary: bool = False) -> Segmenter:
    torch.manual_seed(0)
    architecture = Architecture(encoder=encoder, decoder="fcn", auxiliary=auxiliary)
    spec = ModelSpec(
        architecture=architecture,
        sources=(SourceSpec(bands=(BandSpec(name="red"), BandSpec(name="nir"))),),
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        classes=tuple(ClassSpec(id=i, name=str(i), color=(i, 0, 0)) for i in range(2)),
    )
    return build_segmenter(spec)
