"""A run that is cut short anywhere ends with the weights of a run that was not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_dataset import MakeConfig

from wholescene.config import RunConfig, dump_config
from wholescene.datasets import Dataset
from wholescene.errors import OutputError, ResumeError
from wholescene.train import TrainMessage, TrainStep, Validating, fit, read_metrics
from wholescene.train.checkpoint import LAST, read_checkpoint

TIMES = ("seconds", "patches_per_second")

# Dropout, augmentation with noise, running statistics, accumulation and averaged weights at once.
EVERYTHING: dict[str, dict[str, Any]] = {
    "data": {"gain": 0.2, "noise": 0.1, "scale_jitter": [0.5, 2.0], "patches_per_epoch": 6},
    "optim": {"accumulate": 2, "clip_norm": 1.0, "warmup_steps": 2, "layer_decay": 0.7},
    "train": {"ema": {"decay": 0.9}},
}


class CrashError(Exception):
    """Stands for a kill: nothing after it runs."""


class CrashAt:
    """Progress that fails at a step, before anything of the step is on disk."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, message: TrainMessage) -> None:
        if isinstance(message, TrainStep) and message.step == self.step:
            raise CrashError


class InterruptAt:
    """Progress that sends a signal to the process when a message of a kind and step comes."""

    def __init__(self, step: int, kind: type, number: signal.Signals = signal.SIGINT) -> None:
        self.step, self.kind, self.number = step, kind, number

    def __call__(self, message: TrainMessage) -> None:
        if isinstance(message, self.kind) and getattr(message, "step", None) == self.step:
            self.step = -1
            signal.raise_signal(self.number)


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Everything that was learned: raw weights, average, optimiser, exported model."""
    checkpoint = read_checkpoint(out / LAST)
    flat = {f"raw.{key}": value for key, value in checkpoint["state_dict"].items()}
    average = checkpoint["wholescene"]["average"]
    if average is not None:
        flat |= {f"average.{key}": value for key, value in average["model"].items()}
    for number, state in checkpoint["optimizer_states"][0]["state"].items():
        flat |= {f"optim.{number}.{k}": v for k, v in state.items() if torch.is_tensor(v)}
    return flat | {f"model.{k}": v for k, v in load_file(out / "model/model.safetensors").items()}


def assert_same_run(cut: Path, whole: Path) -> None:
    first, second = weights(cut), weights(whole)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    rows = [
        [
            {k: v for k, v in row.items() if k not in TIMES}
            for row in read_metrics(out / "metrics.csv")
        ]
        for out in (cut, whole)
    ]
    assert rows[0] == rows[1]


@pytest.fixture(scope="module")
def config(make_config: MakeConfig) -> RunConfig:
    return make_config(**EVERYTHING)


@pytest.fixture(scope="module")
def whole(config: RunConfig, tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run nobody disturbed; tests that change it work on ``finished``."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit(config, tiny, out)
    return out


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "finished"))


def test_two_runs_are_bit_identical(
    config: RunConfig, tiny: Dataset, whole: Path, tmp_path: Path
) -> None:
    fit(config, tiny, tmp_path / "again")
    assert_same_run(tmp_path / "again", whole)


def test_run_crashed_at_every_step_ends_the_same(
    config: RunConfig, tiny: Dataset, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cut"
    for step in range(1, config.train.steps + 1):
        with pytest.raises(CrashError):
            fit(config, tiny, out, resume=True, progress=CrashAt(step))
    result = fit(config, tiny, out, resume=True)
    assert result.resumed_from == 4  # the checkpoint before the last step
    assert_same_run(out, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_saves_its_last_step(
    config: RunConfig, tiny: Dataset, whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out, before = tmp_path / "cut", signal.getsignal(number)
    for step, saved in ((2, 3), (4, 5)):  # the signal comes too late for its own step
        with pytest.raises(KeyboardInterrupt, match=f"step {saved}"):
            progress = InterruptAt(step, TrainStep, number)
            fit(config, tiny, out, resume=True, progress=progress)
        assert read_checkpoint(out / LAST)["global_step"] == saved
        assert signal.getsignal(number) is before
    fit(config, tiny, out, resume=True)
    assert_same_run(out, whole)


@pytest.mark.parametrize("step", [3, 6])
def test_interrupted_validation_is_made_up_for(
    config: RunConfig, tiny: Dataset, whole: Path, tmp_path: Path, step: int
) -> None:
    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        fit(config, tiny, out, progress=InterruptAt(step, Validating))
    assert step not in [row["step"] for row in read_metrics(out / "metrics.csv")]
    fit(config, tiny, out, resume=True)
    assert_same_run(out, whole)


def test_workers_change_nothing(
    make_config: MakeConfig, tiny: Dataset, whole: Path, tmp_path: Path
) -> None:
    data = {**EVERYTHING["data"], "num_workers": 2}
    fit(make_config(**{**EVERYTHING, "data": data}), tiny, tmp_path / "workers")
    assert_same_run(tmp_path / "workers", whole)


def test_finished_run_is_exported_again(config: RunConfig, tiny: Dataset, finished: Path) -> None:
    exported = (finished / "model/model.safetensors").read_bytes()
    (finished / "model/model.safetensors").unlink()
    result = fit(config, tiny, finished, resume=True)
    assert result.resumed_from == config.train.steps
    assert (finished / "model/model.safetensors").read_bytes() == exported


def test_resume_under_other_settings_is_refused(
    make_config: MakeConfig, config: RunConfig, tiny: Dataset, finished: Path
) -> None:
    changed = make_config(**{**EVERYTHING, "model": {"decoder_options": {"channels": 8}}})
    with pytest.raises(ResumeError, match=r"model\.decoder_options.*channels.*new folder"):
        fit(changed, tiny, finished, resume=True)


def test_settings_that_change_no_weight_may_differ(
    make_config: MakeConfig, tiny: Dataset, finished: Path
) -> None:
    train = {**EVERYTHING["train"], "log_every": 1, "checkpoint_every": 5}
    fit(make_config(**{**EVERYTHING, "train": train}), tiny, finished, resume=True)


def test_used_folder_needs_resume(config: RunConfig, tiny: Dataset, whole: Path) -> None:
    with pytest.raises(OutputError, match=r"not empty.*--resume"):
        fit(config, tiny, whole)


def test_folder_of_something_else_cannot_be_resumed(
    config: RunConfig, tiny: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ResumeError, match=r"no config\.yaml"):
        fit(config, tiny, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_damaged_checkpoint_is_named(config: RunConfig, tiny: Dataset, finished: Path) -> None:
    content = (finished / LAST).read_bytes()
    (finished / LAST).write_bytes(content[: len(content) // 2])
    with pytest.raises(ResumeError, match=r"cannot read checkpoint .*last\.ckpt"):
        fit(config, tiny, finished, resume=True)


SCRIPT = """
import sys
from wholescene.config import load_config
from wholescene.train import fit
config = load_config(sys.argv[1])
fit(config, config.data.dataset, sys.argv[2], resume=True)
"""


@pytest.mark.slow
def test_run_killed_at_random_moments_ends_the_same(
    config: RunConfig, tiny: Dataset, whole: Path, tmp_path: Path
) -> None:
    rng, out, file = random.Random(0), tmp_path / "killed", tmp_path / "config.yaml"
    dump_config(config, file)
    command = [sys.executable, "-c", SCRIPT, str(file), str(out)]
    kills = 0
    while kills < 5:
        process = subprocess.Popen(command, env=os.environ)
        metrics = out / "metrics.csv"
        while process.poll() is None and not metrics.exists():
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.0))
        process.kill()
        process.wait()
        kills += 1
    subprocess.run(command, check=True, env=os.environ)
    assert_same_run(out, whole)
