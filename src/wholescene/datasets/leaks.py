"""Checks that no split knows what another one tests."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from wholescene.datasets.finding import Finding
from wholescene.datasets.footprint import overlapping_pairs
from wholescene.datasets.table import SceneRecord
from wholescene.raster.footprint import Footprint

__all__ = ["content_leaks", "file_leaks", "ground_leaks", "group_leaks"]

K = TypeVar("K", bound=Hashable)

_SHOWN = 3
_READ_BYTES = 1 << 20


def ground_leaks(
    scenes: Sequence[SceneRecord], footprints: Mapping[str, Footprint]
) -> Iterator[Finding]:
    """Find scenes that show ground a scene of another split shows too.

    Args:
        scenes: All scenes.
        footprints: By scene id, of those that have one.
    """
    placed = [scene for scene in scenes if scene.id in footprints]
    order = {split: i for i, split in enumerate(dict.fromkeys(s.split for s in scenes))}
    partners: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    pairs = overlapping_pairs([footprints[s.id] for s in placed], [s.split for s in placed])
    for a, b, share in pairs:
        first, later = sorted((placed[a], placed[b]), key=lambda scene: order[scene.split])
        partners[later.id, first.split].append((share, first.id))
    for scene in placed:
        for split in order:
            found = sorted(partners.get((scene.id, split), []), key=lambda p: (-p[0], p[1]))
            if found:
                yield _ground_finding(scene, split, found)


def file_leaks(scenes: Sequence[SceneRecord], main_source: str) -> Iterator[Finding]:
    """Find files that scenes of different splits use.

    Args:
        scenes: All scenes.
        main_source: Source that sets the grid. Another one may be a mosaic that many scenes share,
            so there it is only a warning.
    """

    def main_files(scene: SceneRecord) -> list[Path]:
        return [path.resolve() for path in (*scene.files[main_source], *scene.labels.values())]

    def further_files(scene: SceneRecord) -> list[Path]:
        others = (paths for name, paths in scene.files.items() if name != main_source)
        return [path.resolve() for paths in others for path in paths]

    for path, scene, other in _in_two_splits(scenes, main_files):
        yield Finding(
            "error",
            scene.id,
            f"file {path} belongs to {_named(scene)} and to {_named(other)}; a file may serve one "
            "split",
            "shared-file",
        )
    for path, scene, other in _in_two_splits(scenes, further_files):
        yield Finding(
            "warning",
            scene.id,
            f"file {path} serves {_named(scene)} and {_named(other)}; make sure that they read "
            "different ground",
            "shared-file",
        )


def content_leaks(scenes: Sequence[SceneRecord], main_source: str) -> Iterator[Finding]:
    """Find scenes of different splits with byte-identical files under different names.

    Args:
        scenes: Scenes to compare: those that no footprint can compare, files present.
        main_source: Source whose files are read.
    """
    hashes: dict[Path, str] = {}
    sized: dict[Path, int] = {}
    for scene in scenes:
        for path in scene.files[main_source]:
            sized[path.resolve()] = path.stat().st_size
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path, size in sized.items():
        by_size[size].append(path)
    for paths in by_size.values():
        if len(paths) > 1:  # only files of one size can be equal
            hashes.update((path, _sha256(path)) for path in paths)

    def contents(scene: SceneRecord) -> list[str]:
        resolved = (path.resolve() for path in scene.files[main_source])
        return [hashes[path] for path in resolved if path in hashes]

    for _, scene, other in _in_two_splits(scenes, contents):
        if set(scene.files[main_source]) != set(other.files[main_source]):
            yield Finding(
                "error",
                scene.id,
                f"{_named(scene)} and {_named(other)} hold a file with the same bytes "
                f"({scene.files[main_source][0]}); keep it in one split",
                "shared-content",
            )


def group_leaks(scenes: Sequence[SceneRecord]) -> Iterator[Finding]:
    """Find groups whose scenes stand in several splits."""
    splits: dict[str, dict[str, str]] = defaultdict(dict)
    for scene in scenes:
        if scene.group is not None:
            splits[scene.group].setdefault(scene.split, scene.id)
    for group, found in splits.items():
        if len(found) > 1:
            where = ", ".join(f"{split!r} (scene {scene!r})" for split, scene in found.items())
            yield Finding(
                "error",
                None,
                f"group {group!r} stands in splits {where}; scenes of one group belong together",
                "shared-group",
            )


def _ground_finding(scene: SceneRecord, split: str, found: list[tuple[float, str]]) -> Finding:
    shown = ", ".join(f"{name!r} ({_percent(share)})" for share, name in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return Finding(
        "error",
        scene.id,
        f"{_named(scene)} shows the same ground as {len(found)} of split {split!r}: {shown}{more}; "
        "put them into one split, or cut the common ground off",
        "shared-ground",
    )


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def _named(scene: SceneRecord) -> str:
    return f"{scene.split!r} scene {scene.id!r}"


def _in_two_splits(
    scenes: Sequence[SceneRecord], keys: Callable[[SceneRecord], Iterable[K]]
) -> Iterator[tuple[K, SceneRecord, SceneRecord]]:
    """Give each key that scenes of two splits share, with the later scene and the first one."""
    first: dict[K, SceneRecord] = {}
    told: set[tuple[K, str]] = set()
    for scene in scenes:
        for key in dict.fromkeys(keys(scene)):
            owner = first.setdefault(key, scene)
            if owner.split != scene.split and (key, scene.split) not in told:
                told.add((key, scene.split))
                yield key, scene, owner


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()
