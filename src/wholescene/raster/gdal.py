"""How this room talks to GDAL: quietly, with a bounded cache, and with errors of our own."""

from __future__ import annotations

import os
import re
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError  # what rasterio lets through where it does not wrap
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from wholescene.errors import RasterError

__all__ = [
    "GDAL_ERRORS",
    "HandlePool",
    "cap_gdal_cache",
    "gdal_env",
    "is_local",
    "open_dataset",
    "why",
    "without_georeferencing_warning",
]

GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError)
"""Whatever a call into GDAL may raise about a file."""

DEFAULT_CACHE_MB = 64

_cache_is_capped = False
_open_lock = threading.RLock()
# Handles a forked child inherits share file offsets and locks with the parent: they are kept
# here, neither used nor closed.
_inherited: list[object] = []


def _renew_lock() -> None:
    global _open_lock
    _open_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def cap_gdal_cache(megabytes: int = DEFAULT_CACHE_MB) -> None:
    """Bound the memory in which GDAL keeps decoded blocks; by default it takes 5 % of the RAM.

    Called with the default when the first raster is opened. Does nothing if the environment
    variable ``GDAL_CACHEMAX`` is set.

    Args:
        megabytes: Size of the cache of the whole process, >= 1.
    """
    global _cache_is_capped
    _cache_is_capped = True
    if "GDAL_CACHEMAX" not in os.environ:
        # rasterio hands this number to GDALSetCacheMax64 as it is: it counts bytes.
        set_gdal_config("GDAL_CACHEMAX", megabytes << 20)


@contextmanager
def gdal_env(**options: Any) -> Iterator[None]:
    """Run GDAL calls of this thread with its messages caught instead of printed."""
    if not _cache_is_capped:
        cap_gdal_cache()
    with rasterio.Env.from_defaults(**options):
        yield


@contextmanager
def without_georeferencing_warning() -> Iterator[None]:
    """Silence rasterio's warning on rasters without georeferencing, which are welcome here."""
    with _open_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def is_local(path: str) -> bool:
    """Whether ``path`` names a file or folder, not a URL, GDAL virtual path or subdataset."""
    if path.startswith("/vsi") or "://" in path:
        return False
    return not re.match(r"^[A-Za-z][A-Za-z0-9_]+:", path) or Path(path).exists()


def open_dataset(path: str, **options: Any) -> Any:
    """Open a raster for reading.

    Four bands of a TIFF that calls itself CMYK are given as they are stored: satellite bands are
    often tagged so, and GDAL's conversion to RGBA would lose the last one.

    Args:
        path: File, URL or GDAL name.
        options: Open options of the driver.

    Raises:
        RasterError: If there is no such file, or GDAL cannot read it.
    """
    try:
        with gdal_env(), without_georeferencing_warning():
            dataset = rasterio.open(path, **options)
            if not _is_converted_cmyk(dataset):
                return dataset
            dataset.close()
            return rasterio.open(f"GTIFF_RAW:{path}", **options)
    except (*GDAL_ERRORS, UnicodeError) as error:
        raise RasterError(_why_not_opened(path, error)) from error


def why(error: BaseException) -> str:
    """Give the innermost reason of an error of rasterio in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(getattr(error, "errmsg", None) or error).split())


def _is_converted_cmyk(dataset: Any) -> bool:
    stored = dataset.tags(ns="IMAGE_STRUCTURE").get("SOURCE_COLOR_SPACE")
    return bool(dataset.driver == "GTiff" and stored == "CMYK")


def _why_not_opened(path: str, error: BaseException) -> str:
    if is_local(path):
        file = Path(path)
        if not file.exists():
            return f"{path}: no such file"
        if file.is_dir():
            return f"{path}: is a folder, not a raster; give the path of one file in it"
        if file.stat().st_size == 0:
            return f"{path}: the file is empty (0 bytes); copy or download it again"
        if not os.access(path, os.R_OK):
            return f"{path}: no permission to read the file"
    return (
        f"{path}: GDAL cannot open it as a raster ({why(error)}); the file is damaged, truncated "
        "or of a format this GDAL has no driver for"
    )


class _Handles(dict[str, Any]):
    """Open datasets of one thread; a class of its own because a dict takes no weak reference."""


class HandlePool:
    """Datasets opened on demand, one handle per file, thread and process.

    GDAL handles are bound to one thread. A pool may be shared by threads, pickled and inherited
    through ``fork``: each thread and each process opens its own.

    Args:
        options: Open options of the driver.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._local = threading.local()
        self._tables: list[weakref.ref[_Handles]] = []

    def __getstate__(self) -> dict[str, Any]:
        return self._options

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def get(self, path: str) -> Any:
        """Give this thread's handle of ``path``."""
        table = self._table()
        if path not in table:
            table[path] = open_dataset(path, **self._options)
        return table[path]

    def close(self) -> None:
        """Close the handles of all threads of this process; the next ``get`` opens anew."""
        for reference in self._tables:
            table = reference()
            if table is None:
                continue
            while table:
                _, dataset = table.popitem()
                with gdal_env():
                    dataset.close()

    def _table(self) -> _Handles:
        if getattr(self._local, "pid", None) != os.getpid():
            if hasattr(self._local, "table"):
                _inherited.append(self._local.table)
                self._tables = []
            self._local.pid = os.getpid()
            self._local.table = _Handles()
            alive = [reference for reference in self._tables if reference() is not None]
            self._tables = [*alive, weakref.ref(self._local.table)]
        table: _Handles = self._local.table
        return table
