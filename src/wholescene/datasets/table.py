"""The scene table: one row per scene, CSV, or Parquet for large pools."""

from __future__ import annotations

import csv
import datetime as dt
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wholescene.errors import DatasetError, OutputError
from wholescene.yamlfile import nearest_key_hint

__all__ = ["SceneRecord", "read_table", "write_table"]

_REQUIRED = ("id", "split")
_OPTIONAL = ("group", "datetime", "gsd_m")
_BETWEEN_FILES = ";"


@dataclass(frozen=True, kw_only=True)
class SceneRecord:
    """One scene: where its pixels and labels are, and which split it belongs to.

    Args:
        id: Unique in the table.
        split: Name of its split.
        files: Files of each source, one, or one per band.
        labels: File of each target it has; empty when unlabelled.
        group: Scenes of one group (a city, a flight) belong to one split.
        datetime: Acquisition time.
        gsd_m: Ground sampling distance in metres, where the table gives one.
    """

    id: str
    split: str
    files: Mapping[str, tuple[Path, ...]]
    labels: Mapping[str, Path] = field(default_factory=dict)
    group: str | None = None
    datetime: dt.datetime | None = None
    gsd_m: float | None = None

    @property
    def all_files(self) -> tuple[Path, ...]:
        """Every file, sources first."""
        return (*(path for paths in self.files.values() for path in paths), *self.labels.values())


def read_table(
    path: Path, *, sources: Sequence[str], targets: Sequence[str], root: Path
) -> tuple[SceneRecord, ...]:
    """Read a scene table.

    Args:
        path: CSV, or Parquet by its suffix (needs pyarrow).
        sources: Columns with one path, or several joined by ``;``; every row fills each.
        targets: Columns with one path or nothing; a missing column means no labels.
        root: Folder relative paths count from.

    Raises:
        DatasetError: If the table is missing, empty, lacks a column, has one too many, repeats an
            id, or holds a value that cannot be read; with the row.
    """
    header, rows = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    _check_header(path, header, sources=sources, targets=targets)
    if not rows:
        raise DatasetError(f"{path}: no scene in the table; add a row per scene below the header")
    records: dict[str, SceneRecord] = {}
    first_row: dict[str, int] = {}
    for number, row in rows:
        record = _Row(path, number, row).record(sources, targets, root)
        if record.id in records:
            raise DatasetError(
                f"{path}, row {number}: id {record.id!r} stands already in row "
                f"{first_row[record.id]}; ids must be unique"
            )
        records[record.id], first_row[record.id] = record, number
    return tuple(records.values())


def write_table(
    path: Path,
    scenes: Iterable[SceneRecord],
    *,
    sources: Sequence[str],
    targets: Sequence[str],
    root: Path,
) -> None:
    """Write a scene table as CSV, paths relative to ``root`` where that is possible.

    Raises:
        DatasetError: If there is no scene, an id repeats, or a record has other sources or targets.
        OutputError: If the file cannot be written.
    """
    scenes = list(scenes)
    _check_records(path, scenes, sources=sources, targets=targets)
    optional = [name for name in _OPTIONAL if any(getattr(s, name) is not None for s in scenes)]
    labels = [name for name in targets if any(name in scene.labels for scene in scenes)]
    header = [*_REQUIRED, *optional, *sources, *labels]
    rows = [_cells(scene, optional, sources, labels, root) for scene in scenes]
    if path.suffix == ".parquet":
        _write_parquet(path, header, rows)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    _write_aside(path, text.getvalue().encode())


def _cells(
    scene: SceneRecord,
    optional: Sequence[str],
    sources: Sequence[str],
    labels: Sequence[str],
    root: Path,
) -> list[str]:
    plain = [_as_text(getattr(scene, name)) for name in optional]
    files = [
        _BETWEEN_FILES.join(_relative(file, root) for file in scene.files[name]) for name in sources
    ]
    marks = [_relative(scene.labels[n], root) if n in scene.labels else "" for n in labels]
    return [scene.id, scene.split, *plain, *files, *marks]


