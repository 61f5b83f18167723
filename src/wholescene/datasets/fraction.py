"""Reproducible label subsets of a split."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wholescene.datasets.contract import Dataset
from wholescene.errors import ConfigError, DatasetError, InputError, OutputError
from wholescene.geometry import Size, Window, block_windows
from wholescene.yamlfile import explain_validation_error, read_yaml, write_yaml

__all__ = [
    "FractionRow",
    "FractionTable",
    "draw_fraction",
    "draw_fractions",
    "read_fraction",
    "write_fraction",
]

By = Literal["patch", "scene"]

_WINDOW_COLUMNS = ("scene", "row_off", "col_off", "height", "width")
_HEAD_COLUMNS = ("dataset", "split", "by", "fraction", "seed", "patch_px", "num_labelled")


class FractionRow(BaseModel):
    """One chosen window of one scene."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scene: str
    row_off: int = Field(ge=0)
    col_off: int = Field(ge=0)
    height: int = Field(ge=1)
    width: int = Field(ge=1)

    @property
    def window(self) -> Window:
        """The window alone."""
        return Window(
            row_off=self.row_off, col_off=self.col_off, height=self.height, width=self.width
        )


class FractionTable(BaseModel):
    """The part of a split whose labels may be used.

    Args:
        dataset: Name of the dataset.
        split: Split it was drawn from.
        by: Whether patches or whole scenes were drawn.
        fraction: Share of the labelled patches or scenes, above 0 to 1.
        seed: Seed of the draw.
        patch_px: Side of the patches; ``None`` by scene.
        num_labelled: Labelled patches or scenes there were to draw from.
        rows: Chosen windows, in the order of the scene table, then row by row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    split: str
    by: By
    fraction: float = Field(gt=0, le=1)
    seed: int = Field(ge=0)
    patch_px: int | None = Field(default=None, ge=1)
    num_labelled: int = Field(ge=1)
    rows: tuple[FractionRow, ...] = Field(min_length=1)

    @property
    def windows(self) -> dict[str, tuple[Window, ...]]:
        """Chosen windows of each scene that has any."""
        found: dict[str, list[Window]] = {}
        for row in self.rows:
            found.setdefault(row.scene, []).append(row.window)
        return {scene: tuple(windows) for scene, windows in found.items()}


def draw_fraction(
    dataset: Dataset,
    share: float,
    *,
    seed: int = 0,
    by: By = "patch",
    patch_px: int = 512,
    split: str = "train",
) -> FractionTable:
    """Choose a share of the labelled patches or scenes of a split.

    Every patch has a rank that depends on the seed, its scene and its place alone, and the first
    ranks are taken. So the choice is the same on every machine, and a smaller share of the same
    seed lies within a larger one.

    Args:
        dataset: Dataset whose labels are read to find labelled patches.
        share: Share to keep, above 0 to 1; at least one patch or scene is kept.
        seed: Seed of the draw, >= 0.
        by: ``"patch"`` draws from a grid of non-overlapping patches that hold a label; ``"scene"``
            draws whole labelled scenes.
        patch_px: Side of the patches in pixels; those at the border are cut off.
        split: Split to draw from.

    Raises:
        InputError: If a value is out of range.
        DatasetError: If the split is unknown or holds no label.
    """
    tables = draw_fractions(dataset, [share], seeds=[seed], by=by, patch_px=patch_px, split=split)
    return next(tables)


def draw_fractions(
    dataset: Dataset,
    shares: Sequence[float],
    *,
    seeds: Sequence[int],
    by: By = "patch",
    patch_px: int = 512,
    split: str = "train",
) -> Iterator[FractionTable]:
    """Choose several shares with several seeds, reading the labels once.

    Arguments and errors as in :func:`draw_fraction`; the tables come share by share.
    """
    for share, seed in product(shares, seeds):
        _check_request(share, seed=seed, by=by, patch_px=patch_px)
    candidates = list(_candidates(dataset, split, patch_px if by == "patch" else None))
    if not candidates:
        raise DatasetError(
            f"split {split!r} of {dataset.path} has no labelled pixel to draw from; choose a split "
            "with labels"
        )
    for share, seed in product(shares, seeds):
        wanted = max(1, int(share * len(candidates) + 0.5))
        ranked = sorted(range(len(candidates)), key=lambda i: _rank(candidates[i], seed))
        yield FractionTable(
            dataset=dataset.spec.name,
            split=split,
            by=by,
            fraction=share,
            seed=seed,
            patch_px=patch_px if by == "patch" else None,
            num_labelled=len(candidates),
            rows=tuple(candidates[i] for i in sorted(ranked[:wanted])),
        )


def write_fraction(table: FractionTable, out: str | Path) -> Path:
    """Write a subset as ``.yaml``, or as ``.csv`` with one row per window.

    Raises:
        InputError: If the suffix is neither.
        OutputError: If the file cannot be written.
    """
    out = Path(out)
    _check_suffix(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".csv":
            out.write_text(_as_csv(table), encoding="utf-8")
        else:
            write_yaml(out, table.model_dump(mode="json"))
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    return out


def read_fraction(path: str | Path) -> FractionTable:
    """Read what :func:`write_fraction` wrote; ``.windows`` gives the windows of each scene.

    Raises:
        DatasetError: If the file is missing or no such table.
    """
    path = Path(path)
    _check_suffix(path)
    try:
        data = _from_csv(path) if path.suffix == ".csv" else read_yaml(path)
        return FractionTable.model_validate(data)
    except ValidationError as error:
        raise DatasetError(explain_validation_error(error, FractionTable, str(path))) from None
    except ConfigError as error:
        raise DatasetError(str(error)) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"cannot read label subset {path}: {error}") from None


def _check_request(share: float, *, seed: int, by: str, patch_px: int) -> None:
    if not 0 < share <= 1:
        raise InputError(f"fraction {share} is outside 0..1; 0.05 keeps 5 % of the labels")
    if seed < 0:
        raise InputError(f"seed {seed} is negative; choose a whole number >= 0")
    if by not in ("patch", "scene"):
        raise InputError(f"cannot draw by {by!r}; choose 'patch' or 'scene'")
    if patch_px < 1:
        raise InputError(f"patch_px {patch_px} is below 1")


def _candidates(dataset: Dataset, split: str, patch_px: int | None) -> Iterator[FractionRow]:
    """Give labelled patches, or labelled scenes where ``patch_px`` is ``None``."""
    for scene in dataset.split(split):
        if not dataset.is_labelled(scene):
            continue
        with dataset.label_reader(scene) as labels:
            if patch_px is None:
                yield _row(scene.id, Window.whole(labels.size))
                continue
            for window in block_windows(labels.size, Size(patch_px, patch_px)):
                if (labels.read(window) >= 0).any():
                    yield _row(scene.id, window)


def _row(scene: str, window: Window) -> FractionRow:
    return FractionRow(
        scene=scene,
        row_off=window.row_off,
        col_off=window.col_off,
        height=window.height,
        width=window.width,
    )


def _rank(row: FractionRow, seed: int) -> bytes:
    # A hash, not a generator: the rank of a patch must not depend on which others there are.
    text = f"{seed}/{row.scene}/{row.row_off}/{row.col_off}/{row.height}/{row.width}"
    return hashlib.sha256(text.encode()).digest()


def _check_suffix(path: Path) -> None:
    if path.suffix not in (".csv", ".yaml", ".yml"):
        raise InputError(f"{path}: a label subset is a .csv or .yaml file; change the suffix")


def _as_csv(table: FractionTable) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_HEAD_COLUMNS, *_WINDOW_COLUMNS])
    head = [getattr(table, name) for name in _HEAD_COLUMNS]
    for row in table.rows:
        writer.writerow([*head, *(getattr(row, name) for name in _WINDOW_COLUMNS)])
    return text.getvalue()


def _from_csv(path: Path) -> dict[str, object]:
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    _check_columns(path, list(rows[0]) if rows else [])
    head = {name: rows[0][name] or None for name in _HEAD_COLUMNS}
    for number, row in enumerate(rows, start=2):
        if {name: row[name] or None for name in _HEAD_COLUMNS} != head:
            raise DatasetError(
                f"{path}, row {number}: belongs to another draw than the rows before; keep one "
                "draw per file"
            )
    return {**head, "rows": [{name: row[name] for name in _WINDOW_COLUMNS} for row in rows]}


def _check_columns(path: Path, found: Sequence[str]) -> None:
    missing = [name for name in (*_HEAD_COLUMNS, *_WINDOW_COLUMNS) if name not in found]
    if missing:
        raise DatasetError(
            f"{path}: no label subset: column {missing[0]!r} or every row is missing; make it with "
            "'wholescene data fraction'"
        )
