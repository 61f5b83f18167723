"""``wholescene study few-labels``: a table and a plot that survive interruptions."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small_world import World, make_world
from typer.testing import CliRunner

from wholescene.cli import app
from wholescene.config import StudyConfig, load_config, load_study_config
from wholescene.datasets import read_fraction
from wholescene.errors import ConfigError, DatasetError, InputError, OutputError
from wholescene.progress import Progress
from wholescene.study import few_labels
from wholescene.study.few_labels import run_few_labels
from wholescene.study.few_labels_results import CellResult, StudyResult

PRETRAIN = """
name: {method}
data: {{dataset: elsewhere.yaml, window_px: 40, batch_size: 2, num_workers: 0}}
views: {{view_px: 32}}
method: {{name: {method}}}
model: {{encoder: {encoder}, decoder: fcn}}
train: {{steps: 2, validate_every: 2, tensorboard: false, device: cpu}}
"""
STUDY = """
name: few
about: Budgets of two steps.
dataset: data/dataset.yaml
finetune: run.yaml
finetune_changes: [train.device=cpu]
methods:
  simclr: {pretrain: ssl/simclr.yaml}
  holes: {pretrain: ssl/inpainting.yaml, part: all}
  small: {pretrain: ssl/byol.yaml, changes: [train.steps=1]}
fractions: [0.2, 1.0]
patch_px: 16
scoring: {engine: whole}
draws: 2
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = make_world(tmp_path)
    (tmp_path / "ssl").mkdir()
    for method, encoder in (
        ("simclr", "test_resnet"),
        ("inpainting", "test_resnet"),
        ("byol", "test_byobnet"),
    ):
        text = PRETRAIN.format(method=method, encoder=encoder)
        (tmp_path / "ssl" / f"{method}.yaml").write_text(text)
    (tmp_path / "few.yaml").write_text(STUDY)
    return found


def settings(world: World, **changes: Any) -> StudyConfig:
    study = load_study_config(world.root / "few.yaml")
    return StudyConfig.model_validate({**study.model_dump(), **changes})


def only(study: StudyConfig, *names: str) -> dict[str, Any]:
    return {name: study.methods[name].model_dump() for name in names}


@contextlib.contextmanager
def no_bar(title: str, unit: str) -> Iterator[Progress]:
    yield lambda done, total: None


def run(world: World, study: StudyConfig, out: str = "out") -> StudyResult:
    said: list[str] = []
    return run_few_labels(study, world.root / out, say=said.append, bar=no_bar)[0]


def scores(result: StudyResult) -> list[tuple[object, ...]]:
    return [
        (cell.method, cell.by, cell.fraction, cell.draw, cell.val_miou, cell.miou)
        for cell in result.cells
    ]


def test_every_row_has_every_cell(world: World) -> None:
    result = run(world, settings(world, methods=only(settings(world), "simclr")))
    assert [(c.method, c.draw, c.fraction) for c in result.cells] == [
        (name, draw, share)
        for draw in (0, 1)
        for share in (0.2, 1.0)
        for name in ("random", "simclr")
    ]
    assert all(cell.failure is None and cell.miou is not None for cell in result.cells)
    assert [cell.labels for cell in result.cells[:4]] == [2, 2, 9, 9]
    # Draws of all labels are one table, but other seeds.
    assert {cell.seed for cell in result.cells if cell.fraction == 1} == {0, 1}
    assert len(list((world.root / "out/pretraining").iterdir())) == 1
    assert len(list((world.root / "out/labels").iterdir())) == 3


def test_cells_differ_in_their_start_alone(world: World) -> None:
    study = settings(world, fractions=(0.2,), draws=1, keep_models=True)
    result = run(world, study)
    configs = {
        cell.method: load_config(world.root / "out/cells" / cell.folder / "config.yaml")
        for cell in result.cells
    }
    baselines = {cell.method: cell.baseline for cell in result.cells if cell.baseline}
    assert baselines == {
        "simclr": "random-test_resnet",
        "holes": "random-test_resnet",
        "small": "random-test_byobnet",
    }
    assert [each.steps for each in result.pretrainings.values()] == [2, 2, 1]
    random, simclr, holes = (configs[n] for n in ("random-test_resnet", "simclr", "holes"))
    assert simclr.data == random.data
    assert (random.data.val_split, random.train.init_from) == ("val", None)
    assert read_fraction(simclr.data.fraction).seed == 0
    assert (simclr.train.init_part, holes.train.init_part) == ("encoder", "all")
    for config in (simclr, holes):
        assert config.model == random.model and config.optim == random.optim
        train = config.train.model_copy(update={"init_from": None, "init_part": "encoder"})
        assert train == random.train
        assert load_file(config.train.init_from / "model/model.safetensors")
    assert configs["small"].model.encoder == "test_byobnet"


