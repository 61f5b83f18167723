"""``docs/datasets.md`` and its pages name every dataset and every fault."""

from __future__ import annotations

import re

import pytest
from dataset_page import DATASET_HEAD, FAULT_HEAD, PAGE, dataset_row, fixtures

from wholescene.datasets.public.recipe import load_recipe, recipe_names

TEXT = PAGE.read_text(encoding="utf-8")
TRAPS = [(name, fault) for name, module in fixtures().items() for fault in module.TRAPS]


def table(head: str) -> list[list[str]]:
    lines = TEXT.partition(head)[2].strip().splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines[:end]
    ]


@pytest.mark.parametrize("name", recipe_names())
def test_every_dataset_has_a_row_and_a_page(name: str) -> None:
    recipe = load_recipe(name)
    assert dataset_row(recipe) in TEXT, "python tests/datasets/dataset_page.py writes it anew"
    page = (PAGE.parent / f"datasets/{name}.md").read_text(encoding="utf-8")
    assert recipe.homepage in page
    assert f"data prepare {name} " in page
    choices = [names for names in (recipe.layouts, recipe.ways) if len(names) > 1]
    lacking = [word for names in choices for word in names if f"`{word}`" not in page]
    assert lacking == []


@pytest.mark.parametrize(("name", "fault"), TRAPS)
def test_every_fault_is_listed_with_what_is_said(name: str, fault: str) -> None:
    said = [cells[2] for cells in table(FAULT_HEAD) if cells[:2] == [name, fault]]
    assert len(said) == 1, "python tests/datasets/dataset_page.py writes the rows anew"
    assert re.search(fixtures()[name].TRAPS[fault].error, said[0])


def test_no_row_is_left_of_what_is_gone() -> None:
    assert [tuple(cells[:2]) for cells in table(FAULT_HEAD)] == TRAPS
    names = [re.sub(r"\[(.*?)\].*", r"\1", cells[0]) for cells in table(DATASET_HEAD)]
    assert names == [*recipe_names()]
