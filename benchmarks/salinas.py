"""Prepare Salinas A, a hyperspectral scene of 204 bands and class ids 1 and 10 to 14.

The scene is cut into strips of columns, two pixels apart, so that no pixel of val or test has a
neighbour in train. The strips are chosen so that each split shows every class. Fields reach
across strips, so scores say that the path works, not how a model would do elsewhere.

    python benchmarks/salinas.py --source $WHOLESCENE_DATA/salinas-a --out data/salinas
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy.io import loadmat

from wholescene.datasets import (
    ClassEntry,
    DatasetSpec,
    SceneRecord,
    load_dataset,
    store_statistics,
    write_dataset,
)
from wholescene.errors import DatasetError
from wholescene.geometry import Size
from wholescene.raster import BandSpec, SourceSpec, StripWriter

NUM_BANDS = 204
BANDS = tuple(BandSpec(name=f"band_{i}") for i in range(1, NUM_BANDS + 1))
COLUMNS = {
    "train_west": ("train", range(0, 16)),
    "val": ("val", range(18, 24)),
    "test": ("test", range(26, 42)),
    "train_east": ("train", range(44, 86)),
}

SPEC = DatasetSpec(
    name="salinas-a",
    classes=(
        ClassEntry(id=1, name="broccoli weeds 1", color=(30, 120, 60)),
        ClassEntry(id=10, name="corn senesced weeds", color=(230, 190, 60)),
        ClassEntry(id=11, name="lettuce 4 weeks", color=(170, 220, 120)),
        ClassEntry(id=12, name="lettuce 5 weeks", color=(110, 190, 90)),
        ClassEntry(id=13, name="lettuce 6 weeks", color=(60, 150, 160)),
        ClassEntry(id=14, name="lettuce 7 weeks", color=(40, 90, 170)),
    ),
    ignore_id=0,
    gsd_m=3.7,
    sources=(SourceSpec(bands=BANDS),),
    description="AVIRIS, water absorption bands removed; strips of columns two pixels apart.",
)


def prepare(source: Path, out: Path) -> Path:
    """Write scenes, labels and ``dataset.yaml`` with statistics; returns its path."""
    cube = _load(source / "SalinasA_corrected.mat", "salinasA_corrected").astype(np.int16)
    labels = _load(source / "SalinasA_gt.mat", "salinasA_gt").astype(np.uint8)
    scenes = []
    for name, (split, cols) in COLUMNS.items():
        place = slice(cols.start, cols.stop)
        image, label = out / f"{name}.tif", out / f"{name}_label.tif"
        _write(image, cube[:, place].transpose(2, 0, 1), band_specs=BANDS)
        _write(label, labels[None, :, place], nodata=0)
        scenes.append(
            SceneRecord(id=name, split=split, files={"image": (image,)}, labels={"label": label})
        )
    path = write_dataset(SPEC, scenes, out)
    store_statistics(load_dataset(path))
    return path


def _load(path: Path, key: str) -> NDArray[np.integer]:
    try:
        return loadmat(path)[key]
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(f"cannot read {key!r} from {path}: {error}") from None


def _write(
    path: Path,
    pixels: NDArray[np.integer],
    *,
    nodata: int | None = None,
    band_specs: tuple[BandSpec, ...] = (),
) -> None:
    bands, height, width = pixels.shape
    with StripWriter(
        path,
        size=Size(height, width),
        bands=bands,
        dtype=pixels.dtype.name,
        transform=Affine.identity(),
        crs=None,
        nodata=nodata,
        band_specs=band_specs,
    ) as writer:
        writer.write(0, pixels)


if __name__ == "__main__":
    from preparation import run

    sys.exit(
        run(
            prepare,
            description=__doc__.splitlines()[0],
            folder="salinas-a",
            contents="with the two .mat files",
        )
    )