@dataclass(frozen=True)
class _Row:
    """One row with what its errors must name."""

    table: Path
    number: int
    cells: Mapping[str, str]

    def record(self, sources: Sequence[str], targets: Sequence[str], root: Path) -> SceneRecord:
        labels = {name: self._file(self.cells[name], root) for name in targets if self._has(name)}
        return SceneRecord(
            id=self._required("id"),
            split=self._split(),
            files={name: self._files(name, root) for name in sources},
            labels=labels,
            group=self.cells["group"] if self._has("group") else None,
            datetime=self._datetime(),
            gsd_m=self._gsd(),
        )

    def error(self, what: str) -> DatasetError:
        return DatasetError(f"{self.table}, row {self.number}: {what}")

    def _has(self, name: str) -> bool:
        return bool(self.cells.get(name))

    def _required(self, name: str) -> str:
        if not self._has(name):
            raise self.error(f"column {name!r} is empty; every scene needs it")
        return self.cells[name]

    def _split(self) -> str:
        split = self._required("split")
        if "+" in split:
            raise self.error(f"split {split!r} holds a '+', which joins splits; rename it")
        return split

    def _files(self, name: str, root: Path) -> tuple[Path, ...]:
        parts = [part.strip() for part in self._required(name).split(_BETWEEN_FILES)]
        if not all(parts):
            raise self.error(f"column {name!r} has an empty path between its ';'")
        return tuple(self._file(part, root) for part in parts)

    def _file(self, text: str, root: Path) -> Path:
        if "\0" in text:
            raise self.error(f"{text!r} is not a path")
        return Path(text) if "://" in text else root / text

    def _datetime(self) -> dt.datetime | None:
        if not self._has("datetime"):
            return None
        try:
            return dt.datetime.fromisoformat(self.cells["datetime"])
        except ValueError:
            raise self.error(
                f"datetime {self.cells['datetime']!r} is not ISO 8601, such as 2024-05-31T10:20:00Z"
            ) from None

    def _gsd(self) -> float | None:
        if not self._has("gsd_m"):
            return None
        try:
            gsd_m = float(self.cells["gsd_m"])
        except ValueError:
            gsd_m = -1.0
        if not 0 < gsd_m < float("inf"):
            raise self.error(f"gsd_m {self.cells['gsd_m']!r} is not a number of metres > 0")
        return gsd_m


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(
            f"no scene table {path}; 'scenes' in dataset.yaml names it, relative to that file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read scene table {path}: {error}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(c.strip() for c in cells)]
    except csv.Error as error:
        raise DatasetError(f"{path}, row {reader.line_num}: not valid CSV: {error}") from None
    if not lines:
        raise DatasetError(f"{path}: the file is empty; its first row names the columns")
    header = [cell.strip() for cell in lines[0][1]]
    rows = []
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise DatasetError(
                f"{path}, row {number}: {len(cells)} cells for {len(header)} columns; write '' for "
                "an empty cell and quote cells that hold a comma"
            )
        rows.append((number, {k: c.strip() for k, c in zip(header, cells, strict=True)}))
    return header, rows


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise DatasetError(
            f"{path}: a Parquet table needs pyarrow; pip install 'wholescene[vector]', or use CSV"
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read scene table {path}: {error}") from None
    rows = [
        (number, {key: _as_text(value) for key, value in row.items()})
        for number, row in enumerate(table.to_pylist(), start=1)
    ]
    return list(table.column_names), rows


def _write_parquet(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DatasetError(
            f"{path}: a Parquet table needs pyarrow; pip install 'wholescene[vector]', or use CSV"
        ) from None
    table = pyarrow.table(dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    _write_aside(path, buffer.getvalue())


def _check_header(
    path: Path, header: Sequence[str], *, sources: Sequence[str], targets: Sequence[str]
) -> None:
    legal = [*_REQUIRED, *_OPTIONAL, *sources, *targets]
    for name in header:
        if name not in legal:
            raise DatasetError(
                f"{path}: unknown column {name!r}; {nearest_key_hint(name, legal)}. Sources and "
                "targets are named in dataset.yaml"
            )
        if list(header).count(name) > 1:
            raise DatasetError(f"{path}: column {name!r} stands twice; keep one")
    for name in (*_REQUIRED, *sources):
        if name not in header:
            why = "a source of dataset.yaml" if name in sources else "always needed"
            raise DatasetError(f"{path}: no column {name!r} ({why}); it has {', '.join(header)}")


def _check_records(
    path: Path, scenes: Sequence[SceneRecord], *, sources: Sequence[str], targets: Sequence[str]
) -> None:
    if not scenes:
        raise DatasetError(f"{path}: no scene to write; a dataset needs at least one")
    ids: set[str] = set()
    for scene in scenes:
        if scene.id in ids:
            raise DatasetError(f"{path}: id {scene.id!r} stands twice; ids must be unique")
        ids.add(scene.id)
        if set(scene.files) != set(sources) or not set(scene.labels) <= set(targets):
            raise DatasetError(
                f"{path}: scene {scene.id!r} has sources {sorted(scene.files)} and targets "
                f"{sorted(scene.labels)}; the description lists {list(sources)} and {list(targets)}"
            )


def _as_text(value: object) -> str:
    if value is None or value != value:  # None or NaN, as tables mark empty cells
        return ""
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def _relative(file: Path, root: Path) -> str:
    scheme, separator, rest = file.as_posix().partition(":/")
    if separator and len(scheme) > 1:  # a URL, from which Path took a slash; not a drive letter
        return f"{scheme}://{rest.lstrip('/')}"
    if file.as_posix().startswith("/vsi"):  # GDAL's own file systems
        return file.as_posix()
    try:
        return Path(os.path.relpath(file, root)).as_posix()
    except ValueError:  # another drive
        return file.absolute().as_posix()


def _write_aside(path: Path, content: bytes) -> None:
    aside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
