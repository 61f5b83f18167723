"""The confusion table as a heat map in inline SVG."""

from __future__ import annotations

import numpy as np

from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.report.markup import count, esc, percent

__all__ = ["confusion_matrix"]

_LARGEST_CELL, _SMALLEST_CELL, _DRAWING_PX = 54, 15, 640
_CELL_WITH_TEXT = 30
_CHAR_PX = 6.6


def confusion_matrix(table: ConfusionTable) -> str:
    """Draw the share of each true class (row) that was mapped as each class (column).

    Counts stand in the tooltips. A last column holds what the map left empty, if anything.
    """
    names = list(table.classes.names)
    columns = [*names, "not mapped"] if table.unmapped_pixels else names
    counts = np.column_stack([table.table, table.unmapped])[:, : len(columns)]
    cell = int(np.clip(_DRAWING_PX // len(columns), _SMALLEST_CELL, _LARGEST_CELL))
    left = int(min(max(len(name) for name in names), 24) * _CHAR_PX) + 14
    top = int(min(max(len(name) for name in columns), 24) * _CHAR_PX * 0.72) + 22
    width, height = left + cell * len(columns) + top, top + cell * len(names) + 4
    drawing = [
        *(_row_name(name, left=left, y=top + (i + 0.5) * cell) for i, name in enumerate(names)),
        *(_column_name(n, x=left + (i + 0.5) * cell, top=top) for i, n in enumerate(columns)),
    ]
    for row, truth in enumerate(names):
        for column, mapped in enumerate(columns):
            number, total = int(counts[row, column]), int(table.support[row])
            verb = "mapped as " if column < len(names) else ""
            drawing.append(
                f'<g transform="translate({left + column * cell},{top + row * cell})">'
                f"<title>{esc(truth)} {verb}{esc(mapped)}: {count(number)} of {count(total)} px"
                f"</title>{_cell(number, total, hit=row == column, size=cell)}</g>"
            )
    return (
        f'<svg class="matrix" viewBox="0 0 {width} {height}" style="max-width:{width}px" '
        f'role="img" aria-label="Confusion matrix, rows truth, columns map">'
        f"{''.join(drawing)}</svg>"
    )


def _cell(number: int, total: int, *, hit: bool, size: int) -> str:
    share = number / total if total else 0.0
    kind = "hit" if hit else "miss"
    # The square root shows small confusions that a linear scale would hide.
    shade = share if hit else share**0.5
    parts = [
        f'<rect class="empty" width="{size - 2}" height="{size - 2}" rx="2"/>',
        f'<rect class="{kind}" width="{size - 2}" height="{size - 2}" rx="2" '
        f'fill-opacity="{shade:.3f}"/>',
    ]
    if size >= _CELL_WITH_TEXT and number:
        text = percent(share, digits=0) if share >= 0.005 else "&lt;1"
        on = "on-dark" if shade > 0.6 else "on-light"
        middle = size / 2 - 1
        parts.append(
            f'<text class="{on}" x="{middle:.1f}" y="{middle + 4:.1f}" text-anchor="middle">'
            f"{text}</text>"
        )
    return "".join(parts)


def _row_name(name: str, *, left: int, y: float) -> str:
    return f'<text x="{left - 8}" y="{y + 3:.1f}" text-anchor="end">{esc(_cut(name))}</text>'


def _column_name(name: str, *, x: float, top: int) -> str:
    return f'<text transform="translate({x:.1f},{top - 8}) rotate(-45)">{esc(_cut(name))}</text>'


def _cut(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "\u2026"
