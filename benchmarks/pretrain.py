"""Images per second of preparing GLCNet's two views and the regions they share, on one core.

The reference is written the way the method was published: image by image, every view cut, resized,
mirrored and turned step by step, and with it a map of pixel numbers, in which the regions of both
views are looked up. ``wholescene`` makes the same views of a whole batch by one affine map each and
finds regions in closed form. Both start from uint8 windows of 256 px and end with normalised
float32 views of 224 px; crops, symmetries, colours, grey, blur and four regions of 48 px follow the
same published laws. The process keeps freed memory for ``wholescene``, as pre-training does on a
CPU, and not for the reference, which that would slow. Repeats alternate, each in a fresh process;
the ratio is that of the medians.

    OMP_NUM_THREADS=1 python benchmarks/pretrain.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from processes import run_json
from results import write_result

from wholescene.cli.console import guard
from wholescene.heap import steady_heap
from wholescene.pretrain.regions import draw_regions
from wholescene.pretrain.settings import ViewSettings
from wholescene.pretrain.views import ViewMaker

WINDOW, VIEW, BANDS = 256, 224, 4
REGIONS, REGION = 4, 48
WAYS = "index maps", "wholescene"
MEAN, STD = 127.5, 255 / 3.2
"""Normalise as published: x / 255 * 3.2 - 1.6."""

Pixels = NDArray[np.uint8]
Ids = NDArray[np.int32]
Box = tuple[float, float, float, float]


def draw_box(rng: np.random.Generator) -> Box:
    """A crop of 40 to 100 % of the window: left, upper, right, lower."""
    for _ in range(5):
        area, aspect = rng.uniform(0.4, 1.0), rng.uniform(3 / 4, 4 / 3)
        aspect = 1 / aspect if rng.random() < 0.5 else aspect
        width, height = (
            round(WINDOW * float(np.sqrt(side))) for side in (area * aspect, area / aspect)
        )
        if width <= WINDOW and height <= WINDOW:
            break
    width, height = min(width, WINDOW), min(height, WINDOW)
    left, upper = rng.integers(0, WINDOW - width + 1), rng.integers(0, WINDOW - height + 1)
    return float(left), float(upper), float(left + width), float(upper + height)


def cut(image: Pixels, ids: Ids, box: Box) -> tuple[Pixels, Ids]:
    """Crop and resize an image, and the numbers of its pixels with it."""
    how, size = Image.Resampling, (VIEW, VIEW)
    bands = [Image.fromarray(band).resize(size, how.BILINEAR, box=box) for band in image]
    numbers = Image.fromarray(ids).resize(size, how.NEAREST, box=box)
    return np.stack([np.asarray(band) for band in bands]), np.asarray(numbers)


def lay(image: Pixels, ids: Ids, rng: np.random.Generator) -> tuple[Pixels, Ids]:
    """Mirror and turn an image, and the numbers of its pixels with it."""
    dice = rng.random()
    if dice < 0.2 or 0.4 <= dice < 0.6:
        image, ids = image[:, :, ::-1], ids[:, ::-1]
    if 0.2 <= dice < 0.6:
        image, ids = image[:, ::-1], ids[::-1]
    if rng.random() < 0.8:
        quarters = int(rng.integers(4))
        image, ids = np.rot90(image, quarters, (1, 2)), np.rot90(ids, quarters)
    return image, ids


def change(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Colours, grey and blur of the second view."""
    if rng.random() < 0.8:
        if rng.random() < 0.5:
            image = np.concatenate([shift_hsv(image[:3], rng), image[3:]])
        image = np.concatenate([image[:3], [change_band(band, rng) for band in image[3:]]])
    if rng.random() < 0.1:
        image = np.repeat(image[rng.integers(BANDS)][None], BANDS, 0)
    if rng.random() < 0.5:
        radius = 0.3 * (rng.integers(1, 4) - 1) + 0.8
        blur = ImageFilter.GaussianBlur(float(radius))
        image = np.stack([np.asarray(Image.fromarray(band).filter(blur)) for band in image])
    return image


