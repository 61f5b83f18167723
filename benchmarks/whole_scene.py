r"""Ways to map one scene that is in memory: time, peak memory, pixels whose class is not exact.

Each cell (network, way, repeat) runs in a fresh process: load weights and image, map a small scene
(the exact engine also two rows of blocks) to warm up, map the scene. Repeats are interleaved: all
ways once, then all again. Threads, type of numbers, memory format, image and class map are the same
for all, and so is the allocator: glibc keeps freed memory (``M_MMAP_MAX=0``, no trim). Making a way
ready (tracing, folding) is timed apart. Ratios are medians of ratios within a repeat, to the size
of tile that is fastest by median.

    python benchmarks/whole_scene.py --monai-python PYTHON_WITH_MONAI      # under two hours
    python benchmarks/whole_scene.py --quick                               # does everything run?
    python benchmarks/whole_scene.py --only upernet --methods streamed folded-512 --repeats 1

Finished cells are kept in ``--work`` and are not run again; remove the folder to start afresh. The
result file is written when all cells are there, unless ``--dry`` or ``--quick``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Cells, Sampler, interruptible, reset_peak, status, tune_malloc
from scene_table import map_path, summarise, table

TILES = (256, 512, 1024, 2048)
LOOPS = tuple(f"{kind}-{tile}" for kind in ("folded", "eager") for tile in TILES)
EXACT = ("streamed", "streamed-1024")
WINDOWS = ("windowed-25", "windowed-50", "monai-25")
ALL = (*EXACT, *LOOPS, *WINDOWS, "whole")
FREE_SHARE = 0.8
START_S = 15.0
MALLOC = "glibc, M_MMAP_MAX=0, no trim, by mallopt at the start of every process"
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Case:
    """One network over one scene."""

    network: str
    side: int
    methods: tuple[str, ...] = ALL
    repeats: int = 3

    @property
    def name(self) -> str:
        return f"{self.network} {self.side} x {self.side}"


CASES = (
    Case("unet-resnet18", 4096),
    Case("deeplabv3plus-resnet50", 4096),
    Case("upernet-convnext_tiny", 2048),
    Case("unet-resnet18", 10_000, (*EXACT, *LOOPS), repeats=2),
)
QUICK = (
    Case(
        "unet-resnet18", 256, ("streamed-128", "folded-128", "eager-128", *WINDOWS[::2], "whole"), 1
    ),
)


def measure(key: dict[str, Any], work: Path) -> dict[str, Any]:
    """Map the scene once, in this process."""
    import numpy as np
    import torch
    from calibrated import build, load_image
    from methods import make, unit_px

    torch.randn(1, 3, 8, 8)
    baseline = status()["VmRSS"]
    dtype = getattr(torch, key["dtype"])
    module = build(key["network"], work / f"{key['network']}.pt").to(dtype)
    image = load_image(work / f"image_{key['side']}.npy", dtype)
    side = key["side"]
    classes = torch.full((side, side), 255, dtype=torch.uint8)
    loaded = status()["VmRSS"]
    reset_peak()
    sampler = Sampler()
    sampler.start()
    small = min(side, unit_px(key["method"]) * 3 // 2)
    part = image[..., :small, :small].contiguous(memory_format=torch.channels_last)
    make(key["method"], module, part.shape)(part, classes[:small, :small])
    start = time.perf_counter()
    run = make(key["method"], module, image.shape)
    ready = time.perf_counter()
    getattr(run, "warm", lambda *_: None)(image, classes)
    begin = time.perf_counter()
    run(image, classes)
    done = time.perf_counter()
    sampler.stop()
    assert int(classes.max()) < 255
    np.save(map_path(work, key), classes.numpy())
    return {
        "seconds": round(done - begin, 3),
        "ready_seconds": round(ready - start, 3),
        "threads": torch.get_num_threads(),
        "baseline_bytes": baseline,
        "loaded_bytes": loaded - baseline,
        "peak_bytes": status()["VmHWM"] - baseline,
        "working_bytes": status()["VmHWM"] - loaded,
        "sampled_peak_bytes": sampler.peak,
    }


def prepare(key: dict[str, Any], work: Path) -> dict[str, Any]:
    """Write weights and image, time a tile, and say what the whole forward takes."""
    import torch
    from calibrated import build, load_image, save_image, save_weights

    from wholescene.spatial import plan

    side, weights = key["side"], work / f"{key['network']}.pt"
    image = work / f"image_{side}.npy"
    if not weights.exists():
        save_weights(key["network"], weights)
    if not image.exists():
        save_image(image, side, side)
    module = build(key["network"], weights)
    tile = min(side, 512)
    part = load_image(image, torch.float32)[..., :tile, :tile].contiguous(
        memory_format=torch.channels_last
    )
    with torch.inference_mode():
        module(part)
        start = time.perf_counter()
        module(part)
        seconds = time.perf_counter() - start
    whole = plan(module, (1, part.shape[1], side, side), executor="whole")
    return {"scene_seconds": seconds * (side / tile) ** 2, "whole_bytes": whole.peak_bytes}


class Driver:
    """Runs the cells that are missing."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.work = args, args.work
        self.work.mkdir(parents=True, exist_ok=True)
        self.cells = Cells(self.work / "cells.jsonl")

    def cases(self) -> list[Case]:
        """The cases asked for, scaled as asked for."""
        args = self.args
        found = [
            Case(
                case.network,
                args.size or case.side,
                tuple(m for m in args.methods or case.methods if self._fits(m, case)),
                args.repeats or case.repeats,
            )
            for case in (QUICK if args.quick else CASES)
            if not args.only or any(text in case.name for text in args.only)
        ]
        return list(dict.fromkeys(found))

    def _fits(self, method: str, case: Case) -> bool:
        """Leave out tiles larger than the scene."""
        kind, _, number = method.partition("-")
        side = self.args.size or case.side
        return kind not in ("folded", "eager") or int(number) <= side

    def command(self, method: str) -> list[str]:
        monai = method.startswith("monai") and self.args.monai_python
        return [monai or sys.executable, __file__, "--work", str(self.work)]

    def prepared(self, case: Case) -> dict[str, Any]:
        key = {"prepare": True, "network": case.network, "side": case.side}
        found = self.cells.run(key, self.command("prepare"))
        if "error" in found:
            sys.exit(f"{case.name}: {found['error']}")
        return found

    def key(self, case: Case, method: str, repeat: int) -> dict[str, Any]:
        return {
            "network": case.network,
            "side": case.side,
            "dtype": self.args.dtype,
            "method": method,
            "repeat": repeat,
        }

    def estimate(self, cases: Sequence[Case]) -> float:
        """Seconds that the missing cells will take."""
        total = 0.0
        for case in cases:
            once = self.prepared(case)["scene_seconds"]
            for repeat in range(case.repeats):
                for method in case.methods:
                    if self.cells.get(self.key(case, method, repeat)) is None:
                        total += START_S + once * cost(method)
        return total

    def run(self, case: Case) -> dict[str, list[dict[str, Any]]]:
        """All cells of a case, by way."""
        found: dict[str, list[dict[str, Any]]] = {method: [] for method in case.methods}
        for repeat in range(case.repeats):
            for method in case.methods:
                cell = self.cells.get(self.key(case, method, repeat))
                if cell is None and not self.args.finished:
                    cell = self._cell(case, method, repeat)
                if cell is not None:
                    found[method].append(cell)
        return {method: cells for method, cells in found.items() if cells}

    def _cell(self, case: Case, method: str, repeat: int) -> dict[str, Any]:
        key = self.key(case, method, repeat)
        needed = self.prepared(case)["whole_bytes"] if method == "whole" else 0
        free = free_bytes()
        if needed > FREE_SHARE * free and self.cells.get(key) is None:
            return {**key, "error": f"needs about {needed:,} bytes of {free:,} free"}
        return self.cells.run(key, self.command(method))


