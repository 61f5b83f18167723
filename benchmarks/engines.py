r"""Train a config, map one whole scene with several engines, and compare the maps.

Each map is scored in the parts of the scene that the dataset's splits cover, found by their
coordinates, and compared pixel by pixel with the map of the first engine; its footprint is
compared with that of the scene.

    python benchmarks/engines.py configs/blue-marble.yaml --data data/blue-marble \
        --scene data/blue-marble/world.tif --engines streamed windowed

Finished work is kept: run it again after an interruption, or to write the result file once more.
"""

from __future__ import annotations

import argparse
import sys
import time
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import write_result

from wholescene.cli.console import guard
from wholescene.config import load_config
from wholescene.datasets import Dataset, load_dataset
from wholescene.evaluate import ConfusionTable
from wholescene.evaluate.scores import scores_dict
from wholescene.geometry import Window
from wholescene.labels import IGNORE_INDEX
from wholescene.prediction import predict
from wholescene.raster import LabelReader, SceneReader
from wholescene.study.training import train_run

KEPT = ("overall_accuracy", "kappa", "miou", "mf1", "per_class")

Map = NDArray[np.integer]


def find_files(pattern: str) -> list[Path]:
    """Files of the scene, one per band in the order of their names."""
    found = sorted(map(Path, glob(pattern)))  # noqa: PTH207, the pattern may be absolute
    if not found:
        sys.exit(f"--scene {pattern}: no such file")
    return found


def map_scene(
    files: list[Path], model: Path, out: Path, engine: str, dataset: Dataset
) -> tuple[Map, dict[str, Any]]:
    """Map a scene with one engine, unless it is mapped; returns class indices and facts."""
    path = out / f"{engine}.tif"
    result = predict(files, model, path, engine=engine, resume=True)
    with LabelReader(path, dataset.classes) as reader:
        classes = reader.read(Window.whole(reader.size))
    facts = {"blocks": result.blocks, "notes": list(result.notes)}
    return classes, facts


def regions(dataset: Dataset, scene: SceneReader) -> dict[str, tuple[Window, Map]]:
    """Place and labels of the dataset's labelled scenes in the whole one, by id."""
    found = {}
    for record in dataset.scenes:
        if not dataset.is_labelled(record):
            continue
        with dataset.label_reader(record) as reader:
            part, whole = reader.transform, scene.transform
            window = Window(
                row_off=round((part.f - whole.f) / whole.e),
                col_off=round((part.c - whole.c) / whole.a),
                height=reader.size.height,
                width=reader.size.width,
            )
            found[record.id] = window, reader.read(Window.whole(reader.size))
    return found


def score(dataset: Dataset, truth: Map, guess: Map) -> dict[str, Any]:
    """Scores of one region."""
    table = ConfusionTable(dataset.classes)
    table.add(truth, guess)
    scores = scores_dict(table)
    return {**{key: scores[key] for key in KEPT}, "confusion": table.table.tolist()}


def compare(
    guess: Map, reference: Map, valid: NDArray[np.bool_], parts: dict[str, tuple[Window, Map]]
) -> dict[str, Any]:
    """Pixels that differ from the first map, and whether data and footprint agree."""
    differs = guess != reference
    return {
        "differing_pixels": int(differs.sum()),
        "differing_share": float(differs[valid].mean()),
        "differing_share_by_region": {
            name: float(differs[window.rows, window.cols].mean())
            for name, (window, _) in parts.items()
        },
        "footprint_equals_scene": bool(((guess != IGNORE_INDEX) == valid).all()),
    }


@guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of dataset.yaml")
    parser.add_argument("--scene", required=True, help="file, or pattern of one file per band")
    parser.add_argument("--engines", nargs="+", default=["streamed", "windowed"])
    parser.add_argument("--out", type=Path, help="folder of run and maps")
    args = parser.parse_args()
    start = time.monotonic()
    settings = [f"data.dataset={args.data.resolve()}"]
    config = load_config(args.config, settings)
    out = args.out or Path("runs") / config.name
    run = train_run(
        args.config, settings, out=out / "run", resume=True, say=say, progress=lambda *_: None
    )
    dataset = load_dataset(args.data)
    files = find_files(args.scene)
    with SceneReader(files, dataset.spec.sources) as scene:
        valid, parts = scene.valid(Window.whole(scene.size)), regions(dataset, scene)
    found: dict[str, Any] = {}
    reference: Map | None = None
    for engine in args.engines:
        guess, facts = map_scene(files, run.model, out / "maps", engine, dataset)
        reference = guess if reference is None else reference
        found[engine] = {
            **facts,
            "scores": {
                name: score(dataset, truth, guess[window.rows, window.cols])
                for name, (window, truth) in parts.items()
            },
            **compare(guess, reference, valid, parts),
        }
        say(f"{engine}: {found[engine]['differing_share']:.4%} differ from {args.engines[0]}")
    data: dict[str, Any] = {
        "config": args.config.name,
        "settings": config.model_dump(mode="json"),
        "train_seconds": round(run.seconds, 1),
        "val_miou": run.best_miou,
        "valid_share": float(valid.mean()),
        "engines": found,
    }
    data["settings"]["data"]["dataset"] = args.data.name
    if config.train.init_from is not None:
        data["settings"]["train"]["init_from"] = config.train.init_from.name
    say(str(write_result(config.name, data, seconds=time.monotonic() - start)))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
