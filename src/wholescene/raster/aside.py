"""Outputs that appear under their name only when they are complete."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wholescene.errors import OutputError

__all__ = [
    "aside_path",
    "free_disk_check",
    "output_error",
    "prepare_aside",
    "publish",
    "room_for",
    "written_aside",
]


def aside_path(path: Path) -> Path:
    """Name of the unfinished file: ``map.part.tif`` for ``map.tif``."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


@contextmanager
def written_aside(path: Path, *, aside: Path | None = None) -> Iterator[Path]:
    """Give a path to write to; it takes the place of ``path`` on success and vanishes on error.

    Raises:
        OutputError: For any ``OSError``, in words that name ``path``.
    """
    part = aside or aside_path(path)
    try:
        prepare_aside(path, part)
        yield part
        publish(part, path)
    except OutputError:
        raise
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def prepare_aside(path: Path, part: Path) -> None:
    """Make sure that ``path`` can be written, before any work.

    Raises:
        OutputError: If it is a folder.
        OSError: If the folder cannot be made or written to.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    # GDAL and its like describe a refusal less well than the operating system does.
    os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o666))


def publish(part: Path, path: Path) -> None:
    """Make ``part`` durable and give it the name ``path``."""
    handle = os.open(part, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    part.replace(path)


def free_disk_check(
    folder: str | Path, needed_bytes: int, *, file_bytes: int | None = None
) -> None:
    """Refuse work whose output cannot fit, before it starts.

    Args:
        folder: Where the output goes; it need not exist yet.
        needed_bytes: Upper bound of all files together.
        file_bytes: Upper bound of the largest single file; ``None`` if it is the only one.

    Raises:
        OutputError: If the disk has less room, or a file may not grow that large.
    """
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if needed_bytes > free:
        raise OutputError(
            f"{folder}: needs up to {_megabytes(needed_bytes)} of disk, but only "
            f"{_megabytes(free)} are free; free space or choose another folder with --out"
        )
    largest = needed_bytes if file_bytes is None else file_bytes
    if largest > _file_limit():
        raise OutputError(
            f"{folder}: a file of up to {_megabytes(largest)} is needed, but files may not exceed "
            f"{_megabytes(_file_limit())} here; raise the limit (ulimit -f)"
        )


def room_for(path: Path, more_bytes: int) -> None:
    """Refuse to let ``path`` grow by ``more_bytes`` if that cannot succeed.

    Raises:
        OSError: ENOSPC or EFBIG, as the operating system would in the middle of the file.
    """
    size = path.stat().st_size
    if size + more_bytes > _file_limit():
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    if more_bytes > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def output_error(path: Path, error: OSError) -> OutputError:
    """Say what stands in the way of writing ``path``."""
    code = error.errno
    if code in (errno.ENOSPC, errno.EDQUOT):
        text = "the disk is full; free space or choose another folder with --out"
    elif code == errno.EFBIG:
        text = (
            f"the file would exceed the largest allowed here ({_megabytes(_file_limit())}); raise "
            "the limit (ulimit -f) or choose another file system with --out"
        )
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        text = f"no permission to write in {path.parent}; choose another folder with --out"
    elif code in (errno.ENOTDIR, errno.EEXIST):
        text = f"{path.parent} is a file, not a folder; choose another folder with --out"
    elif code == errno.ENAMETOOLONG:
        text = "the name is too long; choose a shorter one with --out"
    else:
        text = f"cannot be written ({error.strerror or error})"
    return OutputError(f"{path}: {text}")


def _file_limit() -> float:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return float("inf")
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"
