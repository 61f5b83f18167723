"""Small pieces of HTML; all text passes through ``esc``."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable

__all__ = ["DASH", "bar", "count", "esc", "percent", "swatch", "table", "tile"]

DASH = "&ndash;"

Rgb = tuple[int, int, int]


def esc(text: object) -> str:
    """Text that shows as it is, inside elements and attributes."""
    return html.escape(str(text), quote=True)


def percent(share: float | None, *, digits: int = 1) -> str:
    """A share in percent without the sign; a dash where undefined."""
    if share is None or math.isnan(share):
        return DASH
    return f"{100 * share:.{digits}f}"


def count(number: int) -> str:
    """A whole number with thousands separated."""
    return f"{number:,}"


def swatch(color: Rgb) -> str:
    """A patch of a class's colour."""
    red, green, blue = (int(part) for part in color)
    return f'<i class="swatch" style="background:rgb({red},{green},{blue})"></i>'


def bar(share: float | None, *, kind: str = "") -> str:
    """A number in percent over a bar of that length."""
    known = share is not None and not math.isnan(share)
    width = 100 * min(max(share, 0.0), 1.0) if share is not None and known else 0.0
    return (
        f'<span class="bar {kind}"><i class="track"><i style="width:{width:.1f}%"></i></i>'
        f"<b>{percent(share)}</b></span>"
    )


def tile(label: str, value: str, note: str = "") -> str:
    """A headline figure; ``value`` and ``note`` are HTML."""
    return (
        f'<div class="tile"><span>{esc(label)}</span><strong>{value}</strong>'
        f"<small>{note}</small></div>"
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, text_columns: int = 1) -> str:
    """A table of HTML cells; the first ``text_columns`` columns read as text, others as numbers."""

    def cells(values: Iterable[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="{"text" if i < text_columns else "number"}">{value}</{tag}>'
            for i, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