def test_a_finished_cell_keeps_scores_and_settings_only(world: World) -> None:
    study = settings(world, methods=only(settings(world), "simclr"), fractions=(0.2,), draws=1)
    result = run(world, study)
    path = world.root / "out/cells" / result.cells[0].folder / "result.json"
    assert CellResult(**json.loads(path.read_text())) == result.cells[0]
    for folder in (world.root / "out/cells").iterdir():
        kept = {path.name for path in folder.iterdir()}
        assert {"result.json", "config.yaml", "metrics.csv", "test"} <= kept
        assert not kept & {"model", "checkpoints"}
        assert not list(folder.rglob("*.tif"))


class KilledError(Exception):
    """Stands for a kill."""


def test_the_study_after_interruptions_is_that_without(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = settings(
        world,
        methods=only(settings(world), "simclr"),
        by=("patch", "scene"),
        fractions=(0.2,),
        draws=1,
    )
    whole = run(world, study, "whole")
    for name, number in (
        ("pretrain", 1),
        ("fit", 1),
        ("evaluate_split", 1),
        ("fit", 2),
        ("write_tables", 3),
    ):
        with monkeypatch.context() as patch:
            calls: list[int] = []
            real = getattr(few_labels, name)

            def stop(*args: Any, real=real, calls=calls, number=number, **more: Any) -> Any:
                calls.append(1)
                if len(calls) < number:
                    return real(*args, **more)
                if "progress" in more:  # half-way

                    def die(*_: Any) -> None:
                        raise KilledError

                    return real(*args, **{**more, "progress": die})
                raise KilledError

            patch.setattr(few_labels, name, stop)
            with pytest.raises(KilledError):
                run(world, study, "broken")
    again = run(world, study, "broken")
    assert scores(again) == scores(whole)
    calls = []
    for name in ("pretrain", "fit", "evaluate_split"):
        monkeypatch.setattr(few_labels, name, lambda *_, **__: calls.append(1))
    assert scores(run(world, study, "broken")) == scores(whole)
    assert calls == []


def test_shares_that_choose_the_same_are_one_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = settings(world, methods=only(settings(world), "simclr"), by=("scene",), draws=1)
    trained: list[str] = []
    fit = few_labels.fit

    def counting(config: Any, *args: Any, **more: Any) -> Any:
        trained.append(config.name)
        return fit(config, *args, **more)

    monkeypatch.setattr(few_labels, "fit", counting)
    result = run(world, study)  # one scene: 20 % of it are 100 %
    assert [cell.fraction for cell in result.cells] == [0.2, 0.2, 1.0, 1.0]
    assert len(trained) == 2
    assert result.cells[1].miou == result.cells[3].miou


def test_maps_are_made_as_scoring_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, Any]] = []
    real = few_labels.evaluate_split

    def listening(*args: Any, **more: Any) -> Any:
        said.append(more)
        return real(*args, **more)

    monkeypatch.setattr(few_labels, "evaluate_split", listening)
    scoring = {"engine": "windowed", "block": 32, "precision": "bfloat16"}
    simclr = only(settings(world), "simclr")
    run(world, settings(world, methods=simclr, scoring=scoring, fractions=(1.0,), draws=1))
    assert said
    assert all(scoring.items() <= more.items() for more in said)


