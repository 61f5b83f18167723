from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from tiny_dataset import MakeConfig, make_dataset

from wholescene.config import RunConfig, dump_config
from wholescene.datasets import Dataset
from wholescene.errors import InputError
from wholescene.launch import run_ranks
from wholescene.train import Notice, TrainMessage, TrainProgress, TrainStep, fit, read_metrics

pytestmark = pytest.mark.slow  # every process imports torch again


def add_ranks(say: TrainProgress) -> float:
    dist.init_process_group("gloo")
    total = torch.tensor(float(dist.get_rank() + 1))
    dist.all_reduce(total)
    say(Notice(text=f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"))
    dist.destroy_process_group()
    return float(total)


def fail_on(rank: int, say: TrainProgress) -> None:
    dist.init_process_group("gloo")
    if os.environ["RANK"] == str(rank):
        raise InputError("rank 1 has had enough")
    dist.barrier()  # would wait for ever


def test_ranks_meet_and_report() -> None:
    messages: list[TrainMessage] = []
    assert run_ranks(add_ranks, num_ranks=2, progress=messages.append) == 3.0
    assert messages == [Notice(text="rank 0 of 2")]


def test_error_of_any_rank_ends_all() -> None:
    with pytest.raises(InputError, match="rank 1 has had enough"):
        run_ranks(partial(fail_on, 1), num_ranks=2, progress=None)


@pytest.fixture
def even(tmp_path: Path) -> Dataset:
    """Every pixel labelled, so that the mean over ranks is the mean over pixels."""
    return make_dataset(tmp_path / "even", {"train": 2, "val": 1}, ignored_rows=0)


def config_for(
    make_config: MakeConfig, dataset: Dataset, *, devices: int, batch_size: int, **model: Any
) -> RunConfig:
    return make_config(
        data={"dataset": str(dataset.path), "batch_size": batch_size, "patches_per_epoch": 8},
        model={"decoder_options": {"dropout": 0.0}, **model},
        optim={"name": "sgd", "clip_norm": 1.0, "accumulate": 2},
        train={"devices": devices, "freeze_norm": "all", "ema": {"decay": 0.5}, "log_every": 1},
    )


def test_two_processes_do_what_one_does_with_twice_the_batch(
    make_config: MakeConfig, even: Dataset, tmp_path: Path
) -> None:
    fit(config_for(make_config, even, devices=1, batch_size=4), even, tmp_path / "one")
    fit(config_for(make_config, even, devices=2, batch_size=2), even, tmp_path / "two")
    rows = [read_metrics(tmp_path / name / "metrics.csv") for name in ("one", "two")]
    for key in ("step", "epoch", "loss", "val_miou", "val_loss"):
        columns = [[row[key] for row in part if key in row] for part in rows]
        assert columns[0] == pytest.approx(columns[1], rel=1e-4), key
    weights = [load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_interrupted_processes_stop_together_and_resume(
    make_config: MakeConfig, even: Dataset, tmp_path: Path
) -> None:
    config = config_for(make_config, even, devices=2, batch_size=2, auxiliary=True)
    fit(config, even, tmp_path / "whole")
    sent: list[int] = []

    def interrupt(message: TrainMessage) -> None:
        if isinstance(message, TrainStep) and not sent:
            sent.append(message.step)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(config, even, tmp_path / "cut", progress=interrupt)
    assert sent
    fit(config, even, tmp_path / "cut", resume=True)
    files = [tmp_path / name / "model/model.safetensors" for name in ("cut", "whole")]
    first, second = (load_file(file) for file in files)
    assert all(torch.equal(first[name], second[name]) for name in second)


SCRIPT = """
import sys
from wholescene.config import load_config
from wholescene.train import fit
config = load_config(sys.argv[1])
fit(config, config.data.dataset, sys.argv[2], resume=True)
"""


def test_torchrun_does_what_own_processes_do(
    make_config: MakeConfig, even: Dataset, tmp_path: Path
) -> None:
    config = config_for(make_config, even, devices=2, batch_size=2, auxiliary=True)
    dump_config(config, tmp_path / "config.yaml")
    (tmp_path / "train.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [str(tmp_path / name) for name in ("train.py", "config.yaml", "torchrun")]
    subprocess.run([*launcher, *command], check=True, env=os.environ)
    fit(config, even, tmp_path / "own")
    files = [tmp_path / name / "model/model.safetensors" for name in ("torchrun", "own")]
    first, second = (load_file(file) for file in files)
    assert all(torch.equal(first[name], second[name]) for name in second)
