"""How fast a dataset is prepared, beside bare reads of the same files, in one process.

Scenes laid out and named as those of ISPRS Potsdam (6000 x 6000 px, three uint8 bands, plain
strips; colour masks whole and with eroded boundaries) are prepared with the recipe of that name.
The yardstick reads, with as many threads and once, every file that preparation reads: all masks,
and the images of the training split; a second one reads all files. Repeats take turns and the page
cache is warm, so nothing but the work itself is compared. Megabytes are those of the pixels.

    python benchmarks/prepare.py --work /scratch       # 2 GB there, some minutes
    python benchmarks/prepare.py --side 1000 --dry
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from results import write_result

from wholescene.cli.console import guard
from wholescene.datasets.prepare.run import prepare_dataset
from wholescene.datasets.public.recipe import load_recipe

TRAIN, VAL = ("2_10", "2_11", "2_12", "3_10"), ("2_13", "2_14")
BOUNDARY_PX, COARSE = 3, 4
GOAL = 0.7
Pixels = NDArray[np.uint8]


def smooth(generator: np.random.Generator, side: int, count: int) -> NDArray[np.float32]:
    """Fields (count, side, side) that vary over some dozens of pixels."""
    knots = max(2, side // 48)
    at = np.linspace(0, knots - 1, side)
    low, part = np.minimum(at.astype(int), knots - 2), at % 1
    part[-1] = 1
    field = generator.normal(size=(count, knots, knots))
    for _ in range(2):
        # Linear between knots along the last axis; twice with the axes exchanged.
        field = (field[..., low] * (1 - part) + field[..., low + 1] * part).swapaxes(1, 2)
    return field.astype(np.float32)


def classes(generator: np.random.Generator, side: int) -> Pixels:
    """Regions of six classes, (side, side)."""
    coarse = -(-side // COARSE)
    regions: Pixels = smooth(generator, coarse, 6).argmax(0).astype(np.uint8)
    return regions.repeat(COARSE, 0).repeat(COARSE, 1)[:side, :side]


def near_boundary(regions: Pixels) -> NDArray[np.bool_]:
    """Where another class is close."""
    near = np.zeros(regions.shape, bool)
    for axis in (0, 1):
        for shift in range(1, BOUNDARY_PX + 1):
            one, other = regions.swapaxes(0, axis)[shift:], regions.swapaxes(0, axis)[:-shift]
            found, view = one != other, near.swapaxes(0, axis)
            view[shift:] |= found
            view[:-shift] |= found
    return near


def photograph(generator: np.random.Generator, regions: Pixels) -> Pixels:
    """An image of the regions with shades and grain, (3, side, side)."""
    side = len(regions)
    base = generator.integers(60, 190, (6, 3)).astype(np.int16)
    shade = smooth(generator, -(-side // COARSE), 1)[0].repeat(COARSE, 0).repeat(COARSE, 1)
    shade = (12 * shade[:side, :side]).astype(np.int16)
    grain = generator.normal(0, 8, (side, side)).astype(np.int16)
    bands = [np.clip(base[regions, band] + shade + grain, 0, 255) for band in range(3)]
    return np.stack(bands).astype(np.uint8)


def write_scenes(folder: Path, side: int, compress: str) -> None:
    """Write image and masks of every scene, named as the publisher does."""
    folder.mkdir(parents=True)
    palette = np.array([entry.color for entry in load_recipe("potsdam").classes], np.uint8)
    for seed, name in enumerate((*TRAIN, *VAL)):
        generator = np.random.default_rng(seed)
        regions = classes(generator, side)
        colors = np.ascontiguousarray(palette[regions].transpose(2, 0, 1))
        eroded = np.where(near_boundary(regions), np.uint8(0), colors)
        image = photograph(generator, regions)
        for kind, pixels in (("RGB", image), ("label", colors), ("label_noBoundary", eroded)):
            write_rows(folder / f"top_potsdam_{name}_{kind}.tif", pixels, compress)


def write_rows(path: Path, pixels: Pixels, compress: str) -> None:
    """Write rows after each other."""
    count, height, width = pixels.shape
    shape: dict[str, Any] = {"count": count, "height": height, "width": width, "dtype": "uint8"}
    if compress != "none":
        shape["compress"] = compress
    with rasterio.open(path, "w", driver="GTiff", photometric="RGB", **shape) as out:
        out.write(pixels)


def read_whole(path: Path) -> int:
    """Read all bands of a file; gives the number of bytes."""
    with rasterio.open(path) as file:
        return int(file.read().nbytes)


def read_all(files: Sequence[Path], threads: int) -> None:
    """Read files with as many threads as preparation has."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(read_whole, files):
            pass