def cost(method: str) -> float:
    """Forward passes over each pixel, about."""
    kind, _, number = method.partition("-")
    return 1 / (1 - int(number) / 100) ** 2 if kind in ("windowed", "monai") else 1.0


def free_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(x.split()[1]) << 10 for x in lines if x.startswith("MemAvailable"))


@interruptible
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", help="parts of names of cases, such as '4096'")
    parser.add_argument("--methods", nargs="+", help="ways, such as streamed-1024 or eager-512")
    parser.add_argument("--repeats", type=int, help="of every case")
    parser.add_argument("--size", type=int, help="side of the scenes, instead of each case's")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--monai-python", help="interpreter that has MONAI too; default: this one")
    parser.add_argument("--work", type=Path, default=Path("runs/whole-scene"))
    parser.add_argument("--quick", action="store_true", help="256 px, to see that all runs")
    parser.add_argument("--finished", action="store_true", help="run nothing; use what is there")
    parser.add_argument("--name", default="whole-scene", help="of the result file")
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    parser.add_argument("--cell", type=json.loads, help="for internal use")
    args = parser.parse_args()
    if args.cell:
        tune_malloc()
        work = prepare if "prepare" in args.cell else measure
        print(json.dumps(work(args.cell, args.work)))
        return
    driver = Driver(args)
    cases = driver.cases()
    if not args.finished:
        print(f"estimate: {driver.estimate(cases) / 60:.0f} minutes", flush=True)
    rows = [row for case in cases for row in summarise(driver.run(case), driver.work)]
    print(table(rows))
    if not (args.dry or args.quick):
        from results import write_result

        data = {"dtype": args.dtype, "malloc": MALLOC, "rows": rows}
        seconds = sum(cell["wall_seconds"] for cell in driver.cells.found)
        print(write_result(args.name, data, seconds=seconds))


if __name__ == "__main__":
    main()
