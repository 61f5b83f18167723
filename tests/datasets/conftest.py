"""Small rasters and datasets, written without the package's own writers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from wholescene.datasets import (
    ClassEntry,
    Dataset,
    DatasetSpec,
    SceneRecord,
    load_dataset,
    write_dataset,
)

ORIGIN = (500_000.0, 100_000.0)
SPEC = DatasetSpec(
    name="toy",
    classes=(ClassEntry(id=1, name="land"), ClassEntry(id=10, name="water")),
    ignore_id=0,
)


class Maker:
    """Writes rasters and datasets below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def raster(
        self,
        name: str,
        pixels: np.ndarray,
        *,
        col: float = 0,
        row: float = 0,
        pixel_m: float = 10.0,
        crs: str | None = "EPSG:32636",
        nodata: float | None = None,
        transform: Affine | None = None,
        band_names: Sequence[str] = (),
    ) -> Path:
        """Write (C, h, w) or (h, w) pixels ``col`` and ``row`` 10-m steps from a fixed corner."""
        pixels = pixels[None] if pixels.ndim == 2 else pixels
        if transform is None:
            x, y = ORIGIN[0] + 10 * col, ORIGIN[1] - 10 * row
            transform = Affine(pixel_m, 0, x, 0, -pixel_m, y)
        placed = {"crs": crs, "transform": transform} if crs else {}
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        count, height, width = pixels.shape
        profile = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
        with (
            warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
            rasterio.open(path, "w", driver="GTiff", nodata=nodata, **profile, **placed) as out,
        ):
            out.write(pixels)
            for i, band_name in enumerate(band_names, start=1):
                out.set_band_description(i, band_name)
        return path

    def scene(
        self,
        name: str,
        split: str,
        *,
        image: np.ndarray | None = None,
        label: np.ndarray | None = None,
        group: str | None = None,
        **place: float,
    ) -> SceneRecord:
        """Write a scene and its label on one grid; by default 8 x 8 px, both classes."""
        if image is None:
            seed = sum(name.encode())
            image = np.random.default_rng(seed).integers(1, 200, (2, 8, 8), np.uint8)
        if label is None:
            label = np.full(image.shape[-2:], 1, np.uint8)
            label[0, 0] = 10
        return SceneRecord(
            id=name,
            split=split,
            group=group,
            files={"image": (self.raster(f"{name}.tif", image, **place),)},
            labels={"label": self.raster(f"{name}_label.tif", label, **place)},
        )

    def dataset(self, *scenes: SceneRecord, spec: DatasetSpec = SPEC) -> Dataset:
        """Write the description and read it back."""
        return load_dataset(write_dataset(spec, scenes, self.root))


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


@pytest.fixture
def scene_table(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset whose scene table is given as text; returns its folder."""

    def write(table: str, description: str = "") -> Path:
        (tmp_path / "dataset.yaml").write_text(
            description or "name: toy\nclasses:\n  - {id: 1, name: land}\n", encoding="utf-8"
        )
        (tmp_path / "scenes.csv").write_text(table, encoding="utf-8")
        return tmp_path

    return write
