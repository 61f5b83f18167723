"""Prepare the Kampala buildings for a fair test: whole scenes and splits that share no ground.

The published split leaks: its zoom 19 and 20 tiles show the ground of the zoom 21 tiles, and
its validation tiles lie inside the training mosaic. Here the zoom 21 tiles alone are joined into
the two mosaics they form. The large one is cut into three strips of columns, one tile apart
(train, val, test); the small one, 400 m away, is a second test.

    python benchmarks/kampala.py --source $WHOLESCENE_DATA/kampala-buildings --out data/kampala
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
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
from wholescene.raster import BandSpec, SceneReader, SourceSpec, StripWriter

ZOOM = 21
TILE_PX = 256
EQUATOR_M = 2 * math.pi * 6_378_137.0  # of the web mercator sphere
TILE_M = EQUATOR_M / 2**ZOOM
IGNORE = 255
BANDS = tuple(BandSpec(name=name) for name in ("red", "green", "blue"))

SPEC = DatasetSpec(
    name="kampala-buildings",
    classes=(
        ClassEntry(id=0, name="background", color=(200, 200, 190)),
        ClassEntry(id=1, name="building", color=(200, 60, 40)),
    ),
    ignore_id=IGNORE,
    gsd_m=TILE_M / TILE_PX,
    sources=(SourceSpec(bands=BANDS),),
    licence="imagery CC BY 4.0 (OpenAerialMap), labels ODbL",
    description=(
        "Zoom 21 tiles of the published set as whole scenes. The large mosaic is cut into column "
        "strips with one tile between them (train, val, test); test2 is the small mosaic."
    ),
)

Tiles = Mapping[tuple[int, int], tuple[Path, Path]]
"""Image and label of each tile, by column and row of the web map."""


@dataclass(frozen=True)
class Strip:
    """Tiles of one scene: columns and rows of the web map, stops excluded."""

    split: str
    cols: range
    rows: range

    @property
    def size(self) -> Size:
        return Size(len(self.rows) * TILE_PX, len(self.cols) * TILE_PX)

    @property
    def transform(self) -> Affine:
        left = self.cols.start * TILE_M - EQUATOR_M / 2
        top = EQUATOR_M / 2 - self.rows.start * TILE_M
        pixel_m = TILE_M / TILE_PX
        return Affine(pixel_m, 0, left, 0, -pixel_m, top)


LARGE_ROWS = range(1046528, 1046536)
STRIPS = (
    Strip("train", range(1238448, 1238454), LARGE_ROWS),
    Strip("val", range(1238455, 1238457), LARGE_ROWS),
    Strip("test", range(1238458, 1238460), LARGE_ROWS),
    Strip("test2", range(1238424, 1238428), range(1046544, 1046548)),
)


def prepare(source: Path, out: Path) -> Path:
    """Write scenes, labels and ``dataset.yaml`` with statistics; returns its path."""
    tiles = find_tiles(source)
    scenes = []
    for strip in STRIPS:
        image, label = out / f"{strip.split}.tif", out / f"{strip.split}_label.tif"
        write_strip(strip, tiles, image, label)
        scenes.append(
            SceneRecord(
                id=strip.split,
                split=strip.split,
                files={"image": (image,)},
                labels={"label": label},
            )
        )
    path = write_dataset(SPEC, scenes, out)
    store_statistics(load_dataset(path))
    return path


def find_tiles(source: Path) -> Tiles:
    """Find the zoom 21 tiles of both published folders."""
    folder = source / "TRAIN" / "HOTOSM" / "2"
    tiles = {}
    for prefix in ("", "val-"):
        for image in sorted((folder / f"{prefix}chips").glob(f"OAM-*-{ZOOM}.tif")):
            numbers = re.fullmatch(r"OAM-(\d+)-(\d+)-\d+", image.stem)
            label = folder / f"{prefix}binarymasks" / f"{image.stem}.mask.tif"
            if numbers is not None:
                tiles[int(numbers[1]), int(numbers[2])] = (image, label)
    if not tiles:
        raise DatasetError(
            f"no zoom {ZOOM} tile in {folder}/chips and val-chips; give the folder that holds TRAIN"
        )
    return tiles


def write_strip(strip: Strip, tiles: Tiles, image: Path, label: Path) -> None:
    """Join the tiles of a strip; where one is missing, image and label have no data."""
    grid = {"size": strip.size, "transform": strip.transform, "crs": "EPSG:3857"}
    is_whole = all((col, row) in tiles for col in strip.cols for row in strip.rows)
    nodata = None if is_whole else 0  # the deepest shadows are black too, and have data
    with (
        StripWriter(
            image, bands=3, dtype="uint8", nodata=nodata, band_specs=BANDS, **grid
        ) as pixels,
        StripWriter(label, bands=1, dtype="uint8", nodata=IGNORE, **grid) as ids,
    ):
        for i, row in enumerate(strip.rows):
            colors, classes = read_row(tiles, strip.cols, row)
            pixels.write(i * TILE_PX, colors)
            ids.write(i * TILE_PX, classes[None])


def read_row(tiles: Tiles, cols: range, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read one row of tiles: colours (3, 256, width) and class ids (256, width)."""
    image = np.zeros((3, TILE_PX, len(cols) * TILE_PX), np.uint8)
    label = np.full(image.shape[1:], IGNORE, np.uint8)
    for i, col in enumerate(cols):
        if (col, row) in tiles:
            place = slice(i * TILE_PX, (i + 1) * TILE_PX)
            image_path, label_path = tiles[col, row]
            image[:, :, place] = read_tile(image_path, col, row)
            label[:, place] = read_tile(label_path, col, row)[0]
    return image, label


def read_tile(path: Path, col: int, row: int) -> NDArray[np.uint8]:
    """Read a tile and check that it lies where its name says."""
    with SceneReader(path) as reader:
        x = (reader.transform.c + 180) / 360 * 2**ZOOM
        y = (1 - math.asinh(math.tan(math.radians(reader.transform.f))) / math.pi) / 2 * 2**ZOOM
        if reader.size != (TILE_PX, TILE_PX) or max(abs(x - col), abs(y - row)) > 0.5 / TILE_PX:
            raise DatasetError(
                f"{path}: {reader.size} at tile {x:.3f}, {y:.3f} of zoom {ZOOM}, where its name "
                f"says {col}, {row}"
            )
        return reader.read(Window.whole(reader.size)).values.astype(np.uint8)


if __name__ == "__main__":
    from preparation import run

    sys.exit(
        run(
            prepare,
            description=__doc__.splitlines()[0],
            folder="kampala-buildings",
            contents="that holds TRAIN",
        )
    )
