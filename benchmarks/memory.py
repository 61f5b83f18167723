"""Peak memory of whole-scene prediction at growing height, and of two peers on the smallest scene.

U-Net on ResNet-18, random weights, 512 px windows, a quarter overlapped, batches of 4, on a noise
scene of 4 bands (uint16) and 5,000 columns. Each case runs in a fresh process, which imports
everything first (the baseline), then maps a GeoTIFF to a GeoTIFF of 6 classes. Memory is what
``/proc/self/status`` says: the kernel's own peak (``VmHWM``, reset after the imports) and samples
of its anonymous and file-backed parts. The peers get the same network, the same windows and the
same files, used as their documentation shows: the scene is read as one tensor.

    python benchmarks/memory.py                    # half an hour on two cores
    python benchmarks/memory.py --peers            # wholescene alone
    python benchmarks/memory.py --rows 1000 2000 --columns 1000 --dry

MONAI and terratorch come with the 'bench' extra; ``--python`` names another interpreter that has
them. A peer that cannot be imported is listed with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import Sampler, interruptible, reset_peak, run_json, status

BANDS, CLASSES = 4, 6
BLOCK_PX, OVERLAP_PX, BATCH = 512, 128, 4
MEAN, STD = 500.0, 150.0
TARGET_BYTES = 1 << 30
TARGET_SPREAD = 0.10


def write_noise(path: Path, *, rows: int, columns: int) -> None:
    """Write a scene in strips; strips repeat, which no network can tell."""
    import numpy as np
    from affine import Affine

    from wholescene.geometry import Size
    from wholescene.raster import StripWriter

    rng = np.random.default_rng(0)
    strip = rng.normal(MEAN, STD, (BANDS, 512, columns)).clip(1, 1000).astype(np.uint16)
    with StripWriter(
        path,
        size=Size(rows, columns),
        bands=BANDS,
        dtype="uint16",
        transform=Affine(10, 0, 500_000, 0, -10, 5_000_000),
        crs="EPSG:32630",
    ) as writer:
        for row in range(0, rows, 512):
            writer.write(row, strip[:, : min(512, rows - row)])


def make_model() -> Any:
    """Build the network."""
    import torch

    from wholescene.models import Architecture, ClassSpec, ModelSpec, build_segmenter
    from wholescene.raster import BandSpec, SourceSpec

    torch.manual_seed(0)
    spec = ModelSpec(
        architecture=Architecture(encoder="resnet18", decoder="unet"),
        sources=(SourceSpec(bands=tuple(BandSpec(name=f"b{i}") for i in range(BANDS))),),
        mean=(MEAN,) * BANDS,
        std=(STD,) * BANDS,
        classes=tuple(
            ClassSpec(id=i, name=f"class {i}", color=(40 * i, 0, 0)) for i in range(CLASSES)
        ),
    )
    return build_segmenter(spec).eval()


def run_wholescene(scene: Path, out: Path, model: Any) -> None:
    """Map with this package."""
    from wholescene.prediction import predict

    predict(scene, model, out, engine="windowed", block=BLOCK_PX, overlap=OVERLAP_PX, batch=BATCH)


def run_monai(scene: Path, out: Path, model: Any) -> None:
    """Map with MONAI's sliding window."""
    from monai.inferers import sliding_window_inference

    def infer(image: Any) -> Any:
        return sliding_window_inference(
            image,
            roi_size=(BLOCK_PX, BLOCK_PX),
            sw_batch_size=BATCH,
            predictor=model,
            overlap=OVERLAP_PX / BLOCK_PX,
            mode="gaussian",
        )

    _map_in_memory(scene, out, infer)


def run_terratorch(scene: Path, out: Path, model: Any) -> None:
    """Map with terratorch's tiled inference."""
    from terratorch.tasks.tiled_inference import tiled_inference

    def infer(image: Any) -> Any:
        return tiled_inference(
            model,
            image,
            crop=BLOCK_PX,
            stride=BLOCK_PX - OVERLAP_PX,
            batch_size=BATCH,
            delta=0,
            padding=False,
        )

    _map_in_memory(scene, out, infer)


