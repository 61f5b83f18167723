"""Peak memory of the exact engine over scenes of growing height, next to what its plan says.

The image is a function that makes noise, the sink takes the classes and drops them, so that what is
measured is the engine alone. Each cell runs in a fresh process. Memory is what
``/proc/self/status`` says: the kernel's own peak (``VmHWM``, reset when the network is loaded) and
samples of its anonymous and file-backed parts. Networks with layers that wait for the whole scene
(UPerNet, DeepLabV3+) run twice, the second time with what is kept between sweeps in files.

    python benchmarks/streaming_memory.py                     # about half an hour
    python benchmarks/streaming_memory.py --memory 2GiB       # block and heap within that
    python benchmarks/streaming_memory.py --columns 500 --rows 500 1000 --dry

Finished cells are kept in ``--work`` and are not run again; remove the folder to start afresh.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import Cells, Sampler, interruptible, reset_peak, status, tune_malloc

NETWORKS = {
    "unet-resnet18": (False,),
    "upernet-resnet18": (False, True),
    "deeplabv3plus-resnet18": (False, True),
}
PATTERN_PX = 512
TARGET_SPREAD, TARGET_ESTIMATE = 0.10, 0.20
MIB = 1 << 20


def measure(key: dict[str, Any], work: Path) -> dict[str, Any]:
    """Run the engine over one scene, in this process."""
    import torch
    from calibrated import BANDS, build, structured_noise

    from wholescene.spatial import Streamer

    pattern = structured_noise(PATTERN_PX, PATTERN_PX, seed=0)

    def read(rows: slice, cols: slice) -> torch.Tensor:
        places = (torch.arange(part.start, part.stop) % PATTERN_PX for part in (rows, cols))
        row, col = places
        return pattern[:, :, row][:, :, :, col]

    pixels = 0

    def sink(rows: slice, cols: slice, logits: torch.Tensor) -> None:
        nonlocal pixels
        pixels += logits.argmax(1).numel()

    # Importing what tracing needs is not the engine's memory.
    Streamer(torch.nn.Conv2d(BANDS, 1, 1).eval(), (1, BANDS, 64, 64))
    baseline = status()["VmRSS"]
    module = build(key["network"])
    loaded, anonymous = (status()[field] for field in ("VmRSS", "RssAnon"))
    reset_peak()
    shape = (1, BANDS, key["rows"], key["columns"])
    settings = {name: key[name] for name in ("block", "memory", "spilled")}
    engine = Streamer(module, shape, **settings)
    ready = status()["VmRSS"]
    sampler = Sampler()
    sampler.start()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=work) as folder:
        spill = Path(folder) if key["spilled"] else None
        for _ in engine.rows(read, sink, spill_dir=spill):
            pass
    seconds = time.perf_counter() - start
    sampler.stop()
    assert pixels == key["rows"] * key["columns"]
    return {
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "baseline_bytes": baseline,
        "model_bytes": loaded - baseline,
        "ready_bytes": ready - loaded,
        "peak_bytes": status()["VmHWM"] - loaded,
        "peak_above_ready_bytes": status()["VmHWM"] - ready,
        "sampled_peak_bytes": sampler.peak,
        "loaded_anonymous_bytes": anonymous,
        "block_px": engine.plan.block,
        "planned_bytes": engine.plan.peak_bytes,
        "planned_spill_bytes": engine.plan.spill_bytes,
        "kept_bytes": sum(note.num_bytes for note in engine.plan.kept),
        "sweeps": engine.plan.sweeps,
    }


def verdicts(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare the heights of each network, and each cell with its plan.

    What the plan keeps between sweeps grows with the scene by design, so the spread between
    heights is also given without it.
    """
    found = []
    for network, spilled in dict.fromkeys((c["network"], c["spilled"]) for c in cells):
        group = [c for c in cells if (c["network"], c["spilled"]) == (network, spilled)]
        anonymous = [
            c["sampled_peak_bytes"]["anonymous"] - c["loaded_anonymous_bytes"] for c in group
        ]
        peaks = [c["peak_bytes"] for c in group]
        kept = [0 if spilled else c["kept_bytes"] for c in group]
        net = [peak - held for peak, held in zip(peaks, kept, strict=True)]
        errors = [c["planned_bytes"] / c["peak_bytes"] - 1 for c in group]
        found.append(
            {
                "network": network,
                "spilled": spilled,
                "rows": [c["rows"] for c in group],
                "peak_bytes": peaks,
                "spread": round(spread(peaks), 4),
                "spread_without_kept": round(spread(net), 4),
                "spread_anonymous": round(spread(anonymous), 4),
                "plan_error": [round(error, 4) for error in errors],
                "flat": spread(net) <= TARGET_SPREAD,
                "plan_met": max(map(abs, errors)) <= TARGET_ESTIMATE,
            }
        )
    return found


