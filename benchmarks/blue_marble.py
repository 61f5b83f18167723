"""Prepare Blue Marble, the whole Earth in one scene, where ocean and lake differ by context only.

The western half trains. Of the eastern half, columns from 2 to 40 degrees validate and those from
42 degrees on test: Caspian, Aral, Balkhash, Baikal. Two degrees lie between them. ``world.tif``
and ``world_label.tif`` are the whole scene, which is mapped in one piece; it belongs to no split.

    python benchmarks/blue_marble.py --source $WHOLESCENE_DATA/blue-marble --out data/blue-marble
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from wholescene.datasets import (
    ClassEntry,
    DatasetSpec,
    SceneRecord,
    load_dataset,
    store_statistics,
    write_dataset,
)
from wholescene.errors import DatasetError
from wholescene.geometry import Size, Window
from wholescene.raster import BandSpec, GeoreferenceWarning, SceneReader, SourceSpec, StripWriter

SIZE = Size(2700, 5400)
DEGREES_PER_PX = 360 / SIZE.width
BANDS = tuple(BandSpec(name=name) for name in ("red", "green", "blue"))
COLUMNS = {"train": range(0, 2700), "val": range(2730, 3300), "test": range(3330, 5400)}
IMAGE, LABEL = "bmng.jpg", "landsea_0ocean_1land_2lake.png"

SPEC = DatasetSpec(
    name="blue-marble",
    classes=(
        ClassEntry(id=0, name="ocean", color=(20, 50, 110)),
        ClassEntry(id=1, name="land", color=(150, 160, 90)),
        ClassEntry(id=2, name="lake", color=(90, 190, 230)),
    ),
    sources=(SourceSpec(bands=BANDS),),
    licence="image: NASA, public domain; labels derived from GSHHG, LGPL",
    description="Western half train; eastern half val and test, two degrees apart.",
)


def prepare(source: Path, out: Path) -> Path:
    """Write the splits and the whole scene; returns the path of ``dataset.yaml``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeoreferenceWarning)  # pictures: no coordinates
        image, label = read(source / IMAGE, 3), read(source / LABEL, 1)
    scenes = []
    for name, cols in {**COLUMNS, "world": range(SIZE.width)}.items():
        files = out / f"{name}.tif", out / f"{name}_label.tif"
        write(files[0], image, cols, band_specs=BANDS)
        write(files[1], label, cols)
        if name in COLUMNS:
            scenes.append(
                SceneRecord(
                    id=name, split=name, files={"image": (files[0],)}, labels={"label": files[1]}
                )
            )
    path = write_dataset(SPEC, scenes, out)
    store_statistics(load_dataset(path))
    return path


def read(path: Path, bands: int) -> NDArray[np.uint8]:
    """Read a picture that must have the scene's size."""
    with SceneReader(path) as reader:
        if (reader.num_bands, reader.size) != (bands, SIZE):
            raise DatasetError(
                f"{path} has {reader.num_bands} bands of {reader.size}; {bands} of {SIZE} expected"
            )
        return reader.read(Window.whole(SIZE)).values.astype(np.uint8)


def write(
    path: Path, pixels: NDArray[np.uint8], cols: range, *, band_specs: tuple[BandSpec, ...] = ()
) -> None:
    """Write some columns of the scene."""
    west = cols.start * DEGREES_PER_PX - 180
    with StripWriter(
        path,
        size=Size(SIZE.height, len(cols)),
        bands=len(pixels),
        dtype="uint8",
        transform=Affine(DEGREES_PER_PX, 0, west, 0, -DEGREES_PER_PX, 90),
        crs="EPSG:4326",
        band_specs=band_specs,
    ) as writer:
        writer.write(0, pixels[:, :, cols.start : cols.stop])


if __name__ == "__main__":
    from preparation import run

    sys.exit(
        run(
            prepare,
            description=__doc__.splitlines()[0],
            folder="blue-marble",
            contents=f"with {IMAGE} and {LABEL}",
        )
    )
