"""Streamed against whole, network by network: the largest difference, and what it took.

The reference is the plain forward in float64. The float32 columns compare the streamed and the
plain float32 forward with it. Writes ``results/equality_*.json`` and prints the table of
``docs/engine.md``.

    python benchmarks/equality.py [NAME ...]
"""

from __future__ import annotations

import copy
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from results import write_result
from torch import Tensor, nn

from wholescene.cli.console import guard
from wholescene.spatial import plan, stream

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "spatial"))
from networks import NETWORKS, OUTPUTS, SHAPES, build

BLOCK = 96


@dataclass(frozen=True)
class Row:
    """One network; differences are relative to the largest value of the reference."""

    network: str
    shape: tuple[int, ...]
    streamed_float64: float
    streamed_float32: float
    whole_float32: float
    whole_float32_channels_last: float
    classes_that_differ: int
    sweeps: int
    kept_bytes: int
    breakers: tuple[str, ...]
    fallbacks: tuple[str, ...]
    seconds: float


def compare(name: str) -> Row:
    """Run one network whole and streamed in both types."""
    start = time.perf_counter()
    module, output = build(name), OUTPUTS.get(name)
    shape = SHAPES.get(name, (1, 3, 192, 256))
    image = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact_module = copy.deepcopy(module).double()
    exact = whole(exact_module, image, output)
    found64 = stream(exact_module, image, block=BLOCK, output=output)
    found32 = stream(module, image.float(), block=BLOCK, output=output)
    plain32 = whole(module, image.float(), output)
    assert found64 is not None
    assert found32 is not None
    last = torch.channels_last
    lasting = copy.deepcopy(module).to(memory_format=last)
    said = plan(module, shape, block=BLOCK, output=output)
    return Row(
        name,
        shape,
        difference(found64, exact),
        difference(found32, exact),
        difference(plain32, exact),
        difference(whole(lasting, image.float().to(memory_format=last), output), exact),
        int((found32.argmax(1) != plain32.argmax(1)).sum()),
        said.sweeps,
        sum(note.num_bytes for note in said.kept),
        summary([note.operator for note in said.breakers]),
        summary([note.operator for note in said.fallbacks]),
        round(time.perf_counter() - start, 1),
    )


def whole(module: nn.Module, image: Tensor, output: str | None) -> Tensor:
    with torch.inference_mode():
        result = module(image)
    return result if output is None else result[output]


def difference(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).abs().max() / exact.abs().max())


def summary(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| network | float64 | float32 | plain float32, channels last | classes that differ "
        "| sweeps | breakers | fallbacks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        plain = f"{row.whole_float32:.1e}, {row.whole_float32_channels_last:.1e}"
        cells = (
            row.network,
            f"{row.streamed_float64:.0e}",
            f"{row.streamed_float32:.1e}",
            plain,
            f"{row.classes_that_differ} of {row.shape[2] * row.shape[3]}",
            str(row.sweeps),
            ", ".join(row.breakers) or "none",
            ", ".join(row.fallbacks) or "none",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@guard
def main(names: Sequence[str]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    start, rows = time.perf_counter(), []
    for name in names or NETWORKS:
        rows.append(compare(name))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    data = {"block": BLOCK, "rows": [asdict(row) for row in rows]}
    path = write_result("equality", data, seconds=time.perf_counter() - start)
    print(f"\n{table(rows)}\n\n{path}")


if __name__ == "__main__":
    main(sys.argv[1:])
