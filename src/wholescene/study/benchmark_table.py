"""Tables of a benchmark: one row per model, mean and spread over seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wholescene.evaluate.protocol import Protocol
from wholescene.raster.aside import written_aside
from wholescene.study.tables import csv_table, html_page, html_table, text_table

if TYPE_CHECKING:
    from wholescene.study.benchmark import BenchmarkRow

__all__ = ["summarise_rows", "write_table"]

NAME = "benchmark"


def write_table(folder: Path, protocol: Protocol, rows: Sequence[BenchmarkRow]) -> str:
    """Write ``benchmark.json``, ``.csv`` and ``.html``; give the table as text.

    Args:
        folder: Where to write.
        protocol: Rules of the scores.
        rows: Every model and seed so far.
    """
    found = summarise_rows(rows)
    columns = list(found[0])
    document = {
        "protocol": protocol.model_dump(mode="json"),
        "models": found,
        "rows": [asdict(row) for row in rows],
    }
    cells = [[_cell(name, row[name]) for name in columns] for row in found]
    for suffix, text in (
        ("csv", csv_table(columns, found)),
        ("html", _html(protocol, columns, cells)),
        ("json", json.dumps(document, indent=2) + "\n"),
    ):
        with written_aside(folder / f"{NAME}.{suffix}") as part:
            part.write_text(text, encoding="utf-8", newline="")
    return text_table(columns[:_NUM_PRINTED], [row[:_NUM_PRINTED] for row in cells])


_NUM_PRINTED = 8


def summarise_rows(rows: Sequence[BenchmarkRow]) -> list[dict[str, Any]]:
    """One row per model, the best first: mean and standard deviation over its seeds.

    Shares are in percent; the standard deviation is that of a sample, undefined for one seed.
    """
    by_model: dict[str, list[BenchmarkRow]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row)
    found = [_summary(name, each) for name, each in by_model.items()]
    return sorted(found, key=lambda row: -1.0 if row["score"] is None else -row["score"])


def _summary(name: str, rows: Sequence[BenchmarkRow]) -> dict[str, Any]:
    scores = [100 * row.score for row in rows if row.score is not None]
    return {
        "model": name,
        "score": statistics.fmean(scores) if scores else None,
        "spread": statistics.stdev(scores) if len(scores) > 1 else None,
        "seeds": len(rows),
        "parameters": rows[0].parameters,
        "multiply_adds": rows[0].multiply_adds,
        "seconds_per_megapixel": statistics.median(r.seconds_per_megapixel for r in rows),
        "peak_bytes": max(r.peak_bytes for r in rows),
        "train_seconds": statistics.fmean(r.train_seconds for r in rows),
        **{f"IoU {key}": _mean(r.per_class[key] for r in rows) for key in rows[0].per_class},
    }


def _mean(values: Any) -> float | None:
    known = [100 * value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "parameters":
        return f"{value / 1e6:.1f} M"
    if name == "multiply_adds":
        return f"{value / 1e9:.1f} G"
    if name == "peak_bytes":
        return f"{value / 2**20:,.0f} MiB"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _html(protocol: Protocol, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    caption = f"{protocol.about} Multiply-adds are for 1,024 x 1,024 px."
    title = f"{protocol.name}: {protocol.headline}, %"
    return html_page(title, html_table(caption, columns, cells))
