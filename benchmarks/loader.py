"""Patches per second of wholescene and torchgeo on the same files, in one process.

Both give batches of image and label patches from random places, with the same number of workers:
torchgeo by its documented way (``RasterDataset`` of images & of masks, ``RandomGeoSampler``,
``DataLoader``), wholescene by ``SceneDataModule``, which also finds invalid pixels and normalises.
Repeats alternate; the ratio is that of the medians. GDAL's block cache is equal in every process
and large enough for all scenes, and it is warm. ``small-cache`` repeats a case with one far too
small, so that nearly every patch is decoded again, which costs both the same.

    python benchmarks/loader.py            # needs torchgeo, see the 'bench' extra
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.env import set_gdal_config
from results import write_result
from torch.utils.data import DataLoader
from torchgeo.datasets import IntersectionDataset, RasterDataset, stack_samples
from torchgeo.samplers import RandomGeoSampler

from wholescene.cli.console import guard
from wholescene.data import DataSettings, SceneDataModule
from wholescene.datasets import (
    ClassEntry,
    Dataset,
    DatasetSpec,
    SceneRecord,
    load_dataset,
    write_dataset,
)

PATCH_PX = 256
BATCH_SIZE = 8
NUM_CLASSES = 6
WARM_UP = 2


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    bands: int
    dtype: str
    workers: int
    scene_px: int
    num_scenes: int
    patches: int
    repeats: int
    cache_mb: int = 2048
    """Decoded blocks kept in each process that reads."""


def write_scenes(folder: Path, case: Case) -> Dataset:
    """Write scenes that pack about as well as real ones: smooth fields with grain."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    records = []
    for number in range(case.num_scenes):
        generator = np.random.default_rng(number)
        coarse = generator.integers(0, NUM_CLASSES, (case.scene_px // 32,) * 2)
        label = coarse.repeat(32, 0).repeat(32, 1).astype(np.uint8)
        top = np.iinfo(case.dtype).max
        bright = (label * 0.1 + 0.2)[None] + np.linspace(0, 0.2, case.bands)[:, None, None]
        image = bright * top + generator.normal(0, 0.01 * top, (case.bands, *label.shape))
        files = folder / "images" / f"{number}.tif", folder / "labels" / f"{number}.tif"
        for file, pixels in zip(files, (image.astype(case.dtype), label[None]), strict=True):
            write_tif(file, pixels, number)
        records.append(
            SceneRecord(
                id=str(number),
                split="train",
                files={"image": (files[0],)},
                labels={"label": files[1]},
            )
        )
    classes = tuple(ClassEntry(id=i, name=f"class {i}") for i in range(NUM_CLASSES))
    return load_dataset(write_dataset(DatasetSpec(name="bench", classes=classes), records, folder))


def write_tif(path: Path, pixels: np.ndarray, number: int) -> None:
    """Write a tiled, deflated GeoTIFF; scenes lie side by side."""
    bands, height, width = pixels.shape
    west = 400_000 + number * width * 0.5
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=bands,
        height=height,
        width=width,
        dtype=pixels.dtype,
        crs="EPSG:32636",
        transform=Affine(0.5, 0, west, 0, -0.5, 5_000_000),
        tiled=True,
        compress="deflate",
    ) as out:
        out.write(pixels)


def torchgeo_loader(folder: Path, case: Case) -> DataLoader[Any]:
    """Join images and masks the documented way."""

    class Masks(RasterDataset):
        is_image = False

    images, masks = RasterDataset(folder / "images"), Masks(folder / "labels")
    dataset = IntersectionDataset(images, masks)
    return DataLoader(
        dataset,
        batch_size=BATCH_SIZE,
        sampler=RandomGeoSampler(dataset, size=PATCH_PX, length=case.patches),
        num_workers=case.workers,
        collate_fn=stack_samples,
        persistent_workers=case.workers > 0,
    )


def wholescene_loader(dataset: Dataset, case: Case, *, augment: bool) -> DataLoader[Any]:
    """Make the loader of a training run."""
    settings = DataSettings(
        dataset=dataset.path,
        val_split=None,
        patch_px=PATCH_PX,
        batch_size=BATCH_SIZE,
        num_workers=case.workers,
        patches_per_epoch=case.patches,
        flips=augment,
        turns=augment,
        cache_mb=case.cache_mb * max(1, case.workers),
        **({"gain": 0.1, "brightness": 0.1, "contrast": 0.1} if augment else {}),
    )
    top = np.iinfo(case.dtype).max
    mean, std = [top / 2] * case.bands, [top / 4] * case.bands
    return SceneDataModule(settings, dataset, mean=mean, std=std).train_dataloader()


def take(loader: DataLoader[Any], label: str) -> int:
    """Take one epoch; gives the number of patches."""
    count = 0
    for batch in loader:
        assert batch["image"].shape[-2:] == (PATCH_PX, PATCH_PX)
        assert batch[label].shape[-2:] == (PATCH_PX, PATCH_PX)
        count += len(batch["image"])
    return count


def alternate(
    loaders: dict[str, tuple[DataLoader[Any], str]], repeats: int
) -> dict[str, list[float]]:
    """Seconds of each epoch; the loaders take turns, after epochs that only warm the caches."""
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    for repeat in range(-WARM_UP, repeats):
        for name, (loader, label) in loaders.items():
            start = time.perf_counter()
            take(loader, label)
            if repeat >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def measure(case: Case) -> dict[str, Any]:
    """Compare on one set of scenes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = write_scenes(folder / "data", case)
        loaders = {
            "torchgeo": (torchgeo_loader(folder / "data", case), "mask"),
            "wholescene": (wholescene_loader(dataset, case, augment=False), "label"),
            "wholescene_augmented": (wholescene_loader(dataset, case, augment=True), "label"),
        }
        # Workers start with the first epoch and inherit this.
        set_gdal_config("GDAL_CACHEMAX", case.cache_mb << 20)
        seconds = alternate(loaders, case.repeats)
    rates = {name: case.patches / statistics.median(taken) for name, taken in seconds.items()}
    return {
        "case": asdict(case),
        "seconds": {name: [round(s, 4) for s in taken] for name, taken in seconds.items()},
        "patches_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "ratio": round(rates["wholescene"] / rates["torchgeo"], 2),
        "ratio_augmented": round(rates["wholescene_augmented"] / rates["torchgeo"], 2),
    }


def cases(*, scene_px: int, num_scenes: int, patches: int, repeats: int) -> Iterator[Case]:
    """Give every combination that is measured."""
    size = {"scene_px": scene_px, "num_scenes": num_scenes, "patches": patches, "repeats": repeats}
    for bands, dtype in ((3, "uint8"), (4, "uint16")):
        for workers in (0, 2):
            yield Case(f"{dtype}-{bands}-bands", bands, dtype, workers, **size)
    yield Case("uint8-3-bands-small-cache", 3, "uint8", 2, **size, cache_mb=32)


@guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene-px", type=int, default=4096)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--patches", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    args = parser.parse_args()
    start = time.perf_counter()
    measured = []
    for case in cases(
        scene_px=args.scene_px,
        num_scenes=args.scenes,
        patches=args.patches,
        repeats=args.repeats,
    ):
        found = measure(case)
        measured.append(found)
        rates = found["patches_per_second"]
        print(case.name, "workers", case.workers, rates, found["ratio"], flush=True)
    if not args.dry:
        data = {"patch_px": PATCH_PX, "batch_size": BATCH_SIZE, "cases": measured}
        print(write_result("loader", data, seconds=time.perf_counter() - start))


if __name__ == "__main__":
    main()
