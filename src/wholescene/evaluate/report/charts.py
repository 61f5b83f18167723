"""Line charts as inline SVG; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wholescene.evaluate.report.markup import esc

__all__ = ["Series", "line_chart", "ticks"]

_WIDTH, _HEIGHT = 560, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 34
_NUM_COLORS = 8
_MOST_POINTS = 400
# Longer series than this are noise to the eye: they are drawn faint under their running mean.
_SMOOTH_FROM = 60
_DOTS_BELOW = 60
_SMOOTH_SHARE = 25

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Args:
        name: Its name in the legend.
        points: ``(x, y)`` in increasing x, all finite.
    """

    name: str
    points: tuple[Point, ...]


def ticks(low: float, high: float, *, at_most: int = 7) -> list[float]:
    """Round numbers, evenly spaced, from at or below ``low`` to at or above ``high``.

    Examples:
        >>> ticks(0.12, 0.78)
        [0.0, 0.2, 0.4, 0.6, 0.8]
        >>> ticks(3, 3)
        [2.0, 3.0, 4.0]
    """
    if high <= low:
        margin = abs(low) / 3 or 1.0
        return [low - margin, float(low), low + margin]
    exponent = math.floor(math.log10((high - low) / at_most))
    for step in (factor * 10.0**exponent for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < at_most:
            break
    # i * step is off in its last digits; the decimals of the step are all there are.
    return [round(i * step, max(0, 1 - exponent)) for i in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_range: Point | None = None,
    smooth: bool = False,
    x_name: str = "step",
) -> str:
    """Draw curves over one pair of axes; the y axis includes 0.

    Args:
        series: At least one, each with at least one point.
        title: What the y axis shows.
        x_range: Ends of the x axis; those of the curves if not given.
        smooth: Draw long series faint, under their running mean.
        x_name: What the x axis shows.

    Returns:
        A figure element.
    """
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points]
    x_low, x_high = x_range or (min(xs), max(xs))
    x_high = max(x_high, x_low + 1)
    # From zero, so that noise does not look like a trend.
    y_ticks = ticks(min(0.0, *ys), max(ys))
    frame = _Frame(x_low, x_high, y_ticks[0], y_ticks[-1])
    drawing = [
        *(_y_tick(frame, value) for value in y_ticks),
        *(_x_tick(frame, value) for value in ticks(x_low, x_high) if x_low <= value <= x_high),
        *(_curve(frame, s, style=_style(i), smooth=smooth) for i, s in enumerate(series)),
    ]
    return (
        f'<figure class="chart"><figcaption><h4>{esc(title)}</h4>{_legend(series)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{esc(title)}">'
        f"{''.join(drawing)}"
        f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 2}" text-anchor="end">'
        f"{esc(x_name)}</text></svg></figure>"
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _y_tick(frame: _Frame, value: float) -> str:
    y = frame.y(value)
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}'
        "</text>"
    )


def _x_tick(frame: _Frame, value: float) -> str:
    x, bottom = frame.x(value), _HEIGHT - _BOTTOM
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{_short(value)}'
        "</text>"
    )


def _style(number: int) -> str:
    """Class names: a colour, and dashes once the colours are used up."""
    return f"c{number % _NUM_COLORS}" + (" dashed" if number >= _NUM_COLORS else "")


def _curve(frame: _Frame, series: Series, *, style: str, smooth: bool) -> str:
    points = series.points
    name = esc(series.name)
    path = _path(frame, _thinned(points))
    about = f"<title>{name}: {_short(points[-1][1])} at {_short(points[-1][0])}</title>"
    if smooth and len(points) >= _SMOOTH_FROM:
        mean = _path(frame, _thinned(_running_mean(points)))
        return (
            f'<path class="curve faint {style}" d="{path}"/>'
            f'<path class="curve {style}" d="{mean}">{about}</path>'
        )
    dots = "".join(
        f'<circle class="dot {style}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.5">'
        f"<title>{name}: {_short(y)} at {_short(x)}</title></circle>"
        for x, y in (points if len(points) < _DOTS_BELOW else ())
    )
    return f'<path class="curve {style}" d="{path}">{about}</path>{dots}'


def _path(frame: _Frame, points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Every n-th point and the last; a page needs no more points than pixels."""
    step = math.ceil(len(points) / _MOST_POINTS)
    kept = list(points[::step])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _running_mean(points: Sequence[Point]) -> list[Point]:
    reach = max(1, len(points) // _SMOOTH_SHARE // 2)
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    smooth = []
    for i, (x, _) in enumerate(points):
        first, last = max(0, i - reach), min(len(points), i + reach + 1)
        smooth.append((x, (sums[last] - sums[first]) / (last - first)))
    return smooth


def _legend(series: Sequence[Series]) -> str:
    entries = (
        f'<span><i class="key {_style(i)}"></i>{esc(s.name)} '
        f"<b>{_short(s.points[-1][1])}</b></span>"
        for i, s in enumerate(series)
    )
    return f'<div class="legend">{"".join(entries)}</div>'


def _short(value: float) -> str:
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
