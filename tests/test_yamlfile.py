from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from wholescene.errors import ConfigError, OutputError
from wholescene.yamlfile import (
    explain_validation_error,
    nearest_key_hint,
    parse_yaml,
    read_yaml,
    write_yaml,
    yaml_lines,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("6E-5", 6e-5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("off", "off"),
        ("True", True),
        ("false", False),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-05-31", "2024-05-31"),
        ("~", None),
        ("", None),
        ("null", None),
        ("'1e-3'", "1e-3"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_follow_the_1_2_core_schema(text: str, value: object) -> None:
    parsed = parse_yaml(f"key: {text}")["key"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse_yaml("key: .nan")["key"])


def test_a_merge_key_is_an_ordinary_key() -> None:
    assert parse_yaml("<<: x") == {"<<": "x"}


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "a.yaml") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"f\.yaml, line 3, column 1: key 'a' stands twice, first in line 1"),
        ("x:\n  k: 1\n  k: 1", r"line 3, column 3: key 'k' stands twice, first in line 2"),
        ("a: [1\nb: 2", r"f\.yaml, line 2, column 2"),
        ("- 1", r"f\.yaml: the top level is a list, not a mapping"),
        ("just text", r"top level is a str"),
        ("1: 2", r"key 1 is not text; put it in quotes"),
        ("a: !!python/object/apply:os.getcwd []", r"line 1, column 4: could not determine"),
        ("a: 1\n---\nb: 2", r"line 2, column 1"),
        ("a: \x00", r"not a YAML file"),
    ],
)
def test_what_is_no_mapping_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "f.yaml")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file .*none\.yaml"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(ConfigError, match=r"latin\.yaml: not a text file in UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(tmp_path)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(" -:#'\"[]{}&*!|>%@noye01.\n\u00e9", max_size=12),
    st.sampled_from(["no", "1e-3", "0o7", "0x1", "~", "null", "y", "1:2", "2024-01-01", ".5", "="]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcno1e- ", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(data=st.dictionaries(st.text("abcno1e-~.", min_size=1, max_size=5), VALUES, max_size=4))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, object]
) -> None:
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    write_yaml(path, data)
    assert read_yaml(path) == data


def test_other_readers_see_the_same_strings(tmp_path: Path) -> None:
    write_yaml(tmp_path / "a.yaml", {"a": "no", "b": "1e-3", "c": "012", "d": (1, 2)})
    with (tmp_path / "a.yaml").open() as file:
        assert yaml.safe_load(file) == {"a": "no", "b": "1e-3", "c": "012", "d": [1, 2]}


def test_a_failed_write_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_yaml(tmp_path / "none" / "a.yaml", {})


def test_lines_of_keys_and_items() -> None:
    lines = yaml_lines("a: 1\nb:\n  - c: 2\n  - d: 3\n    e: 4\n")
    assert lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 0, "c"): 3,
        ("b", 1): 4,
        ("b", 1, "d"): 4,
        ("b", 1, "e"): 5,
    }


def test_a_file_that_contains_itself_ends() -> None:
    assert yaml_lines("a: &x [*x]\nb: 1") == {("a",): 1, ("a", 0): 1, ("b",): 2}


def test_the_nearest_key_is_named_whatever_its_case() -> None:
    assert nearest_key_hint("Learning-rate", ["learning_rate", "lr"]).startswith(
        "did you mean 'learning_rate'?"
    )
    assert nearest_key_hint("qqq", ["a", "b"]) == "legal: a, b"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    color: int
    kind: Literal["mask", "boxes"] = "mask"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    items: tuple[Inner, ...] | None = None
    table: dict[str, Inner] = {}


def explained(text: str) -> str:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(parse_yaml(text))
    return explain_validation_error(caught.value, Outer, "f.yaml", lines=yaml_lines(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nnames: y", "f.yaml: line 2: names is no key here; did you mean 'name'? "),
        (
            "name: x\nitems:\n  - color: 1\n    colour: 2",
            "f.yaml: line 4: items[0].colour is no key here; did you mean 'color'? "
            "Legal: color, kind",
        ),
        ("name: x\ntable:\n  a: {colr: 1, color: 1}", "table.a.colr is no key here; did you mean"),
        ("items: []", "f.yaml: name is missing; add it"),
        ("name: x\nitems:\n  - {}", "f.yaml: line 3: items[0].color is missing"),
        (
            "name: x\nitems: [{color: 1, kind: box}]",
            "items[0].kind = 'box': did you mean 'boxes'? Legal: mask, boxes",
        ),
        ("name: x\nitems: [{color: red}]", "items[0].color = 'red': input should be a valid int"),
    ],
)
def test_a_wrong_key_is_explained(text: str, message: str) -> None:
    assert message in explained(text)


def test_several_problems_stand_on_lines_of_their_own() -> None:
    first, *rest = explained("nama: x").splitlines()
    assert first == "f.yaml: 2 problems"
    assert len(rest) == 2
