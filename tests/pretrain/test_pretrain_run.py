"""A whole pre-training: run directory, resume, transfer, probe, command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_pool import MakeConfig

from wholescene.cli import app
from wholescene.config import RunConfig, dump_config, load_pretrain_config
from wholescene.datasets import Dataset, SceneRecord, load_dataset, write_dataset
from wholescene.errors import ConfigError, DatasetError, ModelFileError, ResumeError
from wholescene.models import load_model
from wholescene.pretrain import plan_pretraining, pretrain
from wholescene.train import Notice, TrainMessage, TrainStep, Validated, fit, read_metrics
from wholescene.train.checkpoint import LAST, read_checkpoint

GLCNET = {
    "data": {"window_px": 72},
    "views": {"view_px": 64},
    "method": {"name": "glcnet", "options": {"region_px": 12}},
    "model": {"decoder": "deeplabv3plus", "decoder_options": {"channels": 16}},
}
PROBE = {"windows": 12, "neighbours": 3}


class CrashError(Exception):
    """Stands for a kill."""


def crash_at(step: int):
    def receive(message: TrainMessage) -> None:
        if isinstance(message, TrainStep) and message.step == step:
            raise CrashError

    return receive


def state(out: Path) -> dict[str, torch.Tensor]:
    checkpoint = read_checkpoint(out / LAST)
    flat = dict(checkpoint["state_dict"])
    for number, part in checkpoint["optimizer_states"][0]["state"].items():
        flat |= {f"optim.{number}.{k}": v for k, v in part.items() if torch.is_tensor(v)}
    return flat | load_file(out / "model/model.safetensors")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_writes_what_it_promises(
    make_pretrain_config: MakeConfig, pool: Dataset, tmp_path: Path, precision: str
) -> None:
    config = make_pretrain_config(probe=PROBE, train={"precision": precision}, **GLCNET)
    messages: list[TrainMessage] = []
    result = pretrain(config, pool, tmp_path / "run", progress=messages.append)
    assert result.trained == "all"
    assert load_pretrain_config(tmp_path / "run/config.yaml") == config
    rows = read_metrics(tmp_path / "run/metrics.csv")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if "knn_accuracy" in row] == [2, 4]
    assert rows[-1]["embedding_spread"] > 0.05
    model = load_model(tmp_path / "run")
    assert model.spec.provenance["pretraining"] == "glcnet"
    assert model.spec.band_names == ("red", "green", "blue", "nir")
    notices = [message.text for message in messages if isinstance(message, Notice)]
    assert any(text.startswith("before:") and "colour histograms" in text for text in notices)
    assert not any(isinstance(message, Validated) for message in messages)


@pytest.mark.parametrize("method", ["simclr", "glcnet"])
def test_a_resumed_run_ends_with_the_same_weights(
    make_pretrain_config: MakeConfig, pool: Dataset, tmp_path: Path, method: str
) -> None:
    sections = GLCNET if method == "glcnet" else {}
    config = make_pretrain_config(optim={"accumulate": 2}, **sections)
    pretrain(config, pool, tmp_path / "whole")
    for step in (1, 3):
        with pytest.raises(CrashError):
            pretrain(config, pool, tmp_path / "cut", resume=True, progress=crash_at(step))
    result = pretrain(config, pool, tmp_path / "cut", resume=True)
    assert result.resumed_from == 2
    first, second = state(tmp_path / "cut"), state(tmp_path / "whole")
    assert first.keys() == second.keys()
    assert [name for name in second if not torch.equal(first[name], second[name])] == []
    other = make_pretrain_config(optim={"lr": 0.1, "accumulate": 2}, **sections)
    with pytest.raises(ResumeError, match=r"optim\.lr"):
        pretrain(other, pool, tmp_path / "cut", resume=True)


def test_workers_and_draw_by_scene_give_the_same_windows(
    make_pretrain_config: MakeConfig, pool: Dataset, tmp_path: Path
) -> None:
    for workers in (0, 2):
        config = make_pretrain_config(data={"num_workers": workers, "draw": "scene"})
        pretrain(config, pool, tmp_path / str(workers))
    first, second = state(tmp_path / "0"), state(tmp_path / "2")
    assert all(torch.equal(first[name], second[name]) for name in second)


def train_config(pool: Dataset, run: Path, part: str, decoder: dict[str, object]) -> RunConfig:
    return RunConfig.model_validate(
        {
            "data": {"dataset": str(pool.path), "patch_px": 32, "batch_size": 2, "num_workers": 0},
            "model": {"encoder": "test_byobnet", **decoder},
            "train": {
                "steps": 1,
                "device": "cpu",
                "tensorboard": False,
                "init_from": str(run),
                "init_part": part,
            },
            "optim": {"lr": 1e-12},
        }
    )


def test_train_starts_from_a_pre_trained_encoder_and_decoder(
    make_pretrain_config: MakeConfig, pool: Dataset, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pretrain(make_pretrain_config(**GLCNET), pool, run)
    source = load_file(run / "model/model.safetensors")
    for part in ("encoder", "all"):
        messages: list[TrainMessage] = []
        config = train_config(pool, run, part, GLCNET["model"])
        fit(config, pool, tmp_path / part, progress=messages.append)
        found = load_file(tmp_path / part / "model/model.safetensors")
        same = {
            kind: all(
                torch.allclose(found[name], value, atol=1e-6)
                for name, value in source.items()
                if name.startswith(kind) and name.endswith("weight")
            )
            for kind in ("encoder.", "decoder.")
        }
        assert same == {"encoder.": True, "decoder.": part == "all"}
        assert any("tensors from" in m.text for m in messages if isinstance(m, Notice))


def test_a_decoder_that_was_not_trained_is_not_taken(
    make_pretrain_config: MakeConfig, pool: Dataset, tmp_path: Path
) -> None:
    pretrain(make_pretrain_config(), pool, tmp_path / "run")
    config = train_config(pool, tmp_path / "run", "all", {"decoder": "fcn"})
    with pytest.raises(ModelFileError, match="only the encoder"):
        fit(config, pool, tmp_path / "all")


def test_what_does_not_fit_is_refused(make_pretrain_config: MakeConfig, pool: Dataset) -> None:
    for sections, match in (
        ({"views": {"view_px": 40}}, r"views\.view_px = 40 is no multiple"),
        ({"views": {"view_px": 64}}, r"data\.window_px = 40 is smaller than views\.view_px = 64"),
        ({"train": {"ema": {"decay": 0.9}}}, r"train\.ema"),
        ({"views": {"view_px": 32, "grey_chance": 0.2}}, r"has 4; set it to 0"),
        ({"optim": {"layer_decay": 0.7}}, r"layer_decay"),
    ):
        with pytest.raises(ConfigError, match=match):
            plan_pretraining(make_pretrain_config(**sections), pool)
    with pytest.raises(ValueError, match="no method 'glc'"):
        make_pretrain_config(method={"name": "glc"})
    with pytest.raises(ValueError, match="heat"):
        make_pretrain_config(method={"name": "simclr", "options": {"heat": 1}})
    with pytest.raises(ValueError, match="faithful fixes"):
        make_pretrain_config(views={"faithful": True, "area": (0.1, 1.0)})


def test_command(
    make_pretrain_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    dump_config(make_pretrain_config(), path)
    for arguments in (["--dry-run"], ["--out", str(tmp_path / "out"), "--set", "train.steps=2"]):
        app(["pretrain", str(path), *arguments, "--json"], standalone_mode=False)
        found = json.loads(capsys.readouterr().out)
        assert found["trained"] == "encoder"
    assert found["steps"] == 2
    assert (tmp_path / "out/model/model.json").exists()


def test_a_pool_without_classes_labels_and_statistics(
    make_pretrain_config: MakeConfig, pool: Dataset, tmp_path: Path
) -> None:
    spec = pool.spec.model_copy(update={"classes": (), "targets": (), "statistics": None})
    scenes = [
        SceneRecord(id=scene.id, split="pool", files=scene.files, labels={})
        for scene in pool.split("pool")
    ]
    bare = load_dataset(write_dataset(spec, scenes, tmp_path / "bare"))
    given = {"mean": (100.0,) * 4, "std": (40.0,) * 4}
    plan = plan_pretraining(make_pretrain_config(data=given), bare)
    assert plan.scenes == 3 and plan.trained == "encoder"
    # 3 scenes of 96 x 96 px in windows of 40 x 40.
    assert plan.windows_per_epoch == math.ceil(3 * 96 * 96 / 40**2)
    with pytest.raises(DatasetError, match="no band statistics"):
        plan_pretraining(make_pretrain_config(), bare)


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(
    make_pretrain_config: MakeConfig, pool: Dataset, tmp_path: Path
) -> None:
    config = make_pretrain_config(train={"init_from": str(tmp_path / "none")})
    with pytest.raises(ModelFileError):
        pretrain(config, pool, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # every process imports torch again
@pytest.mark.parametrize("method", ["moco", "swav", "glcnet"])
def test_two_processes_learn_together(
    make_pretrain_config: MakeConfig, pool: Dataset, tmp_path: Path, method: str
) -> None:
    options = {"glcnet": GLCNET["method"]["options"], "swav": {"small_px": 32, "freeze_steps": 1}}
    config = make_pretrain_config(
        **{**GLCNET, "method": {"name": method, "options": options.get(method, {})}},
        train={"devices": 2},
        probe=PROBE,
    )
    result = pretrain(config, pool, tmp_path / "run")
    assert result.steps == 4 and result.embedding_spread > 0 and result.knn_accuracy is not None
    queue = read_checkpoint(tmp_path / "run" / LAST)["state_dict"].get("method.queue.added")
    assert queue is None or int(queue) == 4 * 2 * config.data.batch_size
