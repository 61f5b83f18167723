"""What a check of a dataset found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """One thing wrong, or worth knowing, about a dataset.

    Args:
        severity: ``error`` where results would be wrong or a run would fail.
        scene: Scene it is about; ``None`` for the whole dataset.
        what: What was found, with values, and what would work.
        check: Name of the check: ``missing-file``, ``unreadable-file``, ``bands``, ``all-nodata``,
            ``label-grid``, ``label-id``, ``label-empty``, ``shared-ground``, ``shared-file``,
            ``shared-content``, ``shared-group``, ``absent-class`` or ``statistics``.
    """

    severity: Literal["error", "warning"]
    scene: str | None
    what: str
    check: str
