"""The tables of ``docs/datasets.md``: datasets, and faults with what is said about each.

``python tests/datasets/dataset_page.py`` writes both anew into the page.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import public_fixtures
from public_fixtures.common import Trap

from wholescene.datasets import load_dataset, verify
from wholescene.datasets.prepare.run import prepare_dataset
from wholescene.datasets.public.recipe import Recipe, load_recipe, recipe_names
from wholescene.errors import WholesceneError

PAGE = Path(__file__).parents[2] / "docs/datasets.md"
DATASET_HEAD = "| name | what | classes | scenes | splits | licence |\n|---|---|---|---|---|---|"
SHOWN = 320
FAULT_HEAD = "| dataset | fault | what is said |\n|---|---|---|"


def fixtures() -> dict[str, ModuleType]:
    """Modules that make a dataset, by its name."""
    names = [m.name for m in pkgutil.iter_modules(public_fixtures.__path__) if m.name != "common"]
    modules = {n: importlib.import_module(f"public_fixtures.{n}") for n in names}
    return {n.replace("_", "-"): m for n, m in modules.items() if hasattr(m, "TRAPS")}


def dataset_row(recipe: Recipe) -> str:
    """A line of the first table."""
    splits = ", ".join(
        f"{split} {count:,}{' (no public labels)' if split in recipe.unlabelled else ''}"
        for split, count in recipe.counts.items()
    )
    cells = (
        f"[{recipe.name}](datasets/{recipe.name}.md)",
        " ".join(recipe.about.split()),
        str(len(recipe.classes)) if recipe.classes else "none",
        recipe.size,
        splits,
        recipe.licence,
    )
    return f"| {' | '.join(cells)} |"


def message(name: str, module: ModuleType, trap: Trap, root: Path) -> str:
    """What is said about a fault, with the folder taken out."""
    module.make(root / "source")
    trap.plant(root / "source")
    said = []
    try:
        made = prepare_dataset(
            load_recipe(name), root / "source", root / "out", **(trap.settings or {})
        )
        said = [*made.notes, *(f.what for f in verify(load_dataset(made.path)))]
    except WholesceneError as error:
        said = [str(error)]
    found = next((m for m in (re.search(rf"(?s).*?(?:{trap.error})", s) for s in said) if m), None)
    if found is None:
        print(f"{name}, {trap}: said is {said}", file=sys.stderr)
        return ""
    return _short(found.string, found.end(), root)


def _short(text: str, needed: int, root: Path) -> str:
    shown = text if len(text) <= SHOWN else f"{text[: max(needed, SHOWN)].rstrip()} ..."
    for folder, name in ((f"{root}/out/../source", "DIR"), (f"{root}/source", "DIR")):
        shown = shown.replace(folder, name)
    return " ".join(shown.replace("|", "\\|").split())


def fault_rows() -> Iterator[str]:
    """Lines of the second table."""
    for name, module in fixtures().items():
        for fault, trap in module.TRAPS.items():
            with tempfile.TemporaryDirectory() as folder:
                text = message(name, module, trap, Path(folder).resolve())
            yield f"| {name} | {fault} | {text} |"


def main() -> None:
    """Write both tables into the page."""
    rows = [dataset_row(load_recipe(name)) for name in recipe_names()]
    text = PAGE.read_text(encoding="utf-8")
    for head, lines in ((DATASET_HEAD, rows), (FAULT_HEAD, list(fault_rows()))):
        before, after = text.split(head, 1)
        rest = after.lstrip("\n").split("\n")
        kept = next((i for i, line in enumerate(rest) if not line.startswith("|")), len(rest))
        text = before + head + "\n" + "\n".join(lines) + "\n" + "\n".join(rest[kept:])
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
