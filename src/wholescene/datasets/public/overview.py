"""What datasets there are, for ``wholescene data list``."""

from __future__ import annotations

from typing import Any

from wholescene.datasets.public.recipe import Recipe, load_recipe, recipe_names

__all__ = ["describe_recipes", "recipe_facts"]


def recipe_facts() -> list[dict[str, Any]]:
    """Everything worth knowing about each dataset before it is downloaded."""
    return [_facts(load_recipe(name)) for name in recipe_names()]


def describe_recipes() -> str:
    """A table as text."""
    rows = [("name", "classes", "m", "scenes", "licence")]
    for facts in recipe_facts():
        classes = str(len(facts["classes"])) if facts["classes"] else "none"
        gsd = "" if facts["gsd_m"] is None else f"{facts['gsd_m']:g}"
        rows.append((facts["name"], classes, gsd, facts["size"], facts["licence"]))
    rows.append(("folder", "yours", "", "your own images and masks or polygons", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join((*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4])).rstrip()
        for row in rows
    )


def _facts(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "title": recipe.title,
        "about": recipe.about,
        "homepage": recipe.homepage,
        "licence": recipe.licence,
        "reference": recipe.reference,
        "size": recipe.size,
        "gsd_m": recipe.gsd_m,
        "classes": [entry.name for entry in recipe.classes],
        "variants": {name: list(sources) for name, sources in recipe.ways.items()},
        "targets": list(recipe.targets),
        "layouts": list(recipe.layouts),
        "splits": recipe.counts,
        "unlabelled": recipe.unlabelled,
        "archives": [archive.name for archive in recipe.archives],
    }