def _map_in_memory(scene: Path, out: Path, infer: Callable[[Any], Any]) -> None:
    """Read a scene as one tensor, infer, write the class of each pixel."""
    import rasterio
    import torch

    with rasterio.open(scene) as file:
        profile, pixels = file.profile, file.read(out_dtype="float32")
    image = torch.from_numpy(pixels).sub_(MEAN).div_(STD)[None]
    with torch.inference_mode():
        classes = infer(image).argmax(1)[0].to(torch.uint8)
    profile.update(count=1, dtype="uint8", nodata=255, tiled=True, compress="deflate")
    with rasterio.open(out, "w", **profile) as file:
        file.write(classes.numpy(), 1)


TOOLS: dict[str, tuple[Callable[[Path, Path, Any], None], tuple[str, ...]]] = {
    "wholescene": (run_wholescene, ("wholescene.prediction",)),
    "monai": (run_monai, ("monai.inferers", "rasterio")),
    "terratorch": (run_terratorch, ("terratorch.tasks.tiled_inference", "rasterio")),
}


def measure(tool: str, scene: Path, out: Path) -> dict[str, Any]:
    """Run one case in this process."""
    import torch

    run, modules = TOOLS[tool]
    for module in (*modules, "wholescene.models", "wholescene.raster", "timm"):
        importlib.import_module(module)
    torch.randn(1, 3, 8, 8)
    baseline = status()
    model = make_model()
    weights = sum(p.numel() * p.element_size() for p in model.state_dict().values())
    reset_peak()
    sampler = Sampler()
    sampler.start()
    start = time.perf_counter()
    run(scene, out, model)
    seconds = time.perf_counter() - start
    sampler.stop()
    peak = status()["VmHWM"]
    above = peak - baseline["VmRSS"]
    return {
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
        "baseline_bytes": baseline["VmRSS"],
        "model_bytes": weights,
        "peak_above_baseline_bytes": above,
        "peak_above_baseline_and_model_bytes": above - weights,
        "sampled_peak_bytes": sampler.peak,
    }


def run_case(python: str, tool: str, scene: Path, out: Path) -> dict[str, Any]:
    """Run one case in a fresh process; a failure is a result too."""
    return run_json([python, __file__, "--case", tool, str(scene), str(out)])


def verdict(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the heights of wholescene with the targets."""
    ours = [case for case in cases if case["tool"] == "wholescene"]
    failed = [case["error"] for case in ours if "error" in case]
    if failed:
        sys.exit(f"wholescene failed: {failed[0]}")
    peaks = [case["peak_above_baseline_bytes"] for case in ours]
    net = [case["peak_above_baseline_and_model_bytes"] for case in ours]
    spread = (max(peaks) - min(peaks)) / min(peaks)
    return {
        "spread_between_heights": round(spread, 4),
        "spread_target": TARGET_SPREAD,
        "largest_peak_above_model_bytes": max(net),
        "largest_peak_target_bytes": TARGET_BYTES,
        "met": spread <= TARGET_SPREAD and max(net) <= TARGET_BYTES,
    }


def run_all(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Run every case, the peers on the smallest scene."""
    cases = []
    for rows in sorted(args.rows):
        scene = folder / f"scene_{rows}.tif"
        write_noise(scene, rows=rows, columns=args.columns)
        for tool in ("wholescene", *(args.peers if rows == min(args.rows) else ())):
            found = run_case(args.python, tool, scene, folder / f"{tool}_{rows}.tif")
            if "error" not in found:
                found["pixels_per_second"] = round(rows * args.columns / found["seconds"])
            cases.append({"tool": tool, "rows": rows, "columns": args.columns, **found})
            print(json.dumps(cases[-1]), flush=True)
        scene.unlink()
    return cases


@interruptible
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000, 10_000, 20_000])
    parser.add_argument("--columns", type=int, default=5_000)
    parser.add_argument("--peers", nargs="*", default=["monai", "terratorch"], choices=TOOLS)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--folder", type=Path, help="where scenes are written; default: temporary")
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    parser.add_argument(
        "--case", nargs=3, metavar=("TOOL", "SCENE", "OUT"), help="for internal use"
    )
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.case[0], Path(args.case[1]), Path(args.case[2]))))
        return
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        cases = run_all(args, Path(folder))
    settings = {"block_px": BLOCK_PX, "overlap_px": OVERLAP_PX, "batch": BATCH}
    network = {"encoder": "resnet18", "decoder": "unet", "bands": BANDS, "classes": CLASSES}
    data = {**settings, **network, "verdict": verdict(cases), "cases": cases}
    print(json.dumps(data["verdict"]))
    if not args.dry:
        from results import write_result

        print(write_result("memory", data, seconds=time.perf_counter() - start))


if __name__ == "__main__":
    main()
