"""Prepare Blue Marble, the whole Earth in one scene, where ocean and lake differ by context only.

The western half trains. Of the eastern half, columns from 2 to 40 degrees validate and those from
42 degrees on test: Caspian, Aral, Balkhash, Baikal. Two degrees lie between them. ``world.tif``
and ``world_label.tif`` are the whole scene, which is mapped in one piece; it belongs to no split.
For quick trials ``prepare`` makes smaller pictures of the same.

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


def prepare(source: Path, out: Path, *, every: int = 1) -> Path:
    """Write the splits and the whole scene.

    Args:
        source: Folder with the picture and its classes.
        out: Folder to write.
        every: Pixels along a side that become one, their mean and the class in their middle; 1, 3
            or 5, which divide all columns.

    Returns:
        Path of ``dataset.yaml``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeoreferenceWarning)  # pictures: no coordinates
        image, label = read(source / IMAGE, 3), read(source / LABEL, 1)
    image, label = means(image, every), label[:, every // 2 :: every, every // 2 :: every]
    scenes = []
    for name, cols in {**COLUMNS, "world": range(SIZE.width)}.items():
        cols = range(cols.start // every, cols.stop // every)
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


def means(image: NDArray[np.uint8], every: int) -> NDArray[np.uint8]:
    """Means of squares of pixels, rounded."""
    if every == 1:
        return image
    bands, height, width = image.shape
    squares = image.reshape(bands, height // every, every, width // every, every)
    found: NDArray[np.uint8] = squares.mean((2, 4)).round().astype(np.uint8)
    return found


def write(
    path: Path, pixels: NDArray[np.uint8], cols: range, *, band_specs: tuple[BandSpec, ...] = ()
) -> None:
    """Write some columns of the scene."""
    degrees = 180 / pixels.shape[1]
    with StripWriter(
        path,
        size=Size(pixels.shape[1], len(cols)),
        bands=len(pixels),
        dtype="uint8",
        transform=Affine(degrees, 0, cols.start * degrees - 180, 0, -degrees, 90),
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
