"""YAML files under the 1.2 core rules, and what to tell a user about a wrong key.

PyYAML follows YAML 1.1, which reads ``1e-3`` as a string and ``no`` as false; both are traps in a
run configuration. Here ``1e-3`` is a number, ``no`` a string, and a repeated key an error.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from wholescene.errors import ConfigError, OutputError

__all__ = [
    "KeyPath",
    "explain_validation_error",
    "nearest_key_hint",
    "parse_yaml",
    "read_yaml",
    "write_yaml",
    "yaml_lines",
]

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of a document to one value."""

_CORE_SCALARS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class _CoreLoader(yaml.SafeLoader):
    """Safe loader with the scalars of the YAML 1.2 core schema and unique keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            self._refuse_repeated(node)
        return super().construct_mapping(node, deep=deep)

    def _refuse_repeated(self, node: yaml.MappingNode) -> None:
        seen: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            first = seen.setdefault(key.value, key.start_mark)
            if first is not key.start_mark:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"key {key.value!r} stands twice, first in line {first.line + 1}; keep one",
                    key.start_mark,
                )

    def construct_core_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)

    def construct_core_float(self, node: yaml.ScalarNode) -> float:
        text = str(self.construct_scalar(node)).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


class _CoreDumper(yaml.SafeDumper):
    """Safe dumper that quotes whatever YAML 1.1 or 1.2 would take for another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


# Tables of their own; PyYAML's would be shared and changed for everybody.
_CoreLoader.yaml_implicit_resolvers = {}
_CoreDumper.yaml_implicit_resolvers = {
    first: list(rules) for first, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in _CORE_SCALARS:
    for _kind in (_CoreLoader, _CoreDumper):
        _kind.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
_CoreLoader.add_constructor("tag:yaml.org,2002:int", _CoreLoader.construct_core_int)
_CoreLoader.add_constructor("tag:yaml.org,2002:float", _CoreLoader.construct_core_float)


def parse_yaml(text: str, where: str = "text") -> dict[str, Any]:
    r"""Parse one YAML mapping under the 1.2 core rules.

    Args:
        text: The document; empty text is an empty mapping.
        where: File or option named in errors.

    Returns:
        Plain dicts, lists and scalars; every key of the top level is a string.

    Raises:
        ConfigError: If the text is no YAML, repeats a key, or is not a mapping; with file, line
            and column.

    Examples:
        >>> parse_yaml("lr: 1e-3\ncountry: no")
        {'lr': 0.001, 'country': 'no'}
    """
    try:
        data = _CoreLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_message(error, where)) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{where}: not a YAML file: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"{where}: the top level is a {type(data).__name__}, not a mapping; write 'key: value' "
            "lines"
        )
    odd = [key for key in data if not isinstance(key, str)]
    if odd:
        raise ConfigError(f"{where}: key {odd[0]!r} is not text; put it in quotes")
    return data


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read one YAML mapping from a file; see :func:`parse_yaml`.

    Raises:
        ConfigError: If the file is missing, unreadable, or not such a mapping.
    """
    return parse_yaml(_read_text(Path(path)), str(path))


def yaml_lines(text: str) -> dict[KeyPath, int]:
    r"""Give the 1-based line of every key and list item of a document that parses.

    Examples:
        >>> yaml_lines("a: 1\nb:\n  c: 2\n")[("b", "c")]
        3
    """
    node = _CoreLoader(text).get_single_node()
    return {} if node is None else dict(_walk_lines(node, (), set()))


def write_yaml(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write plain data so that :func:`read_yaml` returns it unchanged.

    The file is written aside and renamed, so a reader never sees half of it.

    Raises:
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    text = yaml.dump(
        dict(data),
        Dumper=_CoreDumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def nearest_key_hint(unknown: str, legal: Iterable[str]) -> str:
    """Say which legal key was probably meant, and list them all.

    Examples:
        >>> nearest_key_hint("colour", ["id", "color"])
        "did you mean 'color'? Legal: id, color"
        >>> nearest_key_hint("zzz", ["id", "color"])
        'legal: id, color'
    """
    legal = list(legal)
    folded = {key.lower(): key for key in legal}
    near = difflib.get_close_matches(unknown.lower(), folded, n=1, cutoff=0.55)
    listed = ", ".join(legal) or "none"
    return f"did you mean {folded[near[0]]!r}? Legal: {listed}" if near else f"legal: {listed}"


def explain_validation_error(
    error: ValidationError,
    model: type[BaseModel],
    where: str,
    *,
    lines: Mapping[KeyPath, int] | None = None,
) -> str:
    """Turn pydantic's report into one message: file, line, key path, what is legal.

    Args:
        error: What pydantic raised.
        model: The model that was validated; its fields are the legal keys.
        where: File or option the data came from.
        lines: Line of each key, from :func:`yaml_lines`.

    Returns:
        One line for one problem, else one line per problem under a heading.
    """
    items: list[dict[str, Any]] = [dict(item) for item in error.errors()]
    # A list with a wrong item is also reported as too short; the item says it all.
    causes = {item["loc"][:n] for item in items for n in range(len(item["loc"]))}
    told = [item for item in items if item["loc"] not in causes or not item["loc"]]
    problems = [_problem(item, model, lines or {}) for item in told]
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    return "\n  ".join([f"{where}: {len(problems)} problems", *problems])


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no file {path}; check the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8 ({error.reason})") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None


def _syntax_message(error: yaml.MarkedYAMLError, where: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{where}{place}: {error.problem or error.context or 'not valid YAML'}"


def _walk_lines(node: yaml.Node, path: KeyPath, seen: set[int]) -> Iterator[tuple[KeyPath, int]]:
    if id(node) in seen:  # an alias of a node walked before, possibly of its own parent
        return
    seen.add(id(node))
    children: list[tuple[str | int, yaml.Mark, yaml.Node]]
    if isinstance(node, yaml.MappingNode):
        children = [(str(key.value), key.start_mark, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(index, value.start_mark, value) for index, value in enumerate(node.value)]
    else:
        return
    for name, mark, value in children:
        here = (*path, name)
        yield here, mark.line + 1
        yield from _walk_lines(value, here, seen)


def _problem(item: dict[str, Any], model: type[BaseModel], lines: Mapping[KeyPath, int]) -> str:
    path: KeyPath = tuple(item["loc"])
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    place = (f"line {line}: " if line else "") + (_dotted(path) or "the file")
    kind, message = item["type"], str(item["msg"]).removeprefix("Value error, ")
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        owner = _model_at(model, path[:-1])
        hint = nearest_key_hint(str(path[-1]), owner.model_fields) if owner else "remove it"
        return f"{place} is no key here; {hint}"
    if kind == "missing":
        return f"{place} is missing; add it"
    if kind == "literal_error":
        legal = re.findall(r"'([^']*)'", str(item["ctx"]["expected"]))
        return f"{place} = {item['input']!r}: {nearest_key_hint(str(item['input']), legal)}"
    if kind == "value_error":
        return message if not path else f"{place}: {message}"
    return f"{place} = {_short(item['input'])}: {message[:1].lower()}{message[1:]}"


def _dotted(path: KeyPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Find the model that owns the keys at ``path``."""
    owner: type[BaseModel] | None = model
    for part in path:
        if owner is None:
            return None
        if isinstance(part, str) and part in owner.model_fields:
            owner = _inner_model(owner.model_fields[part].annotation)
    return owner


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """Look through Optional, Annotated, tuples, lists and dicts for a model."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    found = (_inner_model(arg) for arg in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)
