"""Training for a given time, in steps by pace, so that runs can be repeated."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wholescene.config import RunConfig
from wholescene.datasets import Dataset
from wholescene.models import build_segmenter
from wholescene.raster.aside import written_aside
from wholescene.train.optim import build_optimizer
from wholescene.train.setup import EndlessBatches, prepare_run

__all__ = ["kept", "paces", "spread", "training_steps"]

PACE_STEPS = 10


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a JSON file holds, made and written first where it is missing."""
    if not path.is_file():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as part:
            part.write_text(json.dumps(found), encoding="utf-8")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def paces(configs: Mapping[str, RunConfig], dataset: Dataset, path: Path) -> dict[str, float]:
    """Seconds of a training step of each kind of run, measured once and in turns.

    Args:
        configs: A run of each kind; its length does not matter.
        dataset: What it trains on.
        path: JSON file of the result, which is read if it is there.
    """

    def measured() -> dict[str, float]:
        steps = {kind: training_steps(config, dataset) for kind, config in configs.items()}
        turns = [{kind: next(each) for kind, each in steps.items()} for _ in range(PACE_STEPS + 2)]
        return {
            kind: round(statistics.median(turn[kind] for turn in turns[2:]), 4) for kind in configs
        }

    return kept(path, measured)


def training_steps(config: RunConfig, dataset: Dataset) -> Iterator[float]:
    """Seconds of each step of a training that starts from chance, reading included."""
    parts = prepare_run(config, dataset)
    model = build_segmenter(parts.spec).train()
    optimizer = build_optimizer(model, config.optim)
    parts.data.setup("fit")
    batches = iter(EndlessBatches(parts.data))
    while True:
        begin = time.perf_counter()
        batch = next(batches)
        optimizer.zero_grad()
        outputs = model.forward_train(batch["image"], batch["label"])
        parts.loss(outputs, batch["label"]).backward()
        optimizer.step()
        yield time.perf_counter() - begin


def spread(shares: Sequence[float]) -> dict[str, Any]:
    """Each value in percent, their mean and standard deviation."""
    values = [100 * share for share in shares]
    return {
        "each": [round(value, 2) for value in values],
        "mean": round(statistics.fmean(values), 2),
        "spread": round(statistics.stdev(values), 2) if len(values) > 1 else None,
    }
