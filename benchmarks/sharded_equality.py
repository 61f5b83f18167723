"""Sharded against whole, network by network: forward, gradients, and what is sent to every rank.

Three processes with uneven rows, float64, beside the plain module in one process. Differences are
relative to the largest value of what they are differences of. Writes
``results/sharded-equality_*.json`` and prints the table of ``docs/sharded.md``.

    python benchmarks/sharded_equality.py [NAME ...]

Finished networks are kept in ``runs/sharded-equality`` and are not run again.
"""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from budget import kept
from results import write_result

from wholescene.cli.console import guard
from wholescene.spatial.capture import capture
from wholescene.spatial.deal import Deal, Task, deal
from wholescene.spatial.schedule import simplified
from wholescene.spatial.staging import Kind, assign

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "spatial"))
from networks import NETWORKS, OUTPUTS, SHAPES, build
from ranks import together
from sharding import network_differs, uneven_cuts

RANKS = 3
WORK = Path("runs/sharded-equality")


@dataclass(frozen=True)
class Row:
    """One network.

    Args:
        network: Its name.
        shape: Of the scene.
        cuts: Where the rows of each rank begin and end.
        output: Largest difference on any rank, and so are the next two.
        parameters: Of the gradients of parameters, summed over ranks.
        pixels: Of the gradients of the scene.
        gathered: Operators whose argument every rank is sent whole, by the rules.
        fallbacks: Operators without a rule, which every rank computes whole.
        seconds: Building, tracing and comparing.
    """

    network: str
    shape: tuple[int, ...]
    cuts: tuple[int, ...]
    output: float
    parameters: float
    pixels: float
    gathered: tuple[str, ...]
    fallbacks: tuple[str, ...]
    seconds: float


def row_of(name: str) -> Row:
    """One network, now or from before."""
    path = WORK / f"{re.sub('[^A-Za-z0-9+]+', '-', name)}.json"
    return Row(**kept(path, lambda: asdict(compare(name))))


def compare(name: str) -> Row:
    """Run one network whole and over ranks.

    Raises:
        RuntimeError: If a rank fails; the message is its traceback.
    """
    start = time.perf_counter()
    shape = SHAPES.get(name, (1, 3, 192, 256))
    cuts = uneven_cuts(shape[2], RANKS)
    answers = together(RANKS, network_differs, name, cuts)
    for answer in answers:
        if not isinstance(answer, dict):
            raise RuntimeError(f"{name}: {answer}")

    def most(*keys: str) -> float:
        return max(float(answer[key]) for answer in answers for key in keys)

    graph = capture(build(name), shape, output=OUTPUTS.get(name), live=True)
    dealt = deal(assign(simplified(graph)), cuts, 0)
    return Row(
        name,
        shape,
        cuts,
        most("output", "no_grad", "gathered"),
        most("parameters"),
        most("pixels"),
        summary(task.value.name for task in gathering(dealt) if has_rule(task)),
        summary(task.value.name for task in gathering(dealt) if not has_rule(task)),
        round(time.perf_counter() - start, 1),
    )


def gathering(dealt: Deal) -> Iterator[Task]:
    """Operators that are sent all rows of an argument."""
    for task in dealt.tasks:
        if any(argument.is_gathered and argument.route for argument in task.arguments):
            yield task


def has_rule(task: Task) -> bool:
    return task.stage.kind in (Kind.STREAMED, Kind.REDUCED) or task.stage.rule is not None


def summary(names: Iterator[str]) -> tuple[str, ...]:
    return tuple(f"{count} {name}" for name, count in Counter(names).items())


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| network | output | parameters | pixels | sent to every rank | without a rule |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        differences = [f"{value:.0e}" for value in (row.output, row.parameters, row.pixels)]
        named = [", ".join(names) or "none" for names in (row.gathered, row.fallbacks)]
        lines.append(f"| {' | '.join([row.network, *differences, *named])} |")
    return "\n".join(lines)


@guard
def main(names: Sequence[str]) -> None:
    warnings.simplefilter("ignore")
    start, rows = time.perf_counter(), []
    for name in names or NETWORKS:
        rows.append(row_of(name))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    data = {"ranks": RANKS, "dtype": "float64", "rows": [asdict(row) for row in rows]}
    print(f"\n{table(rows)}\n")
    if not names:
        print(write_result("sharded-equality", data, seconds=time.perf_counter() - start))


if __name__ == "__main__":
    main(sys.argv[1:])
