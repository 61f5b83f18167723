"""How commands talk: results on stdout, progress and errors on stderr, exit codes."""

from __future__ import annotations

import functools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from wholescene.errors import WholesceneError
from wholescene.progress import Progress

__all__ = ["EXIT_INTERRUPTED", "EXIT_USER", "finish", "guard", "note", "progress", "show_debug"]

EXIT_USER = 2
EXIT_INTERRUPTED = 130

PLAIN_INTERVAL_S = 10.0

P = ParamSpec("P")
R = TypeVar("R")

_state = {"debug": False}


def show_debug(value: bool) -> bool:
    """Let errors show their traceback (option callback)."""
    _state["debug"] = value
    return value


def guard(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a user's mistake into one message and exit code 2, Ctrl-C into 130."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            note("interrupted; finished work is kept, run again with --resume where it is offered")
            raise SystemExit(EXIT_INTERRUPTED) from None
        except (WholesceneError, OSError, ImportError) as error:
            if _state["debug"] or not _is_expected(error):
                raise
            note(f"error: {error}")
            raise SystemExit(EXIT_USER) from None

    return guarded


def _is_expected(error: BaseException) -> bool:
    """Whether the error is a user's to mend: ours, a file's, or a missing extra."""
    if isinstance(error, ImportError):
        return "wholescene[" in str(error)
    return True


def note(text: str) -> None:
    """Print one line on stderr."""
    print(text, file=sys.stderr, flush=True)


def finish(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print the result: one JSON object with ``--json``, else ``text``."""
    if as_json:
        print(json.dumps(_plain(result), allow_nan=False, default=str))
    else:
        print(text)


def _plain(value: Any) -> Any:
    """Make a value JSON can hold: NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def progress(title: str, unit: str) -> Iterator[Progress]:
    """Show done/total with rate and remaining time: a bar on a terminal, plain lines otherwise.

    Yields:
        A callable that takes ``(done, total)`` in ``unit``.
    """
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(title, unit) as update:
            yield update
    else:
        yield _PlainLines(title, unit)


class _PlainLines:
    """One line every few seconds, for logs."""

    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        self._start = self._last = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if now - self._last < PLAIN_INTERVAL_S and done < total:
            return
        self._last = now
        rate = (done - self._first) / max(now - self._start, 1e-9)
        left = (total - done) / rate if rate > 0 else math.inf
        share = 100 * done / max(total, 1)
        remaining = f", {left:.0f} s left" if math.isfinite(left) and done < total else ""
        pace = f" ({rate:.3g} {self._unit}/s{remaining})" if rate > 0 else ""
        note(f"{self._title}: {share:.0f} %{pace}")


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, rate="")

        def update(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:.3g} {unit}/s" if speed else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield update
