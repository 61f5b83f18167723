"""From probabilities to the rasters a prediction writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wholescene.errors import InputError, OutputError
from wholescene.geometry import Size
from wholescene.labels import IGNORE_INDEX, ClassTable
from wholescene.prediction.options import Options
from wholescene.raster import RowStore, SceneReader, write_band_cog, write_label_cog

__all__ = ["Outputs", "refuse_overwriting"]

CLASSES, PROBABILITIES, UNCERTAINTY = "classes", "probabilities", "uncertainty"
SHARE_NODATA = 255
SHARE_SCALE = 1 / 254
"""Shares from 0 to 1 are stored as 0..254; 255 is no data."""


@dataclass(frozen=True)
class Outputs:
    """The files of one map.

    Args:
        path: The label map, ``.tif``.
        classes: Classes of the model.
        options: Which rasters are wanted.
    """

    path: Path
    classes: ClassTable
    options: Options

    def __post_init__(self) -> None:
        if self.path.suffix.lower() not in (".tif", ".tiff"):
            raise InputError(
                f"out {self.path} does not end in .tif: maps are GeoTIFFs; give a file for one "
                "scene or a folder for several"
            )
        if self.path.is_dir():
            raise OutputError(f"{self.path} is a folder; give --out a file name")

    @property
    def folder(self) -> Path:
        """Where the unfinished map lives."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def products(self) -> dict[str, tuple[int, str]]:
        """Bands and type of each raster."""
        found = {CLASSES: (1, self.classes.map_dtype)}
        if self.options.probabilities:
            found[PROBABILITIES] = (self.classes.num_classes, self._probability_dtype)
        if self.options.uncertainty:
            found[UNCERTAINTY] = (1, "uint8")
        return found

    @property
    def files(self) -> tuple[Path, ...]:
        """Final names of all rasters."""
        return tuple(self.file(product) for product in self.products)

    def file(self, product: str) -> Path:
        """Final name of a raster."""
        if product == CLASSES:
            return self.path
        return self.path.with_name(f"{self.path.stem}_{product}.tif")

    @property
    def held_bytes(self) -> int:
        """Disk that an unfinished map already takes."""
        files = self.folder.rglob("*.raw") if self.folder.is_dir() else ()
        # Files are sparse until their rows are written: blocks count, not lengths.
        return sum(getattr(file.stat(), "st_blocks", 0) * 512 for file in files)

    def raw_bytes(self, size: Size) -> int:
        """Bytes of all rasters, uncompressed."""
        return sum(b * np.dtype(dtype).itemsize for b, dtype in self.products.values()) * size.area

    def disk_bytes(self, size: Size) -> int:
        """Most that unfinished and finished rasters can take together."""
        raw = self.raw_bytes(size)
        # Raw rows, the compressed copy with its overviews, and what GDAL needs to make them.
        return int(raw * (1 + 4 / 3 + 1 / 3)) + (1 << 20)

    def file_bytes(self, size: Size) -> int:
        """Most that a single file can take."""
        rows = [b * np.dtype(dtype).itemsize for b, dtype in self.products.values()]
        return max(rows) * size.area * 4 // 3 + (1 << 20)

    def put(
        self, store: RowStore, row_off: int, probabilities: Tensor, valid: NDArray[np.bool_]
    ) -> None:
        """Store finished rows: (K, rows, width) and which of their pixels have data."""
        # As argmax(0), which takes many times as long across planes.
        index = probabilities.max(0).indices.numpy().astype(np.int16)
        index[~valid] = IGNORE_INDEX
        store.write_rows(CLASSES, row_off, self.classes.to_ids(index)[None])
        if self.options.probabilities:
            store.write_rows(PROBABILITIES, row_off, self._shares(probabilities, valid))
        if self.options.uncertainty:
            entropy = _normalised_entropy(probabilities)
            store.write_rows(UNCERTAINTY, row_off, _as_bytes(entropy[None], valid))

    def publish(self, store: RowStore, reader: SceneReader, tags: dict[str, str]) -> None:
        """Turn the rows into the final files; the label map last."""
        for product, (_, dtype) in self.products.items():
            if product == CLASSES:
                continue
            names = list(self.classes.names) if product == PROBABILITIES else ["uncertainty"]
            as_bytes = dtype == "uint8"
            write_band_cog(
                store.path(product),
                self.file(product),
                size=reader.size,
                bands=names,
                dtype=dtype,
                transform=reader.transform,
                crs=reader.crs,
                nodata=SHARE_NODATA if as_bytes else float("nan"),
                scale=SHARE_SCALE if as_bytes else None,
                tags=tags,
            )
        write_label_cog(
            store.path(CLASSES),
            self.path,
            size=reader.size,
            transform=reader.transform,
            crs=reader.crs,
            classes=self.classes,
            tags=tags,
        )

    @property
    def _probability_dtype(self) -> str:
        return "float32" if self.options.probabilities == "float32" else "uint8"

    def _shares(self, probabilities: Tensor, valid: NDArray[np.bool_]) -> NDArray[np.generic]:
        if self._probability_dtype == "uint8":
            return _as_bytes(probabilities, valid)
        values = probabilities.numpy().copy()
        values[:, ~valid] = np.nan
        return values


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Make sure that no output is an input.

    Raises:
        InputError: Naming the file.
    """
    inputs = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in inputs:
            raise InputError(
                f"{path} is a scene that is read, and would be overwritten; choose another name or "
                "folder with --out"
            )


def _as_bytes(shares: Tensor, valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Code 0..1 as 0..254."""
    coded = (shares * (1 / SHARE_SCALE)).round_().clamp_(0, 254).to(torch.uint8).numpy()
    coded[:, ~valid] = SHARE_NODATA
    return coded


def _normalised_entropy(probabilities: Tensor) -> Tensor:
    """Entropy over its largest value, log K; 0 for a single class."""
    num_classes = len(probabilities)
    if num_classes == 1:
        return torch.zeros_like(probabilities[0])
    entropy: Tensor = torch.special.entr(probabilities).sum(0)
    return entropy / float(np.log(num_classes))
