"""How long work tells that it is alive; the library itself never prints."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress"]


class Progress(Protocol):
    """Receives how much is done."""

    def __call__(self, done: int, total: int, /) -> None:
        """Take note: ``done`` of ``total`` pixels are mapped."""