def test_changed_settings_are_new_attempts_and_changed_labels_are_refused(world: World) -> None:
    study = settings(world, methods=only(settings(world), "simclr"), fractions=(0.2,), draws=1)
    first = run(world, study)
    changed = study.model_copy(update={"finetune_changes": ("train.device=cpu", "train.steps=3")})
    second = run(world, changed)
    assert {cell.folder for cell in second.superseded} == {cell.folder for cell in first.cells}
    assert [cell.steps for cell in second.cells] == [3, 3]
    assert len(list((world.root / "out/pretraining").iterdir())) == 1
    table = (world.root / "out/few-labels-attempts.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["superseded"] for row in rows] == ["False"] * 2 + ["True"] * 2
    path = next((world.root / "out/labels").iterdir())
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(InputError, match="lists other labels than are drawn now"):
        run(world, study)


def test_a_run_that_diverges_is_listed_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = settings(world, methods=only(settings(world), "simclr"), fractions=(0.2,), draws=1)
    fit = few_labels.fit

    def diverge(config: Any, *args: Any, **more: Any) -> Any:
        if config.train.init_from is not None:
            raise ConfigError("the loss became nan")
        return fit(config, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(few_labels, "fit", diverge)
        broken = run(world, study)
    assert [cell.failure for cell in broken.cells] == [None, "the loss became nan"]
    assert "the loss became nan" in (world.root / "out/few-labels.html").read_text()
    assert [cell.failure for cell in run(world, study).cells] == [None, None]


def test_a_pre_training_that_fails_fails_its_cells_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = settings(world, methods=only(settings(world), "simclr"), fractions=(0.2,), draws=1)

    def diverge(*_: Any, **__: Any) -> None:
        raise ConfigError("the loss became inf")

    monkeypatch.setattr(few_labels, "pretrain", diverge)
    result = run(world, study)
    assert result.cells[0].failure is None
    assert result.cells[1].failure == "pre-training: the loss became inf"


def test_what_cannot_be_compared_is_refused_before_any_work(world: World) -> None:
    study = settings(world)

    def method(**changes: Any) -> dict[str, Any]:
        return {"methods": {"m": {**study.methods["simclr"].model_dump(), **changes}}}

    for changes, kind, match in (
        (method(part="all"), ConfigError, "'simclr' teaches only the encoder"),
        (
            {**method(part="all"), "finetune_changes": ("model.decoder=unet",)},
            ConfigError,
            "hands its decoder on .* 'fcn' with {}, but finetune has 'unet'",
        ),
        (method(changes=["train.speed=1"]), ConfigError, "no key 'speed'"),
        ({"finetune_changes": ("model.pretrained=true",)}, ConfigError, "methods of a study"),
        ({"test_split": "trial"}, DatasetError, "no split 'trial'"),
    ):
        with pytest.raises(kind, match=match):
            run(world, settings(world, **changes))
    assert not (world.root / "out/cells").exists()
    assert not (world.root / "out/pretraining").exists()
    (world.root / "used").mkdir()
    (world.root / "used/notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="no study"):
        run(world, study, "used")


def test_the_command_writes_tables_and_a_plot(world: World) -> None:
    out = world.root / "cli"
    arguments = ["--out", str(out), "--set", "draws=1", "--set", "fractions=[0.2]", "--json"]
    arguments += ["--set", "methods.simclr.changes=[train.steps=1]"]
    result = CliRunner().invoke(
        app, ["study", "few-labels", str(world.root / "few.yaml"), *arguments]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["method"] for row in found["rows"]] == [
        "random-test_resnet",
        "random-test_byobnet",
        "simclr",
        "holes",
        "small",
    ]
    table = list(csv.DictReader(io.StringIO((out / "few-labels.csv").read_text())))
    assert [row["method"] for row in table] == [row["method"] for row in found["rows"]]
    stored = json.loads((out / "few-labels.json").read_text())
    assert stored["pretrainings"]["simclr"]["steps"] == 1
    assert stored["pretrainings"]["simclr"]["seconds"] > 0
    assert str(world.root) not in (out / "few-labels.json").read_text()
    assert "Budgets of two steps." in (out / "few-labels.html").read_text()
    assert ET.parse(out / "few-labels.svg").getroot().tag.endswith("svg")


def test_settings_that_spoil_a_study(world: World) -> None:
    text = (world.root / "few.yaml").read_text()
    path = world.root / "bad.yaml"
    for change, match in (
        ("select_on: test", "keeps the three apart"),
        ("test_split: test+train", "keeps the three apart"),
        ("fractions: [0.1, 0.1]", "repeats a value"),
        ("methods: {random: {pretrain: ssl/simclr.yaml}}", "choose another name"),
        ("fractions: [1.5]", "less than or equal to 1"),
    ):
        key = change.split(":")[0]
        kept, skipping = [], False
        for line in text.splitlines():
            skipping = line.startswith(f"{key}:") or (skipping and line.startswith(" "))
            kept += [] if skipping else [line]
        path.write_text("\n".join([*kept, change, ""]))
        with pytest.raises(ConfigError, match=match):
            load_study_config(path)
