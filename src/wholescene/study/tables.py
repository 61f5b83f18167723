"""Tables of a study as CSV, text and HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["csv_table", "html_page", "html_table", "text_table"]

_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2rem;max-width:90rem}"
    "table{border-collapse:collapse}td,th{padding:.3rem .7rem;text-align:right;"
    "border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}"
    "caption{text-align:left;padding-bottom:.7rem}"
)


def csv_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def text_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Cells under their headings, the first column to the left and the others to the right."""
    rows = [list(columns), *cells]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def html_table(caption: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """One table element; all text is escaped."""
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
    )
    return f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>\n{body}</table>"


def html_page(title: str, body: str) -> str:
    """A page that needs no other file.

    Args:
        title: Heading, escaped here.
        body: Elements.
    """
    title = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>{body}</html>\n"
    )
