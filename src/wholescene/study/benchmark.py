"""A table of models under one protocol: train, map, score; what is there is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wholescene.config import RunConfig, load_config
from wholescene.datasets import Dataset, load_dataset
from wholescene.errors import ConfigError, InputError
from wholescene.evaluate.protocol import Protocol, load_protocol
from wholescene.models import load_model
from wholescene.prediction import predict
from wholescene.progress import Progress
from wholescene.raster.aside import written_aside
from wholescene.study.benchmark_table import write_table
from wholescene.study.cost import count_cost
from wholescene.study.evaluation import evaluate_split
from wholescene.study.training import narrate
from wholescene.train import fit
from wholescene.train.record import settings_hash

__all__ = ["BenchmarkRow", "run_benchmark"]

RESULT_FILE = "result.json"


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """One model, one seed.

    Args:
        model: Name of its configuration.
        seed: Seed of the run.
        config_hash: Digest of every setting; a row of the same hash is not made again.
        protocol: Name of the protocol.
        headline: Name of the figure the protocol reports.
        score: That figure, a share; ``None`` if undefined.
        figures: All headline figures under the protocol's rules.
        per_class: IoU of each class.
        parameters: Parameters of the network as it predicts.
        multiply_adds: Multiplications for an image of 1,024 x 1,024 px.
        seconds_per_megapixel: Time of mapping the first scored scene, reading and writing
            included.
        peak_bytes: Highest resident memory of the process by then.
        train_seconds: Time of training.
        steps: Steps of training.
    """

    model: str
    seed: int
    config_hash: str
    protocol: str
    headline: str
    score: float | None
    figures: Mapping[str, float | None]
    per_class: Mapping[str, float | None]
    parameters: int
    multiply_adds: int
    seconds_per_megapixel: float
    peak_bytes: int
    train_seconds: float
    steps: int


def run_benchmark(
    protocol: str | Path,
    dataset: str | Path,
    models: Sequence[Path],
    out: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    overrides: Sequence[str] = (),
    say: Callable[[str], None],
    progress: Progress,
    **engine: Any,
) -> tuple[list[BenchmarkRow], str]:
    """Train every model with every seed on the protocol's training scenes, and score it.

    Each run lives in ``out/<model>-seed<seed>-<hash>``. Interrupted runs are continued, finished
    ones kept as long as their settings are the same. After each row the tables
    ``benchmark.json``, ``.csv`` and ``.html`` are written anew.

    Args:
        protocol: Name or file of the protocol.
        dataset: Dataset prepared as the protocol says.
        models: One configuration per model; its dataset, validation split and seed are replaced.
        out: Folder for runs and tables.
        seeds: Seeds of the runs.
        overrides: Changes to every configuration, such as ``"train.steps=100"``.
        say: Receives one line per event worth reading.
        progress: Called with what is done of the step under way.
        engine: Further arguments of :func:`wholescene.predict`.

    Returns:
        The rows, and a table as text.

    Raises:
        ConfigError: If a configuration is not legal, or two have the same name.
        InputError: If the dataset is not the protocol's, or no model or seed is given.
    """
    rules, found = load_protocol(protocol), load_dataset(dataset)
    rules.check(found)
    tasks = list(_tasks(rules, found, models, seeds, overrides))
    rows: list[BenchmarkRow] = []
    for number, task in enumerate(tasks, start=1):
        say(f"[{number}/{len(tasks)}] {task.name}, seed {task.seed}")
        rows.append(task.run(Path(out), protocol, say, progress, engine))
        text = write_table(Path(out), rules, rows)
    return rows, text


@dataclass(frozen=True)
class _Task:
    """One model and seed."""

    config: RunConfig
    rules: Protocol
    dataset: Dataset

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def seed(self) -> int:
        return self.config.train.seed

    def folder(self, out: Path) -> Path:
        """Where the run lives; other settings live elsewhere."""
        return out / f"{self.name}-seed{self.seed}-{settings_hash(self.config)[:8]}"

    def run(
        self,
        out: Path,
        protocol: str | Path,
        say: Callable[[str], None],
        progress: Progress,
        engine: Mapping[str, Any],
    ) -> BenchmarkRow:
        """Do what is not done."""
        folder = self.folder(out)
        done = folder / self.rules.name / RESULT_FILE
        if done.is_file():
            say(f"  kept: {done}")
            return BenchmarkRow(**json.loads(done.read_text(encoding="utf-8")))
        trained = fit(
            self.config,
            self.dataset,
            folder,
            resume=(folder / "config.yaml").is_file(),
            progress=narrate(say, progress),
        )
        scores, _ = evaluate_split(
            self.dataset.path,
            trained.model,
            folder / self.rules.name,
            protocol=protocol,
            resume=True,
            progress=progress,
            **engine,
        )
        row = self._row(scores, trained.model, trained.seconds, folder / self.rules.name, engine)
        with written_aside(done) as part:
            part.write_text(json.dumps(asdict(row), indent=2), encoding="utf-8")
        return row

    def _row(
        self,
        scores: Mapping[str, Any],
        model: Path,
        seconds: float,
        folder: Path,
        engine: Mapping[str, Any],
    ) -> BenchmarkRow:
        figures = scores["conventions"][self.rules.convention]
        network = load_model(model)
        parameters, multiply_adds = count_cost(network)
        scene = self.dataset.split(self.rules.split)[0]
        timed = predict(scene.files, network, folder / "timed.tif", **engine)
        timed.output.unlink()
        return BenchmarkRow(
            model=self.name,
            seed=self.seed,
            config_hash=settings_hash(self.config),
            protocol=self.rules.name,
            headline=self.rules.headline,
            score=figures[self.rules.headline],
            figures=figures,
            per_class={name: each["iou"] for name, each in scores["per_class"].items()},
            parameters=parameters,
            multiply_adds=multiply_adds,
            seconds_per_megapixel=timed.seconds / timed.pixels * 1e6,
            peak_bytes=timed.peak_rss_bytes,
            train_seconds=seconds,
            steps=self.config.train.steps,
        )


def _tasks(
    rules: Protocol,
    dataset: Dataset,
    models: Sequence[Path],
    seeds: Sequence[int],
    overrides: Sequence[str],
) -> Iterator[_Task]:
    if not models or not seeds:
        raise InputError("a benchmark needs at least one model (--models) and one seed (--seeds)")
    configs = [
        [
            load_config(
                path,
                [
                    *overrides,
                    f"data.dataset={dataset.path}",
                    f"data.val_split={rules.select_on}",
                    f"train.seed={seed}",
                ],
            )
            for seed in seeds
        ]
        for path in models
    ]
    names = [each[0].name for each in configs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(
            f"two configurations are called {repeated[0]!r}; give each a 'name' of its own"
        )
    # Seed by seed, so that every model has a first result early.
    for number in range(len(seeds)):
        for each in configs:
            yield _Task(each[number], rules, dataset)
