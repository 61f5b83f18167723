"""Which files make which scene, by the patterns of a layout."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wholescene.datasets.public.recipe import Recipe
from wholescene.errors import DatasetError

__all__ = ["Found", "FoundScene", "choose_layout", "compile_pattern", "find_files", "match_layout"]

_SHOWN = 5


@dataclass
class FoundScene:
    """Files of one scene.

    Args:
        id: Its id.
        fields: Named groups of its files' paths.
        images: File of each source.
        labels: File of each target.
    """

    id: str
    fields: dict[str, str] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a layout makes of a folder.

    Args:
        layout: Its name.
        scenes: Scenes with an image, by id, in order of id.
        lists: Text file of each split, by way to split.
        stray: Labels without an image.
    """

    layout: str
    scenes: Mapping[str, FoundScene]
    lists: Mapping[str, Mapping[str, Path]]
    stray: Sequence[Path]


def find_files(roots: Iterable[Path]) -> list[tuple[str, Path]]:
    """Every file below some folders: path below its folder with ``/``, and path; in order."""
    found = [pair for root in roots for pair in _walk(root)]
    return sorted(found, key=lambda pair: pair[0])


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in files:
            if not name.startswith("."):
                path = Path(folder) / name
                # With the folder's own name: a user may give a folder that a pattern names.
                yield f"{root.absolute().name}/{path.relative_to(root).as_posix()}", path


def match_layout(recipe: Recipe, name: str, files: Sequence[tuple[str, Path]]) -> Found:
    """Join files into scenes.

    Raises:
        DatasetError: If two files claim the same place in the same scene.
    """
    layout = recipe.layouts[name]
    scenes: dict[str, FoundScene] = {}
    for kind, columns in (("images", layout.images), ("labels", layout.labels)):
        for column, patterns in columns.items():
            for scene_id, fields, path in _preferred(patterns, layout.id, files):
                scene = scenes.setdefault(scene_id, FoundScene(scene_id))
                taken: dict[str, Path] = getattr(scene, kind)
                if column in taken and not taken[column].samefile(path):
                    raise DatasetError(
                        f"{taken[column]} and {path} are both the {column} of scene {scene_id!r}; "
                        "keep one of them in the source folder, or give the folder that holds one"
                    )
                taken[column] = path
                scene.fields.update(fields)
    lists = {
        way: {s: path for s, pattern in lists.items() for _, path in _matching(pattern, files)}
        for way, lists in layout.lists.items()
    }
    complete = {i: s for i, s in sorted(scenes.items(), key=_natural) if s.images}
    stray = [p for s in scenes.values() if not s.images for p in s.labels.values()]
    return Found(name, complete, lists, stray)


def choose_layout(recipe: Recipe, files: Sequence[tuple[str, Path]], asked: str) -> list[Found]:
    """Layouts that the files follow, the one with most scenes first.

    Args:
        recipe: The dataset.
        files: What :func:`find_files` gave.
        asked: Name of a layout, or ``auto``.

    Raises:
        DatasetError: If the layout is unknown or no file fits.
    """
    if asked != "auto" and asked not in recipe.layouts:
        raise DatasetError(
            f"{recipe.name} has no layout {asked!r}; it has {', '.join(recipe.layouts)}, or auto"
        )
    names = [*recipe.layouts] if asked == "auto" else [asked]
    found = [match_layout(recipe, name, files) for name in names]
    fitting = [each for each in found if each.scenes]
    if not fitting:
        raise DatasetError(_nothing_found(recipe, files, names))
    # The sort is stable: the publisher's layout, which stands first, wins a draw.
    return sorted(fitting, key=lambda each: -_weight(each))


def _weight(found: Found) -> int:
    return sum(1 + bool(scene.labels) for scene in found.scenes.values())


def _preferred(
    patterns: Sequence[str], id_template: str, files: Sequence[tuple[str, Path]]
) -> Iterator[tuple[str, dict[str, str], Path]]:
    """Scene, named groups and path of files; of each scene, those of the first pattern."""
    settled: set[str] = set()
    for pattern in patterns:
        found = [(_filled(id_template, f), f, path) for f, path in _matching(pattern, files)]
        yield from (each for each in found if each[0] not in settled)
        settled.update(scene for scene, *_ in found)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A layout's pattern, to be matched with a whole path."""
    return re.compile(rf"(?:.*/)?{pattern}", re.IGNORECASE)


def _matching(
    pattern: str, files: Sequence[tuple[str, Path]]
) -> Iterator[tuple[dict[str, str], Path]]:
    compiled = compile_pattern(pattern)
    for text, path in files:
        match = compiled.fullmatch(text)
        if match is not None:
            yield {k: v for k, v in match.groupdict().items() if v is not None}, path


def _filled(template: str, fields: Mapping[str, str]) -> str:
    return template.format_map(fields)


def _natural(item: tuple[str, FoundScene]) -> list[tuple[int, str]]:
    """Order of names in which 2 stands before 10."""
    parts = re.findall(r"\d+|\D+", item[0])
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def _nothing_found(recipe: Recipe, files: Sequence[tuple[str, Path]], names: Sequence[str]) -> str:
    wanted = "; ".join(
        f"{name}: {next(iter(recipe.layouts[name].images.values()))[0]}" for name in names
    )
    shown = ", ".join(text for text, _ in files[:_SHOWN]) or "nothing"
    return (
        f"no image of {recipe.name} among {len(files)} files. Names end in one of these patterns "
        f"(layout: pattern): {wanted}. Found: {shown}{' ...' if len(files) > _SHOWN else ''}. "
        "Give the folder with the archives or what they unpacked to as --source"
    )
