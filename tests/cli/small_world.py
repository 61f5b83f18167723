"""A small world for commands: a dataset, a model, scenes in good and bad health."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from affine import Affine

from wholescene.datasets import (
    ClassEntry,
    DatasetSpec,
    SceneRecord,
    load_dataset,
    store_statistics,
    write_dataset,
)
from wholescene.geometry import Size
from wholescene.models import Architecture, ClassSpec, ModelSpec, build_segmenter, save_model
from wholescene.raster import BandSpec, SourceSpec, StripWriter

BANDS = tuple(BandSpec(name=name) for name in ("blue", "green", "red"))
SIDE = 48


@dataclass(frozen=True)
class World:
    """Where things are."""

    root: Path

    @property
    def dataset(self) -> Path:
        return self.root / "data" / "dataset.yaml"

    @property
    def scene(self) -> Path:
        return self.root / "data" / "train.tif"

    @property
    def label(self) -> Path:
        return self.root / "data" / "train_label.tif"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def config(self) -> Path:
        return self.root / "run.yaml"


def write_raster(
    path: Path, pixels: np.ndarray, *, nodata: float | None = None, east: int = 0
) -> Path:
    """Write (bands, h, w) in EPSG:32633."""
    bands = BANDS if len(pixels) == len(BANDS) else ()
    with StripWriter(
        path,
        size=Size(*pixels.shape[1:]),
        bands=len(pixels),
        dtype=str(pixels.dtype),
        transform=Affine(1, 0, 500_000 + east, 0, -1, 5_000_000),
        crs="EPSG:32633",
        nodata=nodata,
        band_specs=bands,
    ) as writer:
        writer.write(0, pixels)
    return path


def make_world(root: Path) -> World:
    """Two classes told apart by brightness, three splits, a network with random weights."""
    rng = np.random.default_rng(0)
    scenes = []
    for number, split in enumerate(("train", "val", "test")):
        label = (np.indices((SIDE, SIDE)).sum(0) > SIDE).astype(np.uint8)[None]
        image = (60 + 100 * label + rng.integers(0, 20, (3, SIDE, SIDE))).astype(np.uint8)
        east = 1000 * number
        files = (
            write_raster(root / "data" / f"{split}.tif", image, east=east),
            write_raster(root / "data" / f"{split}_label.tif", label, east=east),
        )
        scenes.append(
            SceneRecord(
                id=split, split=split, files={"image": (files[0],)}, labels={"label": files[1]}
            )
        )
    spec = DatasetSpec(
        name="two",
        classes=(ClassEntry(id=0, name="land"), ClassEntry(id=1, name="water")),
        ignore_id=255,
        sources=(SourceSpec(bands=BANDS),),
    )
    store_statistics(load_dataset(write_dataset(spec, scenes, root / "data")))
    torch.manual_seed(0)
    save_model(build_segmenter(model_spec()), root / "model")
    (root / "run.yaml").write_text(
        "name: two\n"
        "data: {dataset: data/dataset.yaml, patch_px: 32, batch_size: 2, num_workers: 0}\n"
        "model: {encoder: test_resnet, decoder: fcn}\n"
        "train: {steps: 2, validate_every: 2, tensorboard: false}\n"
    )
    return World(root)


def model_spec() -> ModelSpec:
    """What the model of the world says of itself."""
    return ModelSpec(
        architecture=Architecture(encoder="test_resnet", decoder="fcn"),
        sources=(SourceSpec(bands=BANDS),),
        mean=(100.0,) * 3,
        std=(50.0,) * 3,
        classes=(
            ClassSpec(id=0, name="land", color=(128, 0, 0)),
            ClassSpec(id=1, name="water", color=(0, 128, 0)),
        ),
        ignore_id=255,
    )


def edit_json(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
