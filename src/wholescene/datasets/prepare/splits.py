"""Which split a scene belongs to."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

from wholescene.datasets.prepare.match import Found, FoundScene
from wholescene.datasets.public.recipe import HeldOut, Layout, Recipe, split_table_text
from wholescene.errors import DatasetError

__all__ = ["assign_splits", "split_ways"]


def split_ways(recipe: Recipe, layout: str) -> tuple[str, ...]:
    """Names of the ways to split a dataset in some layout, the official one first."""
    held_out = recipe.splits and recipe.splits.held_out
    named = [*_table(recipe)[1], *([held_out.way] if held_out else ())]
    return tuple(dict.fromkeys(("official", *named, *recipe.layouts[layout].lists)))


def assign_splits(recipe: Recipe, found: Found, way: str = "official") -> dict[str, str]:
    """Give the split of each scene; scenes that a way to split leaves out are not listed.

    Raises:
        DatasetError: If the way is unknown, or a scene's split cannot be told.
    """
    layout, known = recipe.layouts[found.layout], split_ways(recipe, found.layout)
    if way not in known:
        raise DatasetError(
            f"{recipe.name} has no way to split called {way!r} in layout {found.layout!r}; it has "
            f"{', '.join(known)}; see --split"
        )
    if way in layout.lists:
        return _from_lists(recipe, found, way)
    held_out = recipe.splits and recipe.splits.held_out
    if held_out and way == held_out.way:
        return _holding_out(recipe, found, held_out)
    if way != "official" or layout.split == "table":
        return _from_table(recipe, found, way)
    if layout.split == "folder":
        return {i: _folder_split(recipe, layout, scene) for i, scene in found.scenes.items()}
    return dict.fromkeys(found.scenes, layout.split)


def _folder_split(recipe: Recipe, layout: Layout, scene: FoundScene) -> str:
    text = scene.fields.get("split")
    if text is None:
        # Benchmark samples come without the folder that tells the split.
        return next(iter(recipe.counts), "train")
    return layout.split_names.get(text, layout.split_names.get(text.casefold(), text.casefold()))


def _from_table(recipe: Recipe, found: Found, way: str) -> dict[str, str]:
    assert recipe.splits is not None
    rows, ways = _table(recipe)
    table, result = recipe.splits, {}
    for scene_id, scene in found.scenes.items():
        key = _row_name(recipe, found, scene)
        if key not in rows and table.otherwise is None:
            raise DatasetError(
                f"scene {key!r} ({next(iter(scene.images.values()))}) is in no split of "
                f"{table.file}; move it out of the source folder if it is none of {recipe.title}"
            )
        row = rows.get(key) or dict.fromkeys(ways, table.otherwise or "")
        if row[way]:
            result[scene_id] = row[way]
    return result


def _holding_out(recipe: Recipe, found: Found, rule: HeldOut) -> dict[str, str]:
    result = {}
    for scene_id, split in assign_splits(recipe, found).items():
        key = _row_name(recipe, found, found.scenes[scene_id])
        first = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
        taken = _part(first, {rule.split: rule.share, **rule.further}) if split == rule.of else None
        if new := taken or rule.others.get(split, split):
            result[scene_id] = new
    return result


def _part(place: float, shares: Mapping[str, float]) -> str | None:
    """The share of 0 to 1 that a place lies in, if any; they lie one after the other."""
    for name, share in shares.items():
        if place < share:
            return name
        place -= share
    return None


def _row_name(recipe: Recipe, found: Found, scene: FoundScene) -> str:
    """What decides on a scene: a patch goes where the scene goes that it was cut from."""
    name = (recipe.splits and recipe.splits.row) or recipe.layouts[found.layout].group
    return scene.id if name is None else name.format_map(scene.fields)


def _table(recipe: Recipe) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    if recipe.splits is None or recipe.splits.file is None:
        return {}, ()
    reader = csv.DictReader(io.StringIO(split_table_text(recipe.splits.file)))
    rows = {row["scene"]: row for row in reader}
    return rows, tuple(name for name in reader.fieldnames or () if name != "scene")


def _from_lists(recipe: Recipe, found: Found, way: str) -> dict[str, str]:
    wanted, lists = recipe.layouts[found.layout].lists[way], found.lists[way]
    if missing := sorted(set(wanted) - set(lists)):
        raise DatasetError(
            f"{recipe.name}: no file named {wanted[missing[0]]} lists the scenes of split "
            f"{missing[0]!r}; put it into the source folder, or split another way (--split)"
        )
    by_stem: dict[str, str] = {}
    for split, path in lists.items():
        for stem in _listed(path):
            if by_stem.setdefault(stem, split) != split:
                raise DatasetError(
                    f"{path} lists {stem!r}, which is in split {by_stem[stem]!r} too; a scene "
                    "belongs to one split"
                )
    stems = {i: next(iter(s.images.values())).stem for i, s in found.scenes.items()}
    return {i: by_stem[stem] for i, stem in stems.items() if stem in by_stem}


def _listed(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [Path(line.split()[0]).stem for line in lines if line.strip()]


def group_of(layout: Layout, fields: Mapping[str, str]) -> str | None:
    """The group of a scene, where the layout has groups."""
    return None if layout.group is None else layout.group.format_map(fields)