def shift_hsv(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Shift hue, saturation and value, in the colour space of PIL."""
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)), "RGB")
    hsv = np.asarray(picture.convert("HSV")).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + rng.integers(-43, 44)) % 256
    hsv[..., 1:] += np.array([rng.integers(-5, 6), rng.integers(-15, 16)], np.int16)
    back = Image.fromarray(hsv.clip(0, 255).astype(np.uint8), "HSV").convert("RGB")
    return np.asarray(back).transpose(2, 0, 1)


def change_band(band: Pixels, rng: np.random.Generator) -> Pixels:
    """Brightness and contrast of a band, and single pixels of any value."""
    values = band.astype(np.float32) + 25.5 * rng.uniform(-1, 1)
    values = values.mean() + (1 + 0.1 * rng.uniform(-1, 1)) * (values - values.mean())
    hit = rng.random(band.shape) < 0.001
    values[hit] = rng.integers(0, 256, int(hit.sum()))
    return values.clip(0, 255).astype(np.uint8)


def match(first: Ids, second: Ids, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Middles of regions that two views share, found by the numbers of their pixels."""
    half = REGION // 2
    inside = slice(half, VIEW - half)
    left = np.intersect1d(first[inside, inside], second[inside, inside])
    found = []
    for _ in range(REGIONS):
        if not len(left):
            break
        number = left[rng.integers(len(left))]
        places = [np.argwhere(ids[inside, inside] == number)[0] + half for ids in (first, second)]
        (row, col), (row2, col2) = places
        found.append((int(row), int(col), int(row2), int(col2)))
        covered = first[row - half : row + half, col - half : col + half]
        rest = np.setdiff1d(left, covered)
        left = rest if len(rest) > 1 else left
    return found


def prepare_reference(windows: Pixels, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """Views (2, B, C, P, P) and places (B, N, 4), image by image."""
    pairs, places = [], []
    ids = np.arange(WINDOW * WINDOW, dtype=np.int32).reshape(WINDOW, WINDOW)
    for window in windows:
        first, first_ids = cut(window, ids, draw_box(rng))
        second, second_ids = lay(*cut(window, ids, draw_box(rng)), rng)
        second = change(second, rng)
        found = match(first_ids, second_ids, rng) or [(0, 0, 0, 0)]
        places.append((found * REGIONS)[:REGIONS])
        pairs.append([(view.astype(np.float32) - MEAN) / STD for view in (first, second)])
    views = torch.from_numpy(np.asarray(pairs, np.float32)).transpose(0, 1)
    return views, torch.tensor(places)


def wholescene_preparation() -> Callable[[Pixels], tuple[Any, ...]]:
    """The same by the package, for whole batches."""
    settings = ViewSettings(view_px=VIEW, faithful=True)
    maker = ViewMaker(settings, mean=[MEAN] * BANDS, std=[STD] * BANDS)
    generator = torch.Generator().manual_seed(0)

    def prepare(windows: Pixels) -> tuple[Any, ...]:
        normal = torch.from_numpy(windows).float().sub_(MEAN).mul_(1 / STD)
        first, second = maker(normal, generator)
        regions = draw_regions(
            first.maps,
            second.maps,
            count=REGIONS,
            side=REGION / VIEW,
            generator=generator,
            footprint="view",
        )
        return first.image, second.image, regions

    return prepare


def measure_case(way: str, *, images: int, batch: int) -> float:
    """Images per second of one of both."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (batch, BANDS, 32, 32), np.uint8)
    windows = small.repeat(WINDOW // 32, 2).repeat(WINDOW // 32, 3)
    ours = way == "wholescene"
    prepare = wholescene_preparation() if ours else partial(prepare_reference, rng=rng)
    with steady_heap() if ours else nullcontext():
        prepare(windows)
        start = time.perf_counter()
        for _ in range(images // batch):
            prepare(windows)
        return images // batch * batch / (time.perf_counter() - start)


def measure(*, images: int, batch: int, repeats: int) -> dict[str, Any]:
    """Images per second of both, in turns, each time in a process of its own."""
    sizes = ["--images", str(images), "--batch", str(batch)]
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            found = run_json([sys.executable, __file__, "--case", way, *sizes])
            rates[way].append(found["images_per_second"])
    medians = {name: statistics.median(each) for name, each in rates.items()}
    return {
        "images_per_second": {name: round(rate, 1) for name, rate in medians.items()},
        "all_repeats": {name: [round(r, 1) for r in each] for name, each in rates.items()},
        "ratio": round(medians["wholescene"] / medians["index maps"], 2),
    }


@guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    parser.add_argument("--case", choices=WAYS, help="for internal use")
    args = parser.parse_args()
    if args.case:
        rate = measure_case(args.case, images=args.images, batch=args.batch)
        print(json.dumps({"images_per_second": rate}))
        return
    start = time.perf_counter()
    found = measure(images=args.images, batch=args.batch, repeats=args.repeats)
    print(found["images_per_second"], "ratio", found["ratio"])
    if not args.dry:
        data = {
            "window_px": WINDOW,
            "view_px": VIEW,
            "bands": BANDS,
            "regions": REGIONS,
            "region_px": REGION,
            "batch": args.batch,
            "threads": 1,
            **found,
        }
        print(write_result("pretrain", data, seconds=time.perf_counter() - start))


if __name__ == "__main__":
    main()
