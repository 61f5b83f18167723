from __future__ import annotations

import json
from pathlib import Path

from tiny_dataset import MakeConfig

from wholescene.train.record import flat_settings, settings_hash, write_environment


def test_hash_changes_with_a_setting_and_not_with_the_machine(make_config: MakeConfig) -> None:
    base = make_config(data={"dataset": "/home/a/potsdam/dataset.yaml"})
    elsewhere = make_config(data={"dataset": "/data/potsdam/dataset.yaml"})
    other = make_config(data={"dataset": "/home/a/potsdam/dataset.yaml", "gain": 0.1})
    assert settings_hash(base) == settings_hash(elsewhere)
    assert settings_hash(base) != settings_hash(other)
    assert len(settings_hash(base)) == 16


def test_settings_flatten_to_dotted_keys() -> None:
    settings = {"a": {"b": {"c": 1}, "d": {}}, "e": [2]}
    assert flat_settings(settings) == {"a.b.c": 1, "a.d": {}, "e": [2]}


def test_environment_keeps_every_start(tmp_path: Path) -> None:
    path = tmp_path / "environment.json"
    write_environment(path, seed=5, step=0)
    write_environment(path, seed=5, step=40)
    facts = json.loads(path.read_text())
    assert [start["step"] for start in facts["starts"]] == [0, 40]
