r"""Prepare the 60 m bands of a Sentinel-2 L2A product, of which 40 % lie outside the swath.

Strips of rows train, validate and test, 20 rows (1.2 km) apart. Labels are the product's own scene
classification, an algorithm's map and no truth: scores say that the path works, no more. The whole
scene is mapped from the product's files, one per band:

    python benchmarks/sentinel2_stack.py --out data/sentinel2
    python benchmarks/engines.py configs/sentinel2-stack.yaml --data data/sentinel2 \
        --engines whole streamed windowed \
        --scene "$WHOLESCENE_DATA/sentinel2-l2a/*/GRANULE/*/IMG_DATA/R60m/*_B*.jp2"
"""

from __future__ import annotations

import sys
from pathlib import Path

from affine import Affine

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

BANDS = {
    "B01": 443,
    "B02": 490,
    "B03": 560,
    "B04": 665,
    "B05": 704,
    "B06": 741,
    "B07": 783,
    "B09": 945,
    "B11": 1614,
    "B12": 2202,
    "B8A": 865,
}
"""Centre wavelengths in nanometres, in the order of the files' names."""
BAND_SPECS = tuple(BandSpec(name=name, wavelength_nm=nm) for name, nm in BANDS.items())
NODATA = 0
ROWS = {"train": range(0, 1220), "val": range(1240, 1480), "test": range(1500, 1830)}

SPEC = DatasetSpec(
    name="sentinel2-stack",
    classes=(
        ClassEntry(id=3, name="cloud shadow", color=(100, 80, 60)),
        ClassEntry(id=4, name="vegetation", color=(40, 160, 40)),
        ClassEntry(id=5, name="not vegetated", color=(230, 220, 90)),
        ClassEntry(id=6, name="water", color=(20, 60, 180)),
        ClassEntry(id=7, name="unclassified", color=(130, 130, 130)),
        ClassEntry(id=8, name="cloud medium probability", color=(190, 190, 190)),
        ClassEntry(id=9, name="cloud high probability", color=(250, 250, 250)),
        ClassEntry(id=10, name="thin cirrus", color=(110, 200, 250)),
        ClassEntry(id=11, name="snow or ice", color=(250, 150, 250)),
    ),
    ignore_id=NODATA,
    gsd_m=60,
    sources=(SourceSpec(bands=BAND_SPECS, scale=1e-4, offset=-0.1, nodata=NODATA),),
    licence="contains modified Copernicus Sentinel data (2022), free with credit",
    description="Strips of rows of one product, 20 rows apart; labels: its scene classification.",
)


def prepare(source: Path, out: Path) -> Path:
    """Write the strips; returns the path of ``dataset.yaml``."""
    folder = next(source.glob("*.SAFE/GRANULE/*/IMG_DATA/R60m"), None)
    if folder is None:
        raise DatasetError(f"no R60m folder of a .SAFE product in {source}")
    files = [only(folder, name) for name in BANDS]
    # As stored, so that scale and offset are said once, in dataset.yaml.
    stored = SourceSpec(bands=BAND_SPECS, scale=1, offset=0, nodata=NODATA)
    scenes = []
    with (
        SceneReader(files, [stored]) as image,
        SceneReader(only(folder, "SCL"), [SourceSpec(scale=1, offset=0)]) as label,
    ):
        for name, rows in ROWS.items():
            paths = out / f"{name}.tif", out / f"{name}_label.tif"
            write(paths[0], image, rows, "uint16", band_specs=BAND_SPECS)
            write(paths[1], label, rows, "uint8")
            scenes.append(
                SceneRecord(
                    id=name, split=name, files={"image": (paths[0],)}, labels={"label": paths[1]}
                )
            )
    path = write_dataset(SPEC, scenes, out)
    store_statistics(load_dataset(path))
    return path


def only(folder: Path, name: str) -> Path:
    """The one file of a band."""
    found = sorted(folder.glob(f"*_{name}_60m.jp2"))
    if len(found) != 1:
        raise DatasetError(f"{len(found)} files *_{name}_60m.jp2 in {folder} where one is expected")
    return found[0]


def write(
    path: Path,
    reader: SceneReader,
    rows: range,
    dtype: str,
    *,
    band_specs: tuple[BandSpec, ...] = (),
) -> None:
    """Write some rows of the scene; pixels without data come as 0, which is nodata."""
    window = Window(row_off=rows.start, col_off=0, height=len(rows), width=reader.size.width)
    pixels, grid = reader.read(window), reader.transform
    with StripWriter(
        path,
        size=Size(*window.size),
        bands=len(pixels.values),
        dtype=dtype,
        transform=Affine(grid.a, 0, grid.c, 0, grid.e, grid.f + rows.start * grid.e),
        crs=reader.crs,
        nodata=NODATA,
        band_specs=band_specs,
    ) as writer:
        writer.write(0, pixels.values.astype(dtype))


if __name__ == "__main__":
    from preparation import run

    sys.exit(
        run(
            prepare,
            description=__doc__.splitlines()[0],
            folder="sentinel2-l2a",
            contents="that holds the .SAFE product",
        )
    )
