r"""What a second look at small objects gains, beside spending the same time on the first network.

A U-Net on ResNet-18 and a fine network of the same kind that corrects its windows with small
objects (``model.refine``), on vehicles of synthetic scenes and on the smallest third of Kampala
buildings. The ways, trained with the same seeds:

- ``coarse``: the U-Net alone, ``--seconds`` of training;
- ``refined``: the same U-Net, then its fine network for ``--fine-seconds``;
- ``refined warm``: the same, the fine encoder starting as a copy of the coarse one;
- ``longer``: the U-Net alone with the training time of both, ``--seconds + --fine-seconds``;
- ``longer, flips``: that network, each scene mapped as the mean of three mirrored views, about what
  a refined network costs when it maps with every window looked at again.

Training time is equal by steps: as many as the pace, measured once for each kind of network, lets
into the time. Seconds of mapping are measured and reported. Everything runs on the CPU.

    python benchmarks/kampala.py --out data/kampala && wholescene data stats data/kampala
    python benchmarks/refiner.py --kampala data/kampala --seconds 120 --fine-seconds 60

Finished cells are kept in ``--work`` and are not run again; remove the folder to start afresh.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from budget import kept, paces, spread
from refiner_data import METRICS, Study, kampala, vehicles
from results import write_result

from wholescene.cli.console import guard
from wholescene.config import RunConfig, load_config
from wholescene.models import load_model
from wholescene.prediction import predict
from wholescene.train import fit

WAYS = ("coarse", "refined", "refined warm", "longer", "longer, flips")
REFINED = ("refined", "refined warm")
CONTROLS = ("coarse", "longer", "longer, flips")
PLAIN = ("model.refine=null", "train.init_from=null", "train.init_part=encoder")
FEWEST_STEPS = 12
PACE_STEPS = 10

Cell = dict[str, Any]


class Bench:
    """Trains and scores what is missing."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.work: Path = args.work / f"{args.seconds:g}+{args.fine_seconds:g}"
        self.work.mkdir(parents=True, exist_ok=True)

    def run(self, studies: Sequence[Study]) -> dict[str, Any]:
        """Every cell, seed by seed, so that each way has a first result early."""
        cells: dict[str, dict[str, list[Cell]]] = {
            study.name: {way: [] for way in WAYS} for study in studies
        }
        for seed in self.args.seeds:
            for study in studies:
                for way in WAYS:
                    cells[study.name][way].append(self.cell(study, way, seed))
        return {
            "seconds": self.args.seconds,
            "fine_seconds": self.args.fine_seconds,
            "seeds": self.args.seeds,
            "equal": "training seconds of refined and longer, by pace; mapping: see map_seconds",
            **{study.name: self.table(study, cells[study.name]) for study in studies},
        }

    def table(self, study: Study, cells: dict[str, list[Cell]]) -> dict[str, Any]:
        """Scores and differences of one data set."""
        return {
            "scored": study.split,
            "class": study.small,
            "small_objects": cells["coarse"][0]["groups"][0],
            "seconds_a_step": {kind: self.pace(study, kind) for kind in ("plain", "refined")},
            "ways": {way: summary(found) for way, found in cells.items()},
            "gains_points": {
                f"{way} - {control}": differences(cells[way], cells[control])
                for way in REFINED
                for control in CONTROLS
            },
        }

    def cell(self, study: Study, way: str, seed: int) -> Cell:
        """One way with one seed, now or from before."""
        path = self.folder(study, way, seed) / "cell.json"
        found = kept(path, lambda: self.new_cell(study, way, seed))
        print(json.dumps(found), flush=True)
        return found

    def new_cell(self, study: Study, way: str, seed: int) -> Cell:
        """Train, map and score."""
        folder = self.folder(study, way, seed)
        trained = self.train(study, way, seed)
        network = load_model(trained["model"])
        maps, seconds = {}, 0.0
        for scene in study.dataset.split(study.split):
            maps[scene.id] = folder / f"{scene.id}.tif"
            views = "flips" if way == "longer, flips" else None
            result = predict(
                scene.files, network, maps[scene.id], engine="whole", device="cpu", tta=views
            )
            seconds += result.seconds
        cell = {"study": study.name, "way": way, "seed": seed, **trained}
        return cell | {"map_seconds": round(seconds, 2), **study.score(maps)}

    def train(self, study: Study, way: str, seed: int) -> dict[str, Any]:
        """Train a network, or the rest of one; gives its model, steps and seconds."""
        if way == "longer, flips":
            return self.train(study, "longer", seed)
        if way in REFINED:
            self.train(study, "coarse", seed)
        folder, steps = self.folder(study, way, seed) / "run", self.steps(study, way)
        config = self.config(study, way, seed, steps)
        run = fit(config, study.dataset, folder, resume=(folder / "config.yaml").exists())
        return {"model": str(run.model), "steps": steps, "train_seconds": round(run.seconds, 1)}

    def folder(self, study: Study, way: str, seed: int) -> Path:
        """Where a cell lives."""
        return self.work / study.name / f"{way.replace(', ', '-').replace(' ', '-')}-{seed}"

    def config(self, study: Study, way: str, seed: int, steps: int) -> RunConfig:
        """The recipe of a way."""
        coarse = (self.folder(study, "coarse", seed) / "run").resolve()
        settings = [f"train.init_from={coarse}"] if way in REFINED else [*PLAIN]
        if way == "refined warm":
            settings.append(f"model.refine.weights={coarse}")
        lengths = {"steps": steps, "validate_every": steps, "checkpoint_every": -(-steps // 2)}
        return load_config(
            study.config,
            [
                f"name=refiner-{study.name}-{way.replace(' ', '-')}",
                f"data.dataset={study.dataset.path.resolve()}",
                f"train.seed={seed}",
                "train.device=cpu",
                *(f"train.{key}={value}" for key, value in lengths.items()),
                *settings,
            ],
        )

    def steps(self, study: Study, way: str) -> int:
        """Training steps of a way, as its pace allows; of a refined one only the fine part."""
        first, second = self.args.seconds, self.args.fine_seconds
        seconds: float = {"coarse": first, "longer": first + second}.get(way, second)
        pace = self.pace(study, "refined" if way in REFINED else "plain")
        return max(FEWEST_STEPS, round(seconds / pace))

    def pace(self, study: Study, kind: str) -> float:
        """Seconds of a training step; both kinds are measured once, in turns."""
        ways = {"plain": "coarse", "refined": "refined"}
        configs = {name: self.config(study, way, 0, 100) for name, way in ways.items()}
        path = self.work / study.name / "pace.json"
        return paces(configs, study.dataset, path)[kind]


def summary(cells: Sequence[Cell]) -> dict[str, Any]:
    """Scores in percent and costs, in the order of the seeds."""
    scores = {metric: spread([cell[metric] for cell in cells]) for metric in METRICS}
    costs = {key: [cell[key] for cell in cells] for key in ("steps", "train_seconds")}
    return {**scores, **costs, "map_seconds": [cell["map_seconds"] for cell in cells]}


def differences(cells: Sequence[Cell], others: Sequence[Cell]) -> dict[str, Any]:
    """Differences in points, paired by seed."""
    return {
        metric: spread([a[metric] - b[metric] for a, b in zip(cells, others, strict=True)])
        for metric in METRICS
    }


@guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kampala", type=Path, default=Path("data/kampala"))
    parser.add_argument("--studies", nargs="+", default=["vehicles", "kampala"])
    parser.add_argument("--seconds", type=float, default=120.0, help="of coarse training")
    parser.add_argument("--fine-seconds", type=float, help="of fine training; half if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/refiner"))
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    args = parser.parse_args()
    args.fine_seconds = args.fine_seconds or args.seconds / 2
    start = time.monotonic()
    make: dict[str, Callable[[], Study]] = {
        "vehicles": lambda: vehicles(args.work / "scenes"),
        "kampala": lambda: kampala(args.kampala),
    }
    data = Bench(args).run([make[name]() for name in args.studies])
    print(json.dumps(data, indent=2))
    if not args.dry:
        print(write_result("refiner", data, seconds=time.monotonic() - start))


if __name__ == "__main__":
    main()
