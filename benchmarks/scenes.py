r"""Train a config, map and score whole scenes, and keep the scores as a result file.

    python benchmarks/scenes.py configs/kampala-buildings.yaml --data data/kampala \
        --split test+test2

Finished work is kept: run it again after an interruption, or to write the result file once more.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from results import write_result

from wholescene.cli.console import guard
from wholescene.config import load_config
from wholescene.study.evaluation import evaluate_split
from wholescene.study.training import train_run

KEPT = ("overall_accuracy", "kappa", "miou", "mf1", "per_class", "boundary", "interval")


@guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="dataset.yaml or its folder")
    parser.add_argument("--split", default="test", help="split to score, or several joined by +")
    parser.add_argument("--out", type=Path, help="folder of run and evaluation")
    args = parser.parse_args()
    start = time.monotonic()
    settings = [f"data.dataset={args.data.resolve()}"]
    config = load_config(args.config, settings)
    out = args.out or Path("runs") / config.name
    run = train_run(
        args.config,
        settings,
        out=out / "run",
        resume=True,
        say=say,
        progress=lambda done, total: None,
    )
    document, text = evaluate_split(
        args.data, run.model, out / "evaluation", split=args.split, boundary_px=5, resume=True
    )
    say(text)
    data: dict[str, Any] = {
        "config": args.config.name,
        "settings": config.model_dump(mode="json"),
        "split": args.split,
        "train_seconds": round(run.seconds, 1),
        "val_miou": run.best_miou,
        **{key: document[key] for key in KEPT},
        "scenes": {scene.pop("id"): scene for scene in document["scenes"]},
    }
    data["settings"]["data"]["dataset"] = args.data.name
    say(str(write_result(config.name, data, seconds=time.monotonic() - start)))


def ignore(done: int, total: int) -> None:
    """Show no bar."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
