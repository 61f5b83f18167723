"""``metrics.csv``: one row per logged step, in one flat file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from wholescene.errors import OutputError, ResumeError
from wholescene.labels import ClassTable

__all__ = ["STEP_COLUMNS", "MetricsFile", "metric_columns", "read_metrics"]

STEP_COLUMNS = ("step", "epoch", "loss", "lr", "seconds", "patches_per_second")
"""Of every run."""

_VALIDATION = ("val_loss", "val_miou", "val_mf1", "val_overall_accuracy", "val_kappa")


def metric_columns(classes: ClassTable) -> tuple[str, ...]:
    """Columns of ``metrics.csv`` for these classes, in order."""
    return (*STEP_COLUMNS, *_VALIDATION, *(f"val_iou_{name}" for name in classes.names))


class MetricsFile:
    """Appends rows; a row is on disk, whole, when :meth:`write` returns.

    Args:
        path: The file; made if missing.
        columns: Header.
        keep_until: Last step whose rows survive; later ones, written by a run that was killed
            after its last checkpoint, would stand twice.

    Raises:
        ResumeError: If the file has other columns.
        OutputError: If it cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, keep_until: int) -> None:
        self.path = path
        self._columns = tuple(columns)
        kept = [row for row in self._existing() if int(row["step"]) <= keep_until]
        aside = path.with_name(path.name + ".part")
        try:
            aside.write_text(self._lines(kept, header=True), encoding="utf-8")
            aside.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

    def write(self, row: Mapping[str, float]) -> None:
        """Append one row; columns it lacks stay empty."""
        text = {key: format_number(value) for key, value in row.items()}
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._lines([text], header=False))
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _existing(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        columns, rows = _read(self.path)
        if columns != self._columns:
            raise ResumeError(
                f"{self.path} has columns {list(columns)}, this run writes {list(self._columns)}; "
                "resume with the same classes and version, or start in a new folder"
            )
        return rows

    def _lines(self, rows: Sequence[Mapping[str, str]], *, header: bool) -> str:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self._columns, restval="", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return buffer.getvalue()


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """Read ``metrics.csv``; empty cells are left out of a row.

    Raises:
        OutputError: If the file cannot be read.
    """
    _, rows = _read(Path(path))
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


def format_number(value: float) -> str:
    """Shortest text that reads back as the same number."""
    return str(value) if isinstance(value, int) else repr(float(value))


def _read(path: Path) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Header and whole rows; a last line cut off by a kill is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole))
    rows = [row for row in reader if None not in row.values() and row["step"].isdigit()]
    return tuple(reader.fieldnames or ()), rows