def prepare_into(source: Path, out: Path, threads: int) -> None:
    """Prepare into a folder that is not there yet."""
    prepare_dataset(load_recipe("potsdam"), source, out, workers=threads)


def is_prepared_from(path: Path) -> bool:
    """Whether preparation reads the pixels of a file."""
    return "label" in path.name or any(f"_{name}_RGB" in path.name for name in TRAIN)


def take_turns(
    ways: dict[str, Callable[[], None]], repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds on the clock and of the processors; after one round that only warms up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for repeat in range(-1, repeats):
        for name, way in ways.items():
            start = time.perf_counter(), time.process_time()
            way()
            if repeat >= 0:
                taken = time.perf_counter() - start[0], time.process_time() - start[1]
                seconds[name].append(taken)
    return seconds


def measure(work: Path, *, side: int, compress: str, repeats: int, threads: int) -> dict[str, Any]:
    """Compare on one set of scenes."""
    source, out = work / "source", work / "out"
    write_scenes(source, side, compress)
    files = sorted(source.iterdir())
    needed = [path for path in files if is_prepared_from(path)]

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        prepare_into(source, out, threads)

    ways: dict[str, Callable[[], None]] = {
        "read": lambda: read_all(needed, threads),
        "prepare": prepare,
        "read_all_files": lambda: read_all(files, threads),
    }
    taken = take_turns(ways, repeats)
    seconds = {name: [clock for clock, _ in pairs] for name, pairs in taken.items()}
    busy = {name: statistics.median(cpu for _, cpu in pairs) for name, pairs in taken.items()}
    of_one = 3 * side * side / 1e6
    megabytes = dict.fromkeys(ways, len(needed) * of_one) | {"read_all_files": len(files) * of_one}
    rates = {name: megabytes[name] / statistics.median(each) for name, each in seconds.items()}
    return {
        "side": side,
        "compress": compress,
        "scenes": {"train": len(TRAIN), "val": len(VAL)},
        "threads": threads,
        "megabytes": {name: round(size, 1) for name, size in megabytes.items()},
        "seconds": {name: [round(s, 3) for s in each] for name, each in seconds.items()},
        "processor_seconds": {name: round(cpu, 3) for name, cpu in busy.items()},
        "megabytes_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "ratio": round(rates["prepare"] / rates["read"], 3),
        "processor_ratio": round(busy["read"] / busy["prepare"], 3),
        "goal": GOAL,
    }


@guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder for the scenes, removed at the end")
    parser.add_argument("--side", type=int, default=6000)
    parser.add_argument(
        "--compress", choices=("none", "lzw", "deflate"), default="none", help="of the scenes"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    args = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    start = time.perf_counter()
    if args.work is not None:
        args.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        found = measure(
            Path(work),
            side=args.side,
            compress=args.compress,
            repeats=args.repeats,
            threads=args.threads,
        )
    print(found["megabytes_per_second"], "MB/s; ratio", found["ratio"], "goal", GOAL)
    if not args.dry:
        name = "prepare" if args.compress == "none" else f"prepare-{args.compress}"
        print(write_result(name, found, seconds=time.perf_counter() - start))


if __name__ == "__main__":
    main()
