"""What the repeats of ``whole_scene.py`` say together: medians, ratios, wrong pixels, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["map_path", "summarise", "table"]

Cell = dict[str, Any]
REFERENCES = {
    "folded": "ratio_to_folded",
    "eager": "ratio_to_eager",
    "streamed": "ratio_to_streamed",
}
MIB = 1 << 20


def map_path(work: Path, key: Mapping[str, Any]) -> Path:
    """Where a cell leaves its class map."""
    parts = (key["network"], key["side"], key["dtype"], key["method"])
    return work / ("_".join(map(str, parts)) + ".npy")


def summarise(cells: Mapping[str, Sequence[Cell]], work: Path) -> list[dict[str, Any]]:
    """One row for each way to map one network's scene.

    Args:
        cells: The repeats of each way, in order.
        work: Where the class maps are.
    """
    done = {method: list(found) for method, found in cells.items() if _is_done(found)}
    best = {kind: _fastest(done, kind) for kind in REFERENCES}
    exact = next((m for m in ("whole", "streamed", *done) if m in done), None)
    rows = []
    for method, found in cells.items():
        row = {key: found[0][key] for key in ("network", "side", "dtype", "method")}
        if method not in done:
            rows.append({**row, "error": next(c["error"] for c in found if "error" in c)})
            continue
        row["seconds"] = [cell["seconds"] for cell in found]
        for field in ("seconds", "ready_seconds"):
            row[f"median_{field}"] = median(cell[field] for cell in found)
        for kind, name in REFERENCES.items():
            row[name] = _ratio(found, done.get(best[kind] or "", ()))
        for field in ("loaded_bytes", "peak_bytes", "working_bytes"):
            row[field] = max(cell[field] for cell in found)
        row["threads"] = found[0]["threads"]
        row["exact"] = exact
        row["wrong_share"] = None if exact is None else _wrong_share(found[0], done[exact][0], work)
        rows.append(row)
    return rows


def _is_done(found: Sequence[Cell]) -> bool:
    return bool(found) and not any("error" in cell for cell in found)


def _fastest(done: Mapping[str, Sequence[Cell]], kind: str) -> str | None:
    """The fastest size of a kind; for the exact engine its default block, if that was run."""
    if kind in done:
        return kind
    sizes = [method for method in done if method.partition("-")[0] == kind]
    return min(sizes, key=lambda m: median(c["seconds"] for c in done[m]), default=None)


def _ratio(found: Sequence[Cell], reference: Sequence[Cell]) -> float | None:
    pairs = [(a["seconds"], b["seconds"]) for a, b in zip(found, reference, strict=False)]
    return round(median(a / b for a, b in pairs), 4) if pairs else None


def _wrong_share(cell: Cell, exact: Cell, work: Path) -> float:
    import numpy as np

    found, truth = (np.load(map_path(work, each), mmap_mode="r") for each in (cell, exact))
    return float((found != truth).mean())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| network | scene | way | median s | / best folded tiles | / best eager tiles "
        "| / streamed | peak above image and weights, MiB | other class than exact, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        head = (row["network"], f"{row['side']} x {row['side']}", row["method"])
        if "error" in row:
            lines.append(f"| {' | '.join(head)} | {row['error'].replace('|', '/')} | | | | | |")
            continue
        cells = (
            *head,
            f"{row['median_seconds']:.2f}",
            *(_number(row[name], "{:.2f}") for name in REFERENCES.values()),
            f"{row['working_bytes'] / MIB:,.0f}",
            _number(row["wrong_share"], "{:.4%}").rstrip("%"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
