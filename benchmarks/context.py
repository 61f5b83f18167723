r"""Whether training on whole scenes pays, with the same training time for every way.

Two tasks: river or lake, of the same water, on synthetic scenes; ocean or lake on Blue Marble, of
which the western half trains as one scene. A patch of 128 px often shows only a part of a water.
The ways, with the same seeds:

- ``crops``: a U-Net on patches, all of the time;
- ``scenes``: patches for half of the time, whole scenes for the other half;
- ``scenes, attention``: the same, with attention over the scene added (``model.interaction``);
- ``scenes, window``: the same layers, each token seeing 8 x 8 tokens only.

Training time is equal by steps: as many as the pace, measured once for each kind, lets into the
time. Every network maps the scored scenes whole.

    python benchmarks/context.py --seconds 720
    python benchmarks/context.py --seconds 240 --task blue-marble \
        --source $WHOLESCENE_DATA/blue-marble

Finished cells are kept in ``--work`` and are not run again; remove the folder to start afresh.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blue_marble
from budget import kept, paces, spread
from results import write_result

from wholescene.cli.console import guard
from wholescene.config import RunConfig, load_config
from wholescene.datasets import load_dataset, store_statistics, synthesize
from wholescene.evaluate import iou, miou, score_map, total_table
from wholescene.prediction import predict
from wholescene.raster import SceneReader
from wholescene.train import fit

CONFIGS = Path(__file__).parent.parent / "configs"
SPLITS = {"train": 8, "val": 1, "scored": 5}
SIDE_PX, SEED = 512, 11
EVERY = 5
"""Pixels of Blue Marble along a side that become one."""

LAYERS = "{strides: [16, 32], heads: 8"
SECOND = {
    "scenes": [],
    "scenes, attention": [f"model.interaction={LAYERS}}}"],
    "scenes, window": [f"model.interaction={LAYERS}, window: 8}}"],
}
WAYS = ("crops", *SECOND)

Cell = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """Waters that look alike.

    Args:
        config: Recipe of the first phase.
        make: Writes the dataset, from a source into a folder.
        scored: Its split that is mapped and scored.
        waters: Classes that only their surroundings tell apart.
    """

    config: str
    make: Callable[[Path | None, Path], object]
    scored: str
    waters: tuple[str, str]


def synthetic(source: Path | None, folder: Path) -> None:
    """Write synthetic scenes."""
    count = sum(SPLITS.values())
    synthesize(folder, scenes=count, height=SIDE_PX, width=SIDE_PX, seed=SEED, splits=SPLITS)
    store_statistics(load_dataset(folder))


def earth(source: Path | None, folder: Path) -> None:
    """Write the Earth in larger pixels."""
    if source is None:
        raise SystemExit("--task blue-marble needs --source, the folder with its picture")
    blue_marble.prepare(source, folder, every=EVERY)


TASKS = {
    "synthetic": Task("context-synthetic.yaml", synthetic, "scored", ("river", "lake")),
    "blue-marble": Task("context-blue-marble.yaml", earth, "test", ("ocean", "lake")),
}


class Bench:
    """Trains and scores what is missing."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.task = args, TASKS[args.task]
        self.work: Path = args.work / args.task
        path = self.work / "scenes" / "dataset.yaml"
        if not path.is_file():
            self.task.make(args.source, path.parent)
        self.dataset = load_dataset(path)

    def run(self) -> dict[str, Any]:
        """Every cell, seed by seed, so that each way has a first result early."""
        cells: dict[str, list[Cell]] = {way: [] for way in WAYS}
        for seed in self.args.seeds:
            for way in WAYS:
                cells[way].append(self.cell(way, seed))
        return {
            "seconds": self.args.seconds,
            "seeds": self.args.seeds,
            "task": self.args.task,
            "scenes": {
                split: [size_of(scene.files["image"][0]) for scene in self.dataset.split(split)]
                for split in ("train", "val", self.task.scored)
            },
            "seconds_a_step": self.pace(),
            "ways": {way: self.summary(found) for way, found in cells.items()},
            "gains_points": {
                f"{way} - {control}": self.differences(cells[way], cells[control])
                for way, control in (
                    ("scenes", "crops"),
                    ("scenes, attention", "crops"),
                    ("scenes, attention", "scenes"),
                    ("scenes, attention", "scenes, window"),
                )
            },
        }

    def cell(self, way: str, seed: int) -> Cell:
        """One way with one seed, now or from before."""
        found = kept(self.folder(way, seed) / "cell.json", lambda: self.new_cell(way, seed))
        print(json.dumps(found), flush=True)
        return found

    def new_cell(self, way: str, seed: int) -> Cell:
        """Train, map and score."""
        folder = self.folder(way, seed)
        first = self.train("crops", seed, self.steps("crops", 0.5 if way in SECOND else 1.0))
        seconds, model, steps = first["seconds"], first["model"], [first["steps"]]
        if way in SECOND:
            second = self.train(way, seed, self.steps(way, 0.5))
            seconds, model = seconds + second["seconds"], second["model"]
            steps.append(second["steps"])
        tables = []
        for scene in self.dataset.split(self.task.scored):
            found = folder / f"{scene.id}.tif"
            predict(scene.files, model, found, engine="whole", device="cpu")
            label = scene.labels[self.dataset.mask_target()]
            tables.append(score_map(label, found, self.dataset.classes))
        total = total_table(tables)
        classes = zip(self.dataset.classes.names, iou(total), strict=True)
        cell = {"way": way, "seed": seed, "steps": steps, "train_seconds": round(seconds, 1)}
        cell |= {"miou": miou(total), "iou": {name: float(value) for name, value in classes}}
        return cell

    def train(self, way: str, seed: int, steps: int) -> dict[str, Any]:
        """Train one phase, or the rest of it."""
        folder = self.folder(way, seed) / f"run-{steps}"
        config = self.config(way, seed, steps)
        run = fit(config, self.dataset, folder, resume=(folder / "config.yaml").exists())
        return {"model": run.model, "steps": steps, "seconds": run.seconds}

    def config(self, way: str, seed: int, steps: int) -> RunConfig:
        """The recipe of one phase."""
        settings = [
            f"name=context-{way.replace(', ', '-')}",
            f"data.dataset={self.dataset.path.resolve()}",
            "train.device=cpu",
            f"train.seed={seed}",
            *(f"train.{key}={steps}" for key in ("steps", "validate_every")),
            f"train.checkpoint_every={-(-steps // 2)}",
        ]
        if way in SECOND:
            half = self.steps("crops", 0.5)
            first = (self.folder("crops", seed) / f"run-{half}").resolve()
            settings += [
                "data.sampling=scenes",
                "data.batch_size=1",
                "train.freeze_norm=all",
                f"train.init_from={first}",
                "train.init_part=all",
                f"optim.lr={self.args.scene_lr:g}",
                *SECOND[way],
            ]
        return load_config(CONFIGS / self.task.config, settings)

    def folder(self, way: str, seed: int) -> Path:
        """Where a cell lives."""
        return self.work / f"{self.args.seconds:g}" / f"{way.replace(', ', '-')}-{seed}"

    def steps(self, way: str, share: float) -> int:
        """Steps that a share of the time has room for."""
        seconds: float = share * self.args.seconds
        return max(12, round(seconds / self.pace()[way]))

    def pace(self) -> dict[str, float]:
        """Seconds of a training step of each way."""
        path = self.work / f"{self.args.seconds:g}" / "pace.json"
        return paces({way: self._alone(way) for way in WAYS}, self.dataset, path)

    def _alone(self, way: str) -> RunConfig:
        """A run of this kind that needs no first phase."""
        settings = [f"data.dataset={self.dataset.path.resolve()}", "train.device=cpu"]
        if way in SECOND:
            settings += ["data.sampling=scenes", "data.batch_size=1", *SECOND[way]]
        return load_config(CONFIGS / self.task.config, settings)

    def summary(self, cells: list[Cell]) -> dict[str, Any]:
        """Scores in percent and costs, in the order of the seeds."""
        found = {"miou": spread([cell["miou"] for cell in cells])}
        names = self.dataset.classes.names
        found |= {f"iou_{name}": spread([cell["iou"][name] for cell in cells]) for name in names}
        return {
            **found,
            **{key: [cell[key] for cell in cells] for key in ("steps", "train_seconds")},
        }

    def differences(self, cells: list[Cell], others: list[Cell]) -> dict[str, Any]:
        """Differences in points, paired by seed."""
        pairs = list(zip(cells, others, strict=True))
        found = {"miou": spread([a["miou"] - b["miou"] for a, b in pairs])}
        for name in self.task.waters:
            found[f"iou_{name}"] = spread([a["iou"][name] - b["iou"][name] for a, b in pairs])
        return found


def size_of(path: Path) -> tuple[int, int]:
    """Rows and columns of a raster."""
    with SceneReader(path) as reader:
        return reader.size.height, reader.size.width


@guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=tuple(TASKS), default="synthetic")
    parser.add_argument("--source", type=Path, help="folder with the picture of Blue Marble")
    parser.add_argument("--seconds", type=float, default=720.0, help="of training, each way")
    parser.add_argument("--scene-lr", type=float, default=5e-4, help="learning rate on scenes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/context"))
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    args = parser.parse_args()
    start = time.monotonic()
    data = Bench(args).run()
    print(json.dumps(data, indent=2))
    if not args.dry:
        name = "context" if args.task == "synthetic" else f"context-{args.task}"
        print(write_result(name, data, seconds=time.monotonic() - start))


if __name__ == "__main__":
    main()
