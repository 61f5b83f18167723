"""Unfinished rasters that survive the death of the process that writes them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError, OutputError, ResumeError
from wholescene.geometry import Size
from wholescene.raster.aside import output_error

__all__ = ["RowStore"]

JOURNAL = "journal.json"
LOCK = "lock"
SCRATCH = "stream"
FORMAT = 1

# File locks of one process do not exclude each other.
_held_here: set[Path] = set()


class RowStore:
    """A folder with one raw file per product and a journal of the rows that are durable.

    A raw file holds its bands one after the other, each row by row. ``commit`` makes the rows
    durable first and records them second, so that a process killed at any moment leaves a store
    whose journal promises nothing that is not there.

    Args:
        folder: The store's own folder; made if need be.
        products: Number of bands and dtype of each raster.
        size: Rows and columns of all rasters.
        key: What the rows depend on (scene, model, settings), as JSON values.
        resume: Continue where a store with the same key stopped; otherwise start afresh.

    Raises:
        OutputError: If the folder cannot be written, or another process is writing it.
        ResumeError: If the store belongs to other work or is damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        products: Mapping[str, tuple[int, str]],
        size: Size,
        key: Mapping[str, Any],
        resume: bool,
    ) -> None:
        self.folder = Path(folder)
        self.size = size
        self._products = {
            name: (bands, np.dtype(dtype)) for name, (bands, dtype) in products.items()
        }
        self._plan = _plain(
            {
                "format": FORMAT,
                "size": list(size),
                "products": {n: [b, d.str] for n, (b, d) in self._products.items()},
                "key": dict(key),
            }
        )
        self._files: dict[str, int] = {}
        self._lock: int | None = None
        self._rows_done = 0
        try:
            self._open(resume)
        except OSError as error:
            self.close()
            raise error if isinstance(error, OutputError) else self._error(error) from error
        except ResumeError:
            self.close()
            raise

    @property
    def rows_done(self) -> int:
        """Rows from the top that are durable in every product."""
        return self._rows_done

    @property
    def scratch(self) -> Path:
        """Sub-folder for whatever else it takes to go on; it lives and goes with the store."""
        return self.folder / SCRATCH

    def path(self, product: str) -> Path:
        """Raw file of a product."""
        return self.folder / f"{product}.raw"

    def write_rows(self, product: str, row_off: int, rows: NDArray[np.generic]) -> None:
        """Write rows of one product.

        Args:
            product: Its name.
            row_off: First row.
            rows: (bands, h, width) in the product's dtype.

        Raises:
            InputError: If shape or dtype are wrong.
            OutputError: If the disk is full.
        """
        bands, dtype = self._products[product]
        fits = rows.ndim == 3 and rows.shape[::2] == (bands, self.size.width)
        if not fits or rows.dtype != dtype or not 0 <= row_off <= self.size.height - rows.shape[1]:
            raise InputError(
                f"{self.path(product)}: rows {rows.shape} of {rows.dtype} at row {row_off} do not "
                f"fit into ({bands}, {self.size.height}, {self.size.width}) of {dtype}"
            )
        row_bytes = self.size.width * dtype.itemsize
        try:
            for band, block in enumerate(rows):
                start = (band * self.size.height + row_off) * row_bytes
                _write_at(self._files[product], np.ascontiguousarray(block), start)
        except OSError as error:
            raise self._error(error) from error

    def commit(self, rows_done: int) -> None:
        """Make all rows above ``rows_done`` durable, then record it.

        Raises:
            OutputError: If the disk is full.
        """
        if not self._rows_done <= rows_done <= self.size.height:
            raise InputError(
                f"{self.folder}: cannot commit {rows_done} rows after {self._rows_done} of "
                f"{self.size.height}"
            )
        try:
            for file in self._files.values():
                os.fsync(file)
            self._record(rows_done)
        except OSError as error:
            raise self._error(error) from error
        self._rows_done = rows_done

    def remove(self) -> None:
        """Delete the store, once what it holds has become a map."""
        # The journal goes first: without it what is left of a killed removal is no store.
        names = [self.folder / JOURNAL, *(self.path(product) for product in self._products)]
        # The lock goes last: without it another process could start in a half-removed folder.
        self._close_files()
        for name in names:
            with suppress(OSError):
                name.unlink()
        shutil.rmtree(self.scratch, ignore_errors=True)
        with suppress(OSError):
            (self.folder / LOCK).unlink()
        self.close()
        with suppress(OSError):
            self.folder.rmdir()

    def close(self) -> None:
        """Let go of the store and leave it on disk."""
        self._close_files()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            _held_here.discard(self.folder.absolute())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, resume: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        journal = self._journal() if resume else None
        if journal is None:
            (self.folder / JOURNAL).unlink(missing_ok=True)
            if self.scratch.exists():
                shutil.rmtree(self.scratch)
        for product, (bands, dtype) in self._products.items():
            length = bands * self.size.area * dtype.itemsize
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._files[product] = os.open(self.path(product), flags, 0o666)
            if journal is None:
                os.ftruncate(self._files[product], 0)
                os.ftruncate(self._files[product], length)
            elif os.fstat(self._files[product]).st_size != length:
                raise ResumeError(
                    f"{self.path(product)}: has not the {length} bytes that its journal implies; "
                    "it is damaged, run again without --resume to start afresh"
                )
        if journal is None:
            self._record(0)
        else:
            self._rows_done = journal

    def _take_lock(self) -> None:
        if self.folder.absolute() in _held_here:
            raise OutputError(_busy(self.folder))
        lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock_file(lock)
        except OSError as error:
            os.close(lock)
            raise OutputError(_busy(self.folder)) from error
        self._lock = lock
        _held_here.add(self.folder.absolute())

    def _journal(self) -> int | None:
        """Rows that an earlier process finished; ``None`` if it never came to write the journal."""
        journal = self.folder / JOURNAL
        if not journal.exists():
            return None
        try:
            found = json.loads(journal.read_text("utf-8"))
            rows_done = int(found.pop("rows_done"))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ResumeError(
                f"{journal}: is damaged; run again without --resume to start afresh"
            ) from error
        different = _difference(found, self._plan)
        if different is not None:
            raise ResumeError(
                f"{self.folder}: cannot resume, {different}; run with the same scene, model and "
                "settings, or without --resume to start afresh"
            )
        return rows_done

    def _record(self, rows_done: int) -> None:
        journal = self.folder / JOURNAL
        new = self.folder / (JOURNAL + ".new")
        text = json.dumps({**self._plan, "rows_done": rows_done}, indent=1, sort_keys=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            _write_at(handle, np.frombuffer(text.encode(), np.uint8), 0)
            os.fsync(handle)
        finally:
            os.close(handle)
        new.replace(journal)
        _sync_folder(self.folder)

    def _close_files(self) -> None:
        while self._files:
            _, file = self._files.popitem()
            os.close(file)

    def _error(self, error: OSError) -> OutputError:
        failed = output_error(self.folder, error)
        kept = f" (--resume continues after the {self._rows_done} rows that are done)"
        return OutputError(f"{failed}{kept if self._rows_done else ''}")


def _plain(value: Any) -> Any:
    """Bring a value to the form it has after a round trip through JSON."""
    return json.loads(json.dumps(value, sort_keys=True))


def _difference(found: Any, wanted: Any, name: str = "") -> str | None:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            inner = f"{name}.{key}" if name and name != "key" else key
            different = _difference(found.get(key), wanted.get(key), inner)
            if different is not None:
                return different
        return None
    return None if found == wanted else f"{name!r} was {found!r} and is now {wanted!r}"


def _write_at(file: int, block: NDArray[np.generic], start: int) -> None:
    left = memoryview(block.reshape(-1).view(np.uint8).data)
    while left:
        if sys.platform == "win32":
            os.lseek(file, start, os.SEEK_SET)
            written = os.write(file, left)
        else:
            written = os.pwrite(file, left, start)
        left, start = left[written:], start + written


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where folders can be synchronised."""
    with suppress(PermissionError, IsADirectoryError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _busy(folder: Path) -> str:
    return (
        f"{folder}: another process is writing it; wait for that to end, or choose another name "
        "with --out"
    )


def _lock_file(handle: int) -> None:
    """Lock until the process ends; a child forked from it does not keep the lock."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
