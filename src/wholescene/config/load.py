"""From a YAML file and overrides to a checked configuration, and back."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from wholescene.config.pretrain import PretrainConfig
from wholescene.config.run import RunConfig
from wholescene.config.study import StudyConfig
from wholescene.errors import ConfigError
from wholescene.train.record import settings_hash, write_config
from wholescene.yamlfile import (
    KeyPath,
    explain_validation_error,
    nearest_key_hint,
    parse_yaml,
    yaml_lines,
)

__all__ = [
    "config_hash",
    "dump_config",
    "load_config",
    "load_pretrain_config",
    "load_study_config",
]

Settings = TypeVar("Settings", bound=BaseModel)

config_hash = settings_hash

TEXT_PATHS = frozenset({("model", "weights"), ("model", "refine", "weights")})
"""Settings that name a file in plain text."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run configuration.

    The file follows YAML 1.2: ``1e-3`` is a number, ``no`` a string. A relative path in it counts
    from the folder of the file; a relative path in an override from the working directory. Types
    are taken literally: ``"100"`` is no number and ``1`` is not true.

    Args:
        path: The YAML file.
        overrides: ``section.key=value`` each, the value as YAML; only keys that exist.

    Raises:
        ConfigError: If the file is not such a configuration; with file, line, key, value, and what
            is legal.

    Examples:
        >>> load_config("configs/synthetic-unet.yaml", ["train.steps=100"])  # doctest: +SKIP
    """
    return _load(RunConfig, Path(path), overrides)


def load_pretrain_config(path: str | Path, overrides: Sequence[str] = ()) -> PretrainConfig:
    """Read a pre-training configuration, as :func:`load_config` reads a run configuration.

    Args:
        path: The YAML file.
        overrides: ``section.key=value`` each.

    Raises:
        ConfigError: If the file is not such a configuration.
    """
    return _load(PretrainConfig, Path(path), overrides)


def load_study_config(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read the configuration of a study, as :func:`load_config` reads a run configuration.

    Args:
        path: The YAML file.
        overrides: ``key=value`` each.

    Raises:
        ConfigError: If the file is not such a configuration.
    """
    return _load(StudyConfig, Path(path), overrides)


def _load(kind: type[Settings], path: Path, overrides: Sequence[str]) -> Settings:
    text = _read(path)
    values = parse_yaml(text, str(path))
    lines = yaml_lines(text)
    changes = [_parse_override(kind, override) for override in overrides]
    for keys, value in changes:
        _set(values, keys, value)
        for known in [known for known in lines if known[: len(keys)] == keys]:
            del lines[known]
    config = _validate(kind, values, _name(path, overrides), lines)
    return _anchored(config, path.parent.resolve(), {keys for keys, _ in changes})


def dump_config(config: RunConfig | PretrainConfig | StudyConfig, path: str | Path) -> None:
    """Write every setting, defaults included, as YAML that loads to the same configuration.

    Raises:
        OutputError: If the file cannot be written.
    """
    write_config(config, Path(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8 ({error.reason})") from None
    except FileNotFoundError:
        raise ConfigError(f"no file {path}; check the path") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None


def _name(path: Path, overrides: Sequence[str]) -> str:
    return f"{path} with --set {' '.join(overrides)}" if overrides else str(path)


def _parse_override(kind: type[BaseModel], override: str) -> tuple[KeyPath, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: write it as section.key=value")
    keys = tuple(key.strip().split("."))
    _check_key(kind, keys, override)
    where = f"--set {override}"
    value = parse_yaml(f"value: {text}", where)
    if list(value) != ["value"]:
        raise ConfigError(f"{where}: give one value")
    if len(keys) == 1 and value["value"] is not None:
        _refuse_section(kind, keys[0], override)
    return keys, value["value"]


def _check_key(kind: type[BaseModel], keys: tuple[str, ...], override: str) -> None:
    """Follow the keys through the sections; below a free mapping any key may be made."""
    owner: Any = kind
    for place, key in enumerate(keys):
        if not _is_model(owner):
            if _allows_keys(owner):
                return
            inside = ".".join(keys[:place])
            raise ConfigError(f"--set {override}: {inside} is a value and has no keys inside")
        if key not in owner.model_fields:
            inside = f" in {'.'.join(keys[:place])!r}" if place else ""
            hint = nearest_key_hint(key, owner.model_fields)
            raise ConfigError(f"--set {override}: no key {key!r}{inside}; {hint}")
        owner = _model_or(owner.model_fields[key].annotation)


def _refuse_section(kind: type[BaseModel], key: str, override: str) -> None:
    """A whole section can be left out (null), where that is legal, but not be set."""
    owner = _model_or(kind.model_fields[key].annotation)
    if _is_model(owner):
        first = next(iter(owner.model_fields))
        raise ConfigError(
            f"--set {override}: {key} is a section; set one of its keys, such as {key}.{first}=..."
        )


def _model_or(annotation: Any) -> Any:
    """Give the model inside ``Model | None``, else the annotation."""
    if typing.get_origin(annotation) is dict:
        return annotation
    parts = (annotation, *typing.get_args(annotation))
    return next((part for part in parts if _is_model(part)), annotation)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _allows_keys(annotation: Any) -> bool:
    parts = (annotation, *typing.get_args(annotation))
    return any((typing.get_origin(part) or part) is dict for part in parts)


def _set(values: dict[str, Any], keys: KeyPath, value: Any) -> None:
    for key in keys[:-1]:
        inner = values.get(str(key))
        if not isinstance(inner, dict):
            inner = values[str(key)] = {}
        values = inner
    values[str(keys[-1])] = value


def _validate(
    kind: type[Settings], values: Mapping[str, Any], where: str, lines: Mapping[KeyPath, int]
) -> Settings:
    try:
        # JSON, because in it strict types still let a list be a tuple and text be a path.
        return kind.model_validate_json(json.dumps(_whole(values)), strict=True)
    except ValidationError as error:
        raise ConfigError(explain_validation_error(error, kind, where, lines=lines)) from None


def _whole(value: Any) -> Any:
    """Write 8e4 as 80000, which YAML calls a float and everybody a whole number."""
    if isinstance(value, Mapping):
        return {key: _whole(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_whole(part) for part in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if is_whole else value


def _anchored(config: Settings, folder: Path, overridden: set[KeyPath]) -> Settings:
    """Make every path absolute."""
    for keys, path in list(_paths(config)):
        is_override = any(keys[: depth + 1] in overridden for depth in range(len(keys)))
        base = Path.cwd() if is_override else folder
        absolute = (base / Path(path).expanduser()).resolve()
        config = _replaced(config, keys, type(path)(absolute))
    return config


def _paths(
    settings: BaseModel, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str | Path]]:
    """Keys and value of each path."""
    for key in type(settings).model_fields:
        value, keys = getattr(settings, key), (*above, key)
        if isinstance(value, BaseModel):
            yield from _paths(value, keys)
        elif isinstance(value, dict):
            for name, part in value.items():
                if isinstance(part, BaseModel):
                    yield from _paths(part, (*keys, name))
        elif isinstance(value, Path) or (keys in TEXT_PATHS and value is not None):
            yield keys, value


def _replaced(settings: Settings, keys: Sequence[str], value: str | Path) -> Settings:
    """A copy with another value somewhere inside."""
    first, *rest = keys
    old = getattr(settings, first)
    new: Any = value
    if isinstance(old, dict):
        new = {**old, rest[0]: _replaced(old[rest[0]], rest[1:], value)}
    elif rest:
        new = _replaced(old, rest, value)
    return settings.model_copy(update={first: new})
