"""A few-label study, its summary kept as a result file.

The study is that of ``wholescene study few-labels``, with the same settings and in the same folder;
what is finished there is not run again.

    python benchmarks/few_labels.py configs/studies/eth-roads-few-labels.yaml --out runs/eth-roads
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from results import write_result

from wholescene.cli.console import guard, note, progress
from wholescene.config import load_study_config
from wholescene.study.few_labels import run_few_labels
from wholescene.study.few_labels_table import summarise_study


@guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="YAML file of the study")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and tables")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--name", help="of the result file; default: the study's")
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    args = parser.parse_args()
    start = time.perf_counter()
    config = load_study_config(args.study, args.settings)
    result, text = run_few_labels(config, args.out, say=note, bar=progress)
    print(text)
    if not args.dry:
        data = {
            "about": config.about,
            "settings": args.settings,
            "cells": len(result.cells),
            "pretraining_seconds": {
                name: each.seconds for name, each in result.pretrainings.items()
            },
            "finetuning_seconds": round(sum(cell.seconds or 0.0 for cell in result.cells), 1),
            "rows": summarise_study(result),
        }
        seconds = time.perf_counter() - start
        print(write_result(args.name or config.name, data, seconds=seconds))


if __name__ == "__main__":
    main()