def spread(values: list[int]) -> float:
    return (max(values) - min(values)) / max(min(values), 1)


def table(cells: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| network | rows x columns | spilled | s | peak above network, MiB | plan, MiB "
        "| plan / peak | anonymous, MiB | file-backed, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        sampled = cell["sampled_peak_bytes"]
        numbers = (
            f"{cell['seconds']:.0f}",
            f"{cell['peak_bytes'] / MIB:,.0f}",
            f"{cell['planned_bytes'] / MIB:,.0f}",
            f"{cell['planned_bytes'] / cell['peak_bytes']:.2f}",
            f"{sampled['anonymous'] / MIB:,.0f}",
            f"{sampled['file'] / MIB:,.0f}",
        )
        head = (cell["network"], f"{cell['rows']} x {cell['columns']}", str(cell["spilled"]))
        lines.append(f"| {' | '.join((*head, *numbers))} |")
    return "\n".join(lines)


@interruptible
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000, 10_000, 20_000])
    parser.add_argument("--columns", type=int, default=5_000)
    parser.add_argument("--block", type=int, help="side of a block; default: the engine's")
    parser.add_argument("--memory", help="budget, for example 2GiB; default: none")
    parser.add_argument(
        "--kept",
        default="both",
        choices=["memory", "files", "both"],
        help="where networks that keep values between sweeps have them",
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument(
        "--malloc",
        default="default",
        choices=["default", "keep"],
        help="allocator: as it is, or keeping freed memory as in whole_scene.py",
    )
    parser.add_argument("--work", type=Path, default=Path("runs/streaming-memory"))
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    parser.add_argument("--cell", type=json.loads, help="for internal use")
    args = parser.parse_args()
    if args.cell:
        if args.cell["malloc"] == "keep":
            tune_malloc()
        print(json.dumps(measure(args.cell, args.work)))
        return
    found = run_all(args)
    print(table(found))
    judged = verdicts(found)
    print(json.dumps(judged, indent=1))
    if not args.dry:
        from results import write_result

        seconds = sum(cell["wall_seconds"] for cell in found)
        data = {"malloc": args.malloc, "verdicts": judged, "cells": found}
        name = "streaming-memory-budget" if args.memory else "streaming-memory"
        print(write_result(name, data, seconds=seconds))


def ways(network: str, kept: str) -> tuple[bool, ...]:
    """Whether kept values are in files, each way that is asked for."""
    if len(NETWORKS[network]) == 1 or kept == "both":
        return NETWORKS[network]
    return (kept == "files",)


def run_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the cells that are missing."""
    cells = Cells(args.work / "cells.jsonl")
    args.work.mkdir(parents=True, exist_ok=True)
    found = []
    for network in args.networks:
        for spilled in ways(network, args.kept):
            for rows in sorted(args.rows):
                key = {
                    "network": network,
                    "rows": rows,
                    "columns": args.columns,
                    "spilled": spilled,
                    "block": args.block,
                    "memory": args.memory,
                    "malloc": args.malloc,
                }
                cell = cells.run(key, [sys.executable, __file__, "--work", str(args.work)])
                if "error" in cell:
                    sys.exit(f"{network}, {rows} rows: {cell['error']}")
                found.append(cell)
    return found


if __name__ == "__main__":
    main()
