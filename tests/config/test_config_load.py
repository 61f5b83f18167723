from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholescene.config import (
    RunConfig,
    config_hash,
    dump_config,
    json_schema,
    load_config,
    load_pretrain_config,
)
from wholescene.errors import ConfigError

MINIMAL = "data:\n  dataset: scenes/dataset.yaml\n"


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_minimal_file_fills_every_section_with_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert config.train.steps == 10_000
    assert config.optim.name == "adamw"
    assert config.model.encoder == "resnet18"


def test_file_follows_yaml_1_2(tmp_path: Path) -> None:
    text = MINIMAL + "name: no\noptim:\n  lr: 1e-3\n  weight_decay: 5.e-2\n"
    config = load_config(write(tmp_path, text))
    assert config.name == "no"  # YAML 1.1 reads false
    assert config.optim.lr == 0.001  # PyYAML reads the text '1e-3'
    assert config.optim.weight_decay == 0.05


def test_overrides_follow_yaml_1_2(tmp_path: Path) -> None:
    overrides = ["name=no", "optim.lr=2e-4", "data.bands=[red, 2]", "optim.clip_norm=null"]
    config = load_config(write(tmp_path, MINIMAL), overrides)
    assert config.name == "no"
    assert config.optim.lr == 2e-4
    assert config.data.bands == ("red", 2)
    assert config.optim.clip_norm is None


def test_later_override_wins(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "train: {steps: 5}\n")
    assert load_config(path, ["train.steps=7", "train.steps=9"]).train.steps == 9


def test_override_reaches_into_nested_sections_and_free_mappings(tmp_path: Path) -> None:
    overrides = ["train.ema.decay=0.5", "model.decoder_options.dropout=0.25"]
    config = load_config(write(tmp_path, MINIMAL + "model: {decoder: fcn}\n"), overrides)
    assert config.train.ema is not None
    assert config.train.ema.decay == 0.5
    assert config.model.decoder_options == {"dropout": 0.25}


def test_whole_number_in_float_notation_counts(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, MINIMAL), ["train.steps=8e4"]).train.steps == 80_000


BAD = [
    ("trian: {steps: 1}", r"run\.yaml: line 3: trian is no key here; did you mean 'train'"),
    ("train:\n  step: 1", r"line 4: train\.step is no key here; did you mean 'steps'"),
    ("train:\n  ema:\n    decya: 0.9", r"line 5: train\.ema\.decya .* did you mean 'decay'"),
    ("train: {steps: many}", r"train\.steps = 'many': .*integer"),
    ("train: {steps: '100'}", r"train\.steps = '100': .*integer"),
    ("train: {steps: 1.5}", r"train\.steps = 1\.5: .*integer"),
    ("train: {steps: 0}", r"train\.steps = 0: .*greater than or equal to 1"),
    ("train: {tensorboard: no}", r"train\.tensorboard = 'no': .*boolean"),
    ("train: {tensorboard: 1}", r"train\.tensorboard = 1: .*boolean"),
    ("optim: {name: adamx}", r"optim\.name = 'adamx': did you mean 'adam'"),
    ("optim: {lr: .inf}", r"optim\.lr = inf: .*finite"),
    ("optim: {betas: [0.9, 1.0]}", r"optim: betas \[0\.9, 1\.0\] must both lie in"),
    ("name: a b", "name = 'a b': "),
    ("loss: {terms: {hinge: 1}}", "hinge"),
    ("model: {encoder: resnet81}", "resnet81.*did you mean"),
]


@pytest.mark.parametrize(("text", "match"), BAD, ids=[text for text, _ in BAD])
def test_bad_file_is_explained(tmp_path: Path, text: str, match: str) -> None:
    path = write(tmp_path, MINIMAL + text + "\n")
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


BAD_OVERRIDES = [
    ("train.step=1", r"--set train\.step=1: no key 'step' in 'train'; did you mean 'steps'"),
    ("trian.steps=1", "no key 'trian'; did you mean 'train'"),
    ("steps=1", "no key 'steps'; legal: name, data, model, loss, optim, train"),
    ("train.steps", "write it as section.key=value"),
    ("train.steps.more=1", r"train\.steps is a value and has no keys inside"),
    ("train=5", r"train is a section; set one of its keys, such as train\.steps="),
    ("train.steps=many", r"--set train\.steps=many: train\.steps = 'many': .*integer"),
    ("train.steps=[", r"--set train\.steps=\["),
]


