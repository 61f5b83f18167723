"""How long work tells that it is alive; the library itself never prints."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[int, int], None]
"""Receives how much is done and how much there is in all, in units its giver names."""
