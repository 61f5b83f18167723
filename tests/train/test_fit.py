from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_dataset import MakeConfig, make_dataset, write_scene

from wholescene.config import load_config
from wholescene.datasets import Dataset
from wholescene.errors import ConfigError, ModelFileError, OutputError
from wholescene.models import load_model, read_spec
from wholescene.train import Notice, TrainMessage, Validated, fit, read_metrics, settings_hash
from wholescene.train.checkpoint import BEST, LAST, read_checkpoint


@pytest.fixture(scope="module")
def run(make_config: MakeConfig, tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with averaged weights."""
    out = tmp_path_factory.mktemp("fit") / "run"
    fit(make_config(train={"ema": {"decay": 0.5}, "seed": 3}), tiny, out)
    return out


def test_run_directory_holds_what_it_should(run: Path) -> None:
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "model/model.json",
        "model/model.safetensors",
    }


def test_resolved_config_loads_to_the_same_settings(run: Path, make_config: MakeConfig) -> None:
    assert load_config(run / "config.yaml") == make_config(train={"ema": {"decay": 0.5}, "seed": 3})


def test_environment_names_versions_seed_and_command(run: Path) -> None:
    facts = json.loads((run / "environment.json").read_text())
    assert facts["seed"] == 3
    assert facts["versions"]["torch"] == torch.__version__
    assert [start["step"] for start in facts["starts"]] == [0]


def test_exported_model_holds_the_averaged_weights_of_the_best_step(run: Path) -> None:
    best = read_checkpoint(run / BEST)
    average = best["wholescene"]["average"]["model"]
    exported = load_file(run / "model/model.safetensors")
    name = "encoder.net.conv1.0.weight"
    assert torch.equal(exported[name], average[name])
    assert not torch.equal(exported[name], best["state_dict"][f"model.{name}"])
    scores = {row["step"]: row["val_miou"] for row in _validations(run)}
    assert best["global_step"] == max(scores, key=lambda step: (scores[step], -step))


def test_model_describes_itself(run: Path, tiny: Dataset, make_config: MakeConfig) -> None:
    spec = read_spec(run)
    assert spec.band_names == ("red", "nir")
    assert (spec.mean, spec.std) == ((90.0, 90.0), (20.0, 70.0))
    assert [c.name for c in spec.classes] == ["land", "water"]
    assert (spec.ignore_id, spec.gsd_m) == (255, 1.0)
    provenance = spec.provenance
    config = make_config(train={"ema": {"decay": 0.5}, "seed": 3})
    assert provenance["config_hash"] == settings_hash(config)
    assert (provenance["dataset"], provenance["seed"], provenance["steps"]) == ("tiny", 3, 6)
    assert provenance["weights"] == "averaged"
    assert provenance["val_miou"] == max(row["val_miou"] for row in _validations(run))


def test_metrics_have_a_row_per_log_and_validation(run: Path) -> None:
    rows = read_metrics(run / "metrics.csv")
    assert [row["step"] for row in rows] == [2, 3, 4, 6]
    assert [row["step"] for row in _validations(run)] == [3, 6]
    assert [row["epoch"] for row in rows] == [0.5, 0.75, 1.0, 1.5]  # 8 patches, 2 a step
    assert rows[0]["lr"] == pytest.approx(0.01 * (1 - 1 / 6) ** 0.9)  # of step 2, the second


def test_training_learns(make_config: MakeConfig, tiny: Dataset, tmp_path: Path) -> None:
    config = make_config(
        model={"decoder": "unet"},
        train={"steps": 40, "validate_every": 40, "checkpoint_every": 40, "log_every": 10},
    )
    result = fit(config, tiny, tmp_path / "run")
    losses = [row["loss"] for row in read_metrics(tmp_path / "run/metrics.csv")]
    assert losses[-1] < 0.7 * losses[0]
    assert result.best_miou is not None
    assert result.best_miou > 0.9


def test_validation_scores_each_labelled_pixel_once(
    make_config: MakeConfig, tiny: Dataset, run: Path
) -> None:
    # 64 x 64 pixels, of which the first three rows are unlabelled.
    messages: list[TrainMessage] = []
    fit(make_config(train={"steps": 1}), tiny, run.parent / "once", progress=messages.append)
    (validated,) = [m for m in messages if isinstance(m, Validated)]
    hits = validated.overall_accuracy * 61 * 64
    assert hits == pytest.approx(round(hits), abs=1e-6)


def test_scenes_and_patches_agree_where_one_window_holds_the_scene(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path
) -> None:
    scores = []
    for mode in ("patches", "scenes"):
        config = make_config(data={"val_mode": mode, "patch_px": 64})
        fit(config, tiny, tmp_path / mode)
        keys = ("val_miou", "val_overall_accuracy", "val_iou_water")
        scores.append([[row[key] for key in keys] for row in _validations(tmp_path / mode)])
    assert scores[0] == scores[1]


@pytest.mark.parametrize("mode", ["patches", "scenes"])
def test_where_nothing_is_scored_a_notice_says_so_and_the_last_weights_are_exported(
    make_config: MakeConfig, tmp_path: Path, mode: str
) -> None:
    dataset = make_dataset(tmp_path / "data", {"train": 2, "val": 1})
    write_scene(tmp_path / "data", "val0", seed=2, side=64, ignored_rows=64, named=True)
    messages: list[TrainMessage] = []
    config = make_config(data={"val_mode": mode, "patch_px": 64})
    result = fit(config, dataset, tmp_path / "run", progress=messages.append)
    assert (result.exported_step, result.best_miou) == (6, None)
    notices = [message.text for message in messages if isinstance(message, Notice)]
    assert "step 6: no pixel of the validation split has a class" in " ".join(notices)
    assert not any(isinstance(message, Validated) for message in messages)


def test_without_validation_the_last_weights_are_exported(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path
) -> None:
    result = fit(make_config(data={"val_split": None}), tiny, tmp_path / "run")
    assert (result.exported_step, result.best_miou) == (6, None)
    assert not (tmp_path / "run" / BEST).exists()
    name = "head.classify.weight"
    last = read_checkpoint(tmp_path / "run" / LAST)["state_dict"]
    exported = load_file(tmp_path / "run/model/model.safetensors")
    assert torch.equal(exported[name], last[f"model.{name}"])


def test_bfloat16_trains_float32_weights(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path
) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        fit(make_config(train={"precision": precision}), tiny, tmp_path / precision)
        losses.append(read_metrics(tmp_path / precision / "metrics.csv")[0]["loss"])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    weights = load_file(tmp_path / "bfloat16/model/model.safetensors").values()
    assert {w.dtype for w in weights if w.is_floating_point()} == {torch.float32}


def test_frozen_norms_keep_their_statistics(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path
) -> None:
    means = {}
    for part in ("none", "encoder", "all"):
        fit(make_config(train={"freeze_norm": part}), tiny, tmp_path / part)
        weights = load_model(tmp_path / part).state_dict()
        means[part] = [
            any(
                bool(v.any()) for k, v in weights.items() if k.startswith(p) and "running_mean" in k
            )
            for p in ("encoder.", "decoder.")
        ]
    assert means == {"none": [True, True], "encoder": [False, True], "all": [False, False]}


def test_clipping_bounds_the_step(make_config: MakeConfig, tiny: Dataset, tmp_path: Path) -> None:
    sgd = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
    moved = []
    for clip in (1e-3, 1e-2):
        out = tmp_path / str(clip)
        fit(make_config(optim={**sgd, "clip_norm": clip}, train={"steps": 1}), tiny, out)
        fit(
            make_config(optim={**sgd, "lr": 1e-12}, train={"steps": 1}), tiny, tmp_path / f"0{clip}"
        )
        new, old = load_model(out), load_model(tmp_path / f"0{clip}")
        pairs = zip(new.parameters(), old.parameters(), strict=True)
        moved.append(math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in pairs)))
    assert moved == pytest.approx([1e-3, 1e-2], rel=1e-2)


def test_run_says_nothing_itself(
    make_config: MakeConfig,
    tiny: Dataset,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "lightning.pytorch"):
        fit(make_config(train={"tensorboard": True}), tiny, tmp_path / "run")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert list((tmp_path / "run/tensorboard").glob("events.*"))


def test_missing_tensorboard_is_one_line(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wholescene.train.runtime.find_spec", lambda name: None)
    messages: list[TrainMessage] = []
    config = make_config(train={"tensorboard": True, "steps": 1})
    fit(config, tiny, tmp_path / "run", progress=messages.append)
    notices = [m.text for m in messages if isinstance(m, Notice) and "TensorBoard" in m.text]
    assert len(notices) == 1
    assert not (tmp_path / "run/tensorboard").exists()


def test_diverging_loss_stops_the_run(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path
) -> None:
    config = make_config(optim={"name": "sgd", "lr": 1e30})
    with pytest.raises(ConfigError, match=r"loss became .* before step [2-6].*optim\.lr"):
        fit(config, tiny, tmp_path / "run")
    assert not (tmp_path / "run" / LAST).exists()


def test_encoder_comes_from_another_run(
    make_config: MakeConfig, tiny: Dataset, run: Path, tmp_path: Path
) -> None:
    train = {"init_from": str(run), "steps": 1}
    frozen = {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0}
    notices: list[TrainMessage] = []
    fit(make_config(train=train, optim=frozen), tiny, tmp_path / "new", progress=notices.append)
    before, after = load_model(run), load_model(tmp_path / "new")
    first = "encoder.net.conv1.0.weight"
    torch.testing.assert_close(after.state_dict()[first], before.state_dict()[first])
    assert not torch.allclose(
        after.state_dict()["head.classify.weight"], before.state_dict()["head.classify.weight"]
    )
    assert any("encoder tensors from" in m.text for m in notices if isinstance(m, Notice))


def test_all_weights_come_from_another_run(
    make_config: MakeConfig, tiny: Dataset, run: Path, tmp_path: Path
) -> None:
    train = {"init_from": str(run), "init_part": "all", "steps": 1}
    frozen = {"name": "sgd", "lr": 1e-12, "weight_decay": 0.0}
    fit(make_config(train=train, optim=frozen), tiny, tmp_path / "new")
    pairs = zip(
        load_model(run).parameters(), load_model(tmp_path / "new").parameters(), strict=True
    )
    assert all(torch.allclose(a, b) for a, b in pairs)


def test_other_classes_start_the_heads_afresh(
    make_config: MakeConfig, run: Path, tmp_path: Path
) -> None:
    classes = ({"id": 0, "name": "dry"}, {"id": 1, "name": "wet"})
    other = make_dataset(tmp_path / "other", {"train": 1, "val": 1}, classes=classes)
    data = {"dataset": str(other.path)}
    train = {"init_from": str(run), "init_part": "all", "steps": 1}
    fit(make_config(data=data, train=train, optim={"lr": 1e-12}), other, tmp_path / "new")
    before, after = load_model(run).state_dict(), load_model(tmp_path / "new").state_dict()
    assert torch.allclose(before["decoder.conv.conv.weight"], after["decoder.conv.conv.weight"])
    assert not torch.allclose(before["head.classify.weight"], after["head.classify.weight"])


def test_weights_of_another_network_are_refused(
    make_config: MakeConfig, tiny: Dataset, run: Path, tmp_path: Path
) -> None:
    train = {"init_from": str(run), "init_part": "all"}
    config = make_config(train=train, model={"decoder_options": {"channels": 7}})
    with pytest.raises(ModelFileError, match=r"train\.init_from.*decoder\.conv.*init_part"):
        fit(config, tiny, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_folder_that_cannot_be_made_is_named(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(OutputError, match="--out"):
            fit(make_config(), tiny, out)


def _validations(run: Path) -> list[dict[str, float]]:
    return [row for row in read_metrics(run / "metrics.csv") if "val_miou" in row]