@pytest.mark.parametrize(("override", "match"), BAD_OVERRIDES)
def test_bad_override_is_explained(tmp_path: Path, override: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_config(write(tmp_path, MINIMAL), [override])


def test_missing_section_and_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data is missing; add it"):
        load_config(write(tmp_path, "name: run\n"))
    with pytest.raises(ConfigError, match=r"no file .*none\.yaml"):
        load_config(tmp_path / "none.yaml")


def test_line_of_an_overridden_key_is_not_blamed(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "train:\n  steps: 5\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["train.steps=x"])
    assert "line 4" not in str(caught.value)


def test_paths_count_from_where_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    path = write(tmp_path / "configs", "data: {dataset: ../scenes, fraction: /abs/f.csv}\n")
    written = load_config(path)
    assert written.data.dataset == tmp_path / "scenes"
    assert written.data.fraction == Path("/abs/f.csv")
    given = load_config(
        path, ["data.dataset=scenes", "train.init_from=../old", "model.weights=w.pth"]
    )
    assert str(given.model.weights) == str(tmp_path / "work/w.pth")
    assert given.data.dataset == tmp_path / "work/scenes"
    assert given.train.init_from == tmp_path / "old"


def test_paths_inside_a_section_of_a_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path)
    text = "data: {dataset: /abs}\nmodel: {refine: {classes: [car], weights: ../fine.pth}}\n"
    path = write(tmp_path / "configs", text)

    def weights(*overrides: str) -> str | None:
        refine = load_config(path, overrides).model.refine
        assert refine is not None
        return refine.weights

    assert weights() == str(tmp_path / "fine.pth")
    assert weights("model.refine.weights=w.pth") == str(tmp_path / "w.pth")
    assert weights("model.refine={classes: [car], weights: v.pth}") == str(tmp_path / "v.pth")


def test_dump_is_complete_and_loads_to_the_same(tmp_path: Path) -> None:
    overrides = ["optim.lr=1e-7", "train.ema={}", "loss.class_weights=[1, 2.5]", "name=1e3.x"]
    config = load_config(write(tmp_path, MINIMAL), overrides)
    dump_config(config, tmp_path / "resolved.yaml")
    assert load_config(tmp_path / "resolved.yaml") == config
    text = (tmp_path / "resolved.yaml").read_text()
    for section in ("data", "model", "loss", "optim", "train"):
        for key in type(getattr(config, section)).model_fields:
            assert f"{key}:" in text, key


@given(
    lr=st.floats(min_value=1e-12, max_value=1e6),
    steps=st.integers(min_value=1, max_value=10**9),
    name=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,8}\Z"),
)
def test_any_value_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory, lr: float, steps: int, name: str
) -> None:
    sections = {"optim": {"lr": lr}, "train": {"steps": steps}, "name": name}
    config = RunConfig.model_validate({"data": {"dataset": "/d"}, **sections})
    path = tmp_path_factory.mktemp("any") / "config.yaml"
    dump_config(config, path)
    loaded = load_config(path)
    assert loaded == config
    assert math.copysign(loaded.optim.lr, 1) == lr
    assert config_hash(loaded) == config_hash(config)


def test_config_cannot_be_changed_in_place(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        config.train.steps = 3  # type: ignore[misc]


def test_schema_describes_every_key() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["additionalProperties"] is False
    optim = schema["$defs"]["OptimSettings"]["properties"]
    assert optim["schedule"]["enum"] == ["poly", "cosine", "constant"]
    assert "warm-up" in optim["lr"]["description"]
    assert schema["required"] == ["data"]


EXAMPLES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_legal(path: Path) -> None:
    assert load_config(path).name == path.stem


def test_there_are_examples() -> None:
    assert EXAMPLES


def test_a_section_is_left_out_but_not_set_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "ssl.yaml"
    path.write_text("data: {dataset: d}\nprobe: {windows: 32}\n")
    assert load_pretrain_config(path).probe is not None
    assert load_pretrain_config(path, ["probe=null"]).probe is None
    with pytest.raises(ConfigError, match=r"probe is a section; set one of its keys"):
        load_pretrain_config(path, ["probe=1"])
    with pytest.raises(ConfigError, match="optim"):
        load_pretrain_config(path, ["optim=null"])
