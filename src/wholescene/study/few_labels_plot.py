"""Plot of a few-label study as one SVG file: scores, and differences to a random start."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wholescene.evaluate.report.charts import ticks

__all__ = ["draw_study"]

_PANEL_W, _PANEL_H = 440, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 30, 42
_LINE = 18
_SPREAD_OVER = 0.5
"""Share of the distance of two fractions over which the rows stand side by side."""
_COLORS = (
    "#1f6fb2",
    "#c8742a",
    "#2f8f5b",
    "#a3519b",
    "#b0902b",
    "#5b67c9",
    "#c8402f",
    "#5d7387",
)
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1b2430}.soft{fill:#5c6878}"
    ".grid{stroke:#dfe3e9}.zero{stroke:#5c6878}.bar{stroke-width:1.5}"
    ".curve{fill:none;stroke-width:1.8}"
)

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class _Panel:
    """One pair of axes; fractions stand at equal distances."""

    x: int
    y: int
    fractions: tuple[float, ...]
    low: float
    high: float

    def at(self, fraction: float, value: float, shift: float) -> tuple[float, float]:
        step = (_PANEL_W - _LEFT - _RIGHT) / len(self.fractions)
        place = self.fractions.index(fraction) + 0.5 + shift * _SPREAD_OVER
        share = (value - self.low) / (self.high - self.low)
        height = _PANEL_H - _TOP - _BOTTOM
        return self.x + _LEFT + place * step, self.y + _PANEL_H - _BOTTOM - share * height


def draw_study(rows: Rows) -> str:
    """Draw mean and spread of every row over the fractions.

    Args:
        rows: From :func:`wholescene.study.few_labels_table.summarise_study`.

    Returns:
        An SVG document: a column of panels for each kind of draw, mIoU above, paired differences
        to random weights below; bars reach one standard deviation to both sides.
    """
    kinds = list(dict.fromkeys(row["by"] for row in rows))
    names = list(dict.fromkeys(row["method"] for row in rows))
    width, height = _PANEL_W * len(kinds), 2 * _PANEL_H + _LINE * len(names) + 12
    parts = [part for column, kind in enumerate(kinds) for part in _column(rows, kind, column)]
    parts += [_legend(name, number) for number, name in enumerate(names)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="few-label study">'
        f"<style>{_STYLE}</style>"
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _column(rows: Rows, kind: str, column: int) -> Iterator[str]:
    names = list(dict.fromkeys(row["method"] for row in rows))
    mine = [row for row in rows if row["by"] == kind]
    for line, (key, spread, title) in enumerate(
        (
            ("miou", "spread", f"mIoU (%), labels drawn by {kind}"),
            ("difference", "difference_spread", "difference to random weights, paired"),
        )
    ):
        known = [row for row in mine if row[key] is not None]
        place = column * _PANEL_W, line * _PANEL_H
        yield from _panel(known, names, (key, spread), title, place)


def _panel(
    rows: Rows, names: Sequence[str], keys: tuple[str, str], title: str, place: tuple[int, int]
) -> Iterator[str]:
    x, y = place
    yield f'<text x="{x + _LEFT}" y="{y + 18}">{html.escape(title)}</text>'
    if not rows:
        return
    ends = [row[keys[0]] + sign * (row[keys[1]] or 0) for row in rows for sign in (-1, 1)]
    marks = ticks(min(0.0, *ends), max(0.0, *ends))
    fractions = tuple(sorted({row["fraction"] for row in rows}))
    panel = _Panel(x, y, fractions, marks[0], marks[-1])
    yield from _axes(panel, marks)
    for number, name in enumerate(names):
        yield from _curve(
            panel, [row for row in rows if row["method"] == name], keys, number, len(names)
        )


def _axes(panel: _Panel, marks: Sequence[float]) -> Iterator[str]:
    left, right = panel.x + _LEFT, panel.x + _PANEL_W - _RIGHT
    for value in marks:
        _, y = panel.at(panel.fractions[0], value, 0)
        kind = "grid" if value else "zero"
        yield f'<line class="{kind}" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield (
            f'<text class="soft" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for fraction in panel.fractions:
        x, y = panel.at(fraction, panel.low, 0)
        yield (
            f'<text class="soft" x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">'
            f"{100 * fraction:g} %</text>"
        )


def _curve(
    panel: _Panel, rows: Rows, keys: tuple[str, str], number: int, count: int
) -> Iterator[str]:
    shift = (number + 0.5) / count - 0.5
    color, dash = _look(number)
    points = [(*panel.at(row["fraction"], row[keys[0]], shift), row) for row in rows]
    if len(points) > 1:
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        yield f'<path class="curve" stroke="{color}"{dash} d="{path}"/>'
    for x, y, row in points:
        spread = row[keys[1]]
        if spread is not None and math.isfinite(spread):
            ends = [panel.at(row["fraction"], row[keys[0]] + s * spread, shift)[1] for s in (-1, 1)]
            yield (
                f'<line class="bar" stroke="{color}" x1="{x:.1f}" x2="{x:.1f}" '
                f'y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>'
            )
        about = f"{row['method']}: {row[keys[0]]:.2f}, {row['runs']} runs"
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}">'
            f"<title>{html.escape(about)}</title></circle>"
        )


def _legend(name: str, number: int) -> str:
    color, dash = _look(number)
    y = 2 * _PANEL_H + _LINE * number + 6
    return (
        f'<line x1="{_LEFT}" x2="{_LEFT + 24}" y1="{y}" y2="{y}" stroke="{color}"{dash} '
        f'stroke-width="2"/><text x="{_LEFT + 32}" y="{y + 4}">{html.escape(name)}</text>'
    )


def _look(number: int) -> tuple[str, str]:
    """Colour, and dashes once the colours are used up."""
    dash = ' stroke-dasharray="6 4"' if number >= len(_COLORS) else ""
    return _COLORS[number % len(_COLORS)], dash
