"""Class files: names, ids and colours of classes as YAML, JSON, CSV or plain text."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wholescene.datasets.contract import ClassEntry
from wholescene.errors import ConfigError, DatasetError
from wholescene.yamlfile import parse_yaml

__all__ = ["CLASS_FILES", "class_file_text", "read_class_file"]

CLASS_FILES = (
    "classes.yaml",
    "classes.yml",
    "classes.json",
    "classes.csv",
    "classes.txt",
    "class_dict.csv",
)
"""Names looked for in a folder."""

_FORMS = (
    "a class file is YAML or JSON with a list of names, with 'id: name' lines or with entries "
    "{id: 0, name: road, color: [255, 0, 0]}; CSV with columns name and any of id, color or "
    "r, g, b; or text with a name per line"
)


def read_class_file(path: Path) -> tuple[ClassEntry, ...]:
    """Read the classes of a dataset; without ids they are numbered from 0.

    Raises:
        DatasetError: If the file is missing or cannot be read as classes.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read class file {path}: {error}; see --classes") from None
    suffix = path.suffix.lower()
    if suffix == ".csv":
        entries = _from_csv(text)
    elif suffix == ".txt":
        entries = [{"name": line.strip()} for line in text.splitlines() if line.strip()]
    elif suffix in (".yaml", ".yml", ".json"):
        entries = _from_yaml(text, path)
    else:
        raise DatasetError(f"class file {path} ends in {suffix!r}; {_FORMS}")
    return _checked(entries, path)


def class_file_text(entries: Iterable[ClassEntry]) -> str:
    """The lines of a class file, ready to copy."""
    lines = []
    for entry in entries:
        color = f", color: {[*entry.color]}" if entry.color is not None else ""
        plain = re.fullmatch(r"[A-Za-z]\w*", entry.name)
        name = entry.name if plain else json.dumps(entry.name)
        lines.append(f"- {{id: {entry.id}, name: {name}{color}}}")
    return "\n".join(lines)


def _from_yaml(text: str, path: Path) -> list[Mapping[str, Any]]:
    # The reader takes mappings with names for keys only; a list or ids become part of one.
    lines = ["" if line.startswith("---") else f"  {line}" for line in text.splitlines()]
    try:
        data: Any = parse_yaml("classes:\n" + "\n".join(lines), str(path))["classes"]
    except ConfigError as error:
        raise DatasetError(_one_line_up(str(error))) from None
    if isinstance(data, dict) and "classes" in data:
        data = data["classes"]
    if isinstance(data, dict):
        return [_entry(value, id=key) for key, value in data.items()]
    if isinstance(data, list):
        return [_entry(value) for value in data]
    raise DatasetError(f"{path}: holds no classes; {_FORMS}")


def _one_line_up(message: str) -> str:
    return re.sub(r"line (\d+)", lambda match: f"line {int(match[1]) - 1}", message)


def _entry(value: Any, **known: Any) -> Mapping[str, Any]:
    return {**known, **value} if isinstance(value, dict) else {**known, "name": _text(value)}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _from_csv(text: str) -> list[Mapping[str, Any]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
    header = [cell.casefold() for cell in rows[0]] if rows else []
    if not {"name", "class", "label"} & set(header):
        # Without a header: names, or ids and names.
        header = ["id", "name"] if header and header[0].isdigit() else ["name"]
        rows = [header, *rows]
    names = ["name" if cell in ("class", "label") else cell for cell in header]
    return [_row(dict(zip(names, row, strict=False))) for row in rows[1:]]


def _row(cells: Mapping[str, str]) -> Mapping[str, Any]:
    """A class from named cells; others are left out."""
    entry: dict[str, Any] = {"name": cells.get("name", "")}
    if cells.get("id"):
        entry["id"] = cells["id"]
    parts = [next((cells[key] for key in keys if key in cells), None) for keys in _CHANNELS]
    if None not in parts:
        entry["color"] = parts
    elif color := cells.get("color") or cells.get("colour"):
        entry["color"] = color
    return entry


_CHANNELS = (("r", "red"), ("g", "green"), ("b", "blue"))


def _checked(entries: Sequence[Mapping[str, Any]], path: Path) -> tuple[ClassEntry, ...]:
    if not entries:
        raise DatasetError(f"{path}: holds no class; {_FORMS}")
    if 0 < sum("id" in entry for entry in entries) < len(entries):
        raise DatasetError(f"{path}: some classes have an id and some have none; give all or none")
    classes = []
    for number, entry in enumerate(entries):
        values = {"id": number, **entry}
        if "color" in values:
            values["color"] = _color(values["color"])
        try:
            classes.append(ClassEntry.model_validate(values))
        except ValidationError as error:
            first = error.errors()[0]
            raise DatasetError(
                f"{path}: class {number + 1}, {'.'.join(map(str, first['loc']))} = "
                f"{first['input']!r}: {first['msg'].lower()}; {_FORMS}"
            ) from None
    colors = [entry.color for entry in classes if entry.color is not None]
    if repeated := [color for color in colors if colors.count(color) > 1]:
        raise DatasetError(f"{path}: color {repeated[0]} stands twice; give each class its own")
    return tuple(classes)


def _color(value: Any) -> Any:
    """Three numbers from ``[r, g, b]``, ``"r,g,b"`` or ``"#rrggbb"``."""
    if not isinstance(value, str):
        return value
    if re.fullmatch("#[0-9a-fA-F]{6}", value):
        return [int(value[i : i + 2], 16) for i in (1, 3, 5)]
    return re.findall(r"\d+", value)
