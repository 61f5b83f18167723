"""Small public-looking datasets and networks for the commands that join rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray

from wholescene.datasets import (
    ClassEntry,
    Dataset,
    DatasetSpec,
    SceneRecord,
    TargetSpec,
    load_dataset,
    write_dataset,
)
from wholescene.geometry import Size
from wholescene.models import Architecture, ClassSpec, ModelSpec, Segmenter, build_segmenter
from wholescene.raster import BandSpec, SourceSpec, StripWriter

RGB = tuple(BandSpec(name=name) for name in ("red", "green", "blue"))
MEAN, STD = 120.0, 60.0

Pixels = NDArray[np.uint8]


def write(path: Path, pixels: Pixels) -> Path:
    """Write (bands, h, w), without a place on Earth."""
    with StripWriter(
        path,
        size=Size(*pixels.shape[1:]),
        bands=len(pixels),
        dtype="uint8",
        transform=Affine.identity(),
        crs=None,
        band_specs=RGB if len(pixels) == 3 else (),
    ) as writer:
        writer.write(0, pixels)
    return path


def make_scene(size: tuple[int, int], ids: Sequence[int], seed: int) -> tuple[Pixels, Pixels]:
    """Image (3, h, w) and label (h, w) of random 5 px squares."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(ids, (-(-size[0] // 5), -(-size[1] // 5))).astype(np.uint8)
    label = coarse.repeat(5, 0).repeat(5, 1)[: size[0], : size[1]]
    return rng.integers(0, 256, (3, *size)).astype(np.uint8), label


def make_dataset(
    root: Path,
    *,
    name: str,
    classes: Mapping[int, str],
    scenes: Mapping[str, tuple[str, tuple[int, int]]],
    targets: Sequence[str] = ("label",),
    ignore_id: int | None = 255,
    split_way: str | None = "official",
    unlabelled: Sequence[str] = (),
    image: str = "{id}.tif",
) -> Dataset:
    """Scenes by id, each with its split and size; every target has labels of its own."""
    records = []
    for number, (scene, (split, size)) in enumerate(scenes.items()):
        ids = [*classes, *(() if ignore_id is None else (ignore_id,))]
        pixels, _ = make_scene(size, ids, number)
        labels = {
            target: write(
                root / "labels" / target / f"{scene}.tif",
                make_scene(size, ids, 100 * place + number)[1][None],
            )
            for place, target in enumerate(targets, 1)
            if scene not in unlabelled
        }
        path = write(root / image.format(id=scene), pixels)
        records.append(SceneRecord(id=scene, split=split, files={"image": (path,)}, labels=labels))
    spec = DatasetSpec(
        name=name,
        classes=tuple(ClassEntry(id=i, name=text) for i, text in classes.items()),
        ignore_id=ignore_id,
        sources=(SourceSpec(bands=RGB),),
        targets=tuple(TargetSpec(name=target) for target in targets),
        split_way=split_way,
    )
    return load_dataset(write_dataset(spec, records, root))


def make_model(dataset: Dataset) -> Segmenter:
    """A small network with random weights for the classes of a dataset."""
    torch.manual_seed(0)
    table = dataset.classes
    return build_segmenter(
        ModelSpec(
            architecture=Architecture(encoder="test_resnet", decoder="fcn"),
            sources=(SourceSpec(bands=RGB),),
            mean=(MEAN,) * 3,
            std=(STD,) * 3,
            classes=tuple(ClassSpec(id=c.id, name=c.name, color=c.color) for c in table.classes),
            ignore_id=table.ignore_id,
        )
    ).eval()
