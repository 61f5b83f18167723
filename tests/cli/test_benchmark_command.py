"""``wholescene benchmark``: a table that survives interruptions."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path

import pytest
from small_world import World, make_world
from typer.testing import CliRunner

from wholescene.cli import app
from wholescene.errors import ConfigError, InputError
from wholescene.study import benchmark as study
from wholescene.study.benchmark import BenchmarkRow, run_benchmark
from wholescene.study.benchmark_table import summarise_rows


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = make_world(tmp_path)
    text = found.dataset.read_text()
    found.dataset.write_text(text + "split_way: official\n")
    (tmp_path / "rules.yaml").write_text(
        "name: rules\ndataset: two\nabout: For tests.\nsource: none\nsplit: test\nselect_on: val\n"
    )
    config = found.config.read_text()
    (tmp_path / "wide.yaml").write_text(
        config.replace("name: two", "name: wide").replace(
            "decoder: fcn", "decoder: fcn, decoder_options: {channels: 48}"
        )
    )
    return found


def bench(world: World, out: str = "bench", **settings: object) -> tuple[list[BenchmarkRow], str]:
    said: list[str] = []
    return run_benchmark(
        world.root / "rules.yaml",
        world.dataset,
        settings.pop("models", [world.config, world.root / "wide.yaml"]),
        world.root / out,
        say=said.append,
        progress=lambda *_: None,
        **settings,
    )


def test_every_model_and_seed_of_the_command_has_a_row(world: World) -> None:
    arguments = ["benchmark", str(world.root / "rules.yaml"), "--dataset", str(world.dataset)]
    arguments += ["--models", str(world.config), str(world.root / "wide.yaml")]
    arguments += ["--seeds", "0", "1", "--out", str(world.root / "bench"), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = [BenchmarkRow(**row) for row in json.loads(result.stdout)["rows"]]
    assert [(row.model, row.seed) for row in rows] == [
        ("two", 0),
        ("wide", 0),
        ("two", 1),
        ("wide", 1),
    ]
    two, wide = rows[:2]
    assert wide.parameters > two.parameters > 0
    assert wide.multiply_adds > two.multiply_adds > 0
    assert two.score is not None
    assert set(two.per_class) == {"land", "water"}
    kept, text = bench(world, seeds=[0, 1])
    assert kept == rows
    assert "wide" in text
    folder = world.root / "bench"
    table = list(csv.DictReader(io.StringIO((folder / "benchmark.csv").read_text())))
    assert {row["model"] for row in table} == {"two", "wide"}
    assert table[0]["seeds"] == "2"
    stored = json.loads((folder / "benchmark.json").read_text())
    assert len(stored["rows"]) == 4
    page = (folder / "benchmark.html").read_text()
    assert "<td>wide</td>" in page


def test_the_table_after_interruptions_is_that_without(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = bench(world, "whole")
    for name, number in (("fit", 2), ("evaluate_split", 1), ("evaluate_split", 2)):
        with monkeypatch.context() as patch:
            calls: list[int] = []
            real = getattr(study, name)

            def stop(*args: object, real=real, calls=calls, number=number, **settings: object):
                calls.append(1)
                if len(calls) == number:
                    raise KeyboardInterrupt
                return real(*args, **settings)

            patch.setattr(study, name, stop)
            with contextlib.suppress(KeyboardInterrupt):
                bench(world, "broken")
    again, _ = bench(world, "broken")
    for one, other in zip(whole, again, strict=True):
        assert (one.score, one.figures, one.per_class) == (
            other.score,
            other.figures,
            other.per_class,
        )


def test_finished_rows_are_kept_unless_a_setting_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench(world)
    trained: list[str] = []
    fit = study.fit

    def counting(config: object, *args: object, **settings: object) -> object:
        trained.append(config.name)
        return fit(config, *args, **settings)

    monkeypatch.setattr(study, "fit", counting)
    bench(world)
    assert trained == []
    bench(world, overrides=["optim.lr=2e-3"])
    assert trained == ["two", "wide"]


def test_what_cannot_be_compared(world: World) -> None:
    with pytest.raises(InputError, match="at least one model"):
        bench(world, models=[])
    with pytest.raises(ConfigError, match="two configurations are called 'two'"):
        bench(world, models=[world.config, world.config])
    assert not (world.root / "bench").exists()


def test_spread_is_over_seeds() -> None:
    rows = [
        BenchmarkRow(
            model="m",
            seed=seed,
            config_hash="",
            protocol="p",
            headline="miou",
            score=score,
            figures={},
            per_class={"a": score, "b": None},
            parameters=1,
            multiply_adds=1,
            seconds_per_megapixel=float(seed),
            peak_bytes=seed,
            train_seconds=1.0,
            steps=1,
        )
        for seed, score in enumerate((0.5, 0.6, 0.7))
    ]
    (row,) = summarise_rows(rows)
    assert row["score"] == pytest.approx(60)
    assert row["spread"] == pytest.approx(10)
    assert row["IoU a"] == pytest.approx(60)
    assert row["IoU b"] is None
    assert (row["seconds_per_megapixel"], row["peak_bytes"]) == (1.0, 2)
    assert summarise_rows(rows[:1])[0]["spread"] is None
