"""Rows and cells of a few-label study, and where each lives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from wholescene.config import (
    PretrainConfig,
    RunConfig,
    StudyConfig,
    StudyScoring,
    config_hash,
    load_config,
    load_pretrain_config,
)
from wholescene.config.study import RANDOM
from wholescene.datasets import (
    Dataset,
    FractionTable,
    draw_fractions,
    read_fraction,
    write_fraction,
)
from wholescene.errors import ConfigError, InputError

__all__ = ["Cell", "Labels", "Row", "draw_labels", "find_cells", "find_rows"]

REPEAT_SEEDS = 1000
"""Distance of the seeds of two repeats; draws have the seeds between."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table.

    Args:
        name: Name of the method, or of the random start.
        baseline: Row from random weights with the same encoder; ``None`` for such a row.
        pretraining: What is learned first; ``None`` for random weights.
        part: What fine-tuning takes over.
        finetune: Fine-tuning with the encoder of this row.
    """

    name: str
    baseline: str | None
    pretraining: PretrainConfig | None
    part: Literal["encoder", "all"]
    finetune: RunConfig

    def start(self, out: Path) -> Path | None:
        """Folder of the pre-training; other settings live elsewhere, equal ones together."""
        if self.pretraining is None:
            return None
        name = f"{self.pretraining.name}-{config_hash(self.pretraining)[:8]}"
        return out / "pretraining" / name


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels that some cells may see.

    Args:
        by: What was drawn.
        fraction: Share of the labels.
        draw: Number, and seed, of the draw.
        path: The table; that of an earlier draw if it chose the same.
        count: Windows or scenes in it.
    """

    by: str
    fraction: float
    draw: int
    path: Path
    count: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fine-tuning.

    Args:
        row: Its row.
        labels: What it may see.
        repeat: Number of the fine-tuning on these labels.
        config: All settings of the fine-tuning.
        test_split: What is scored.
        scoring: How it is mapped.
    """

    row: Row
    labels: Labels
    repeat: int
    config: RunConfig
    test_split: str
    scoring: StudyScoring

    @property
    def digest(self) -> str:
        """Digest of all that the score depends on."""
        everything = _CellSettings(
            run=self.config, test_split=self.test_split, scoring=self.scoring
        )
        return config_hash(everything)

    def folder(self, out: Path) -> Path:
        """Where the run lives; other settings live elsewhere."""
        return out / "cells" / f"{self.config.name}-{self.digest[:8]}"


class _CellSettings(BaseModel):
    run: RunConfig
    test_split: str
    scoring: StudyScoring


def find_rows(study: StudyConfig, dataset: Dataset) -> tuple[Row, ...]:
    """The random rows, then the methods, in the order of the study.

    Raises:
        ConfigError: If a configuration is not legal, or the two sides do not fit.
    """
    finetune = load_config(study.finetune, study.finetune_changes)
    _check_start(finetune)
    pretrainings = {}
    for name, method in study.methods.items():
        found = load_pretrain_config(method.pretrain, [*study.pretrain_changes, *method.changes])
        pool = {"dataset": dataset.path, "split": study.pool}
        found = found.model_copy(update={"data": found.data.model_copy(update=pool)})
        if method.part == "all":
            _check_decoder(name, found, finetune)
        pretrainings[name] = found
    baselines = _name_baselines(list(pretrainings.values()))
    randoms = {
        name: Row(
            name=name,
            baseline=None,
            pretraining=None,
            part="encoder",
            finetune=_with_encoder(finetune, found),
        )
        for found in pretrainings.values()
        if (name := baselines[_encoder(found)])
    }
    methods = [
        Row(
            name=name,
            baseline=baselines[_encoder(found)],
            pretraining=found,
            part=study.methods[name].part,
            finetune=_with_encoder(finetune, found),
        )
        for name, found in pretrainings.items()
    ]
    return (*randoms.values(), *methods)


def draw_labels(study: StudyConfig, dataset: Dataset, out: Path) -> list[Labels]:
    """Draw and write all label tables.

    Raises:
        InputError: If a table is there already and lists other labels.
        DatasetError: If there is nothing to draw from.
    """
    found, paths = [], {}
    for by in study.by:
        tables = draw_fractions(
            dataset,
            study.fractions,
            seeds=range(study.draws),
            by=by,
            patch_px=study.patch_px,
            split=study.train_split,
        )
        for table in tables:
            # Draws of all labels, and of the one scene that every small share rounds to, are equal.
            key = (by, table.rows)
            if key not in paths:
                paths[key] = _write_once(table, out / "labels")
            labels = Labels(
                by=by,
                fraction=table.fraction,
                draw=table.seed,
                path=paths[key],
                count=len(table.rows),
            )
            found.append(labels)
    return found


def find_cells(
    study: StudyConfig, rows: Sequence[Row], labels: Sequence[Labels], out: Path
) -> Iterator[Cell]:
    """Every cell: draw by draw, so that all rows have a first result early."""
    ordered = sorted(labels, key=lambda each: each.draw)
    for repeat, drawn, row in product(range(study.repeats), ordered, rows):
        config = row.finetune
        data = config.data.model_copy(
            update={
                "train_split": study.train_split,
                "val_split": study.select_on,
                "fraction": drawn.path,
            }
        )
        seed = config.train.seed + drawn.draw + REPEAT_SEEDS * repeat
        train = config.train.model_copy(
            update={"seed": seed, "init_from": row.start(out), "init_part": row.part}
        )
        name = f"{row.name}-{drawn.path.stem}-seed{seed}"
        changed = config.model_copy(update={"name": name, "data": data, "train": train})
        yield Cell(
            row=row,
            labels=drawn,
            repeat=repeat,
            config=changed,
            test_split=study.test_split,
            scoring=study.scoring,
        )


def _check_start(finetune: RunConfig) -> None:
    model = finetune.model
    if model.refine is not None:
        raise ConfigError("finetune: model.refine starts from a trained network; leave it out")
    if model.pretrained or model.weights is not None or finetune.train.init_from is not None:
        raise ConfigError(
            "finetune: model.pretrained, model.weights and train.init_from start the network, "
            "which is what the methods of a study differ in; leave them out, or give them to the "
            "pre-training of a method"
        )


def _check_decoder(name: str, pretraining: PretrainConfig, finetune: RunConfig) -> None:
    before, after = (
        (config.model.decoder, config.model.decoder_options) for config in (pretraining, finetune)
    )
    if before != after:
        raise ConfigError(
            f"method {name!r} hands its decoder on (part: all), which is {before[0]!r} with "
            f"{before[1]}, but finetune has {after[0]!r} with {after[1]}; make them equal, or set "
            "part: encoder"
        )


def _encoder(config: PretrainConfig) -> tuple[str, str]:
    return config.model.encoder, json.dumps(config.model.encoder_options, sort_keys=True)


def _name_baselines(pretrainings: Sequence[PretrainConfig]) -> dict[tuple[str, str], str]:
    """Name of the random row of each encoder."""
    encoders = list(dict.fromkeys(_encoder(found) for found in pretrainings))
    if len(encoders) == 1:
        return {encoders[0]: RANDOM}
    names = [encoder for encoder, _ in encoders]
    return {
        each: f"{RANDOM}-{each[0]}" + (f"-{number}" if names.count(each[0]) > 1 else "")
        for number, each in enumerate(encoders)
    }


def _with_encoder(finetune: RunConfig, pretraining: PretrainConfig) -> RunConfig:
    """Fine-tuning on the encoder and the dataset of a pre-training."""
    model = {
        "encoder": pretraining.model.encoder,
        "encoder_options": pretraining.model.encoder_options,
    }
    data = {"dataset": pretraining.data.dataset}
    return finetune.model_copy(
        update={
            "model": finetune.model.model_copy(update=model),
            "data": finetune.data.model_copy(update=data),
        }
    )


def _write_once(table: FractionTable, folder: Path) -> Path:
    unit = f"{table.by}{table.patch_px or ''}"
    path = folder / f"{table.split}-{unit}-{table.fraction:g}-draw{table.seed}.csv"
    if path.is_file():
        if read_fraction(path) != table:
            raise InputError(
                f"{path} lists other labels than are drawn now, so the dataset has changed since "
                "the study began; give --out another folder"
            )
        return path
    return write_fraction(table, path)
