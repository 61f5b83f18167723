"""Which split a scene of one's own folder belongs to."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from wholescene.datasets.footprint import overlapping_pairs
from wholescene.datasets.prepare.folder_names import SPLIT_NAMES
from wholescene.datasets.prepare.match import FoundScene, find_files
from wholescene.errors import DatasetError, InputError
from wholescene.raster.footprint import footprint

__all__ = ["FolderSplits", "split_scenes"]

HELD_OUT = {"val": 0.15, "test": 0.15}
"""Share of scenes of the splits that are drawn; the rest trains."""

_INSET_PX = 0.25  # neighbours that share less than half a pixel share no ground
_SHOWN = 5


@dataclass(frozen=True)
class FolderSplits:
    """The split of each scene.

    Args:
        splits: By scene id; scenes that are not listed are left out.
        way: ``folders``, ``lists``, ``draw`` or the name of a table.
        note: Where splits came from.
        groups: Name of the group of each scene that shares ground with another one.
    """

    splits: Mapping[str, str]
    way: str
    note: str
    groups: Mapping[str, str] = field(default_factory=dict)


def split_scenes(source: Path, scenes: Sequence[FoundScene], way: str) -> FolderSplits:
    """Give each scene a split.

    Args:
        source: Folder of the scenes.
        scenes: All scenes.
        way: ``folders``, ``lists``, ``draw``, the path of a table, or ``auto`` for the first of
            folders and lists that is there, else ``draw``.

    Raises:
        DatasetError: If the files contradict each other or a scene's split cannot be told.
        InputError: If the way is unknown.
    """
    if way == "draw":
        return _drawn(scenes)
    if way.endswith(".csv"):
        return _from_table(Path(way), scenes)
    if way not in ("auto", "folders", "lists"):
        raise InputError(
            f"--split {way!r} is unknown; give folders, lists, draw, or a table FILE.csv with the "
            "columns scene and split"
        )
    if way == "folders" or (way == "auto" and any("split" in scene.fields for scene in scenes)):
        return _from_folders(source, scenes)
    lists = _find_lists(source)
    if lists or way == "lists":
        return _from_lists(source, scenes, lists)
    return _drawn(scenes)


def _from_folders(source: Path, scenes: Sequence[FoundScene]) -> FolderSplits:
    splits = {scene.id: scene.fields["split"] for scene in scenes if "split" in scene.fields}
    without = [scene for scene in scenes if scene.id not in splits]
    if without and (not splits or "train" in splits.values()):
        raise DatasetError(
            f"{len(without)} of {len(scenes)} images in {source} are in no folder train, val or "
            f"test ({_some(str(scene.images['image']) for scene in without)}); move them into one, "
            "or split another way with --split FILE.csv, lists or draw"
        )
    # Folders such as 'val_images' beside 'images': what is not held out trains.
    splits.update((scene.id, "train") for scene in without)
    return FolderSplits(
        splits, "folders", f"splits are those of the folders ({_counts(splits.values())})"
    )


def _find_lists(source: Path) -> dict[str, Path]:
    """Text file that lists the scenes of each split."""
    lists: dict[str, Path] = {}
    for _, path in find_files([source]):
        split = SPLIT_NAMES.get(path.stem.casefold())
        if split is None or path.suffix.lower() != ".txt":
            continue
        other = lists.setdefault(split, path)
        if other is not path:
            raise DatasetError(
                f"{other} and {path} both list split {split!r}; remove one, or split another way "
                "with --split FILE.csv or draw"
            )
    return lists


def _from_lists(
    source: Path, scenes: Sequence[FoundScene], lists: Mapping[str, Path]
) -> FolderSplits:
    names, found, absent = _names(scenes), dict[str, tuple[str, Path]](), list[str]()
    for split, path in lists.items():
        for line in filter(str.strip, _read_text(path).splitlines()):
            name = next((n for n in _listed_names(line) if n in names), None)
            if name is None:
                absent.append(line.strip())
                continue
            known, first = found.setdefault(names[name], (split, path))
            if known != split:
                raise DatasetError(
                    f"{first} and {path} both list {names[name]!r}; a scene belongs to one split"
                )
    splits = {scene_id: split for scene_id, (split, _) in found.items()}
    if not splits:
        where = f"{_some(map(str, lists.values()))} list" if lists else f"{source} has no"
        what = "none of the images" if lists else "train.txt, val.txt or test.txt"
        raise DatasetError(
            f"{where} {what}; a line names an image without its folder, such as "
            f"{scenes[0].images['image'].name}. Or split another way with --split FILE.csv or draw"
        )
    left = [scene.id for scene in scenes if scene.id not in splits]
    more = f"; {len(left)} images in no list are left out ({_some(left)})" if left else ""
    more += f"; {len(absent)} listed names have no image ({_some(absent)})" if absent else ""
    used = ", ".join(path.name for path in lists.values())
    return FolderSplits(
        splits, "lists", f"splits are those of {used} ({_counts(splits.values())}){more}"
    )


def _names(scenes: Sequence[FoundScene]) -> dict[str, str]:
    """Id of the scene that a name in a list stands for."""
    files = [(scene.images["image"], scene.id) for scene in scenes]
    named = [(name, scene_id) for file, scene_id in files for name in {file.name, file.stem}]
    count = Counter(name for name, _ in named)
    # Names of several images stand for none of them.
    names = {name: scene_id for name, scene_id in named if count[name] == 1}
    return {**names, **{scene.id: scene.id for scene in scenes}}


def _listed_names(line: str) -> list[str]:
    """What a line of a list may name: ``name``, ``folder/name.tif``, ``image mask``."""
    texts = [line.strip(), *line.split()[:1], line.split(",")[0].strip()]
    files = [PurePosixPath(text.replace("\\", "/")) for text in texts]
    return [name for file in files for name in (file.name, file.stem)]


def _from_table(path: Path, scenes: Sequence[FoundScene]) -> FolderSplits:
    reader = csv.DictReader(io.StringIO(_read_text(path)))
    columns = [name.strip() for name in reader.fieldnames or ()]
    key = next((name for name in ("scene", "id") if name in columns), None)
    if key is None or "split" not in columns:
        raise DatasetError(
            f"{path}: has the columns {', '.join(columns) or 'none'}; a table of splits has the "
            "columns scene (or id) and split; see --split"
        )
    names, splits, absent = _names(scenes), dict[str, str](), list[str]()
    for row in reader:
        name = next((n for n in _listed_names(row[key] or "") if n in names), None)
        split = (row["split"] or "").strip()
        if name is None:
            absent.append(row[key] or "")
        if name is None or not split:
            continue
        if splits.setdefault(names[name], split) != split:
            raise DatasetError(
                f"{path}: scene {name!r} stands in splits {splits[names[name]]!r} and {split!r}; "
                "a scene belongs to one split"
            )
    missing = [scene.id for scene in scenes if scene.id not in splits]
    if len(missing) == len(scenes):
        raise DatasetError(
            f"{path}: names none of the {len(scenes)} scenes; scenes are {_some(missing)}"
        )
    more = f"; {len(missing)} scenes not in it are left out ({_some(missing)})" if missing else ""
    more += f"; {len(absent)} of its rows have no image ({_some(absent)})" if absent else ""
    return FolderSplits(
        splits, path.name, f"splits are those of {path} ({_counts(splits.values())}){more}"
    )


def _drawn(scenes: Sequence[FoundScene]) -> FolderSplits:
    groups = _ground_groups(scenes)
    # Only labelled scenes can be scored: others go with those that show their ground, or train.
    members = Counter(groups[scene.id] for scene in scenes if scene.labels)
    drawn = _draw(members)
    splits = {scene.id: drawn.get(groups[scene.id], "train") for scene in scenes}
    sizes = Counter(groups.values())
    shared = {name: group for name, group in groups.items() if sizes[group] > 1}
    note = (
        f"no folder, list or table tells splits: scenes were drawn ({_counts(splits.values())}), "
        "always in the same way for the same scenes; to keep splits when scenes are added, give "
        "the scene table as --split scenes.csv"
    )
    if shared:
        note += f"; {len(shared)} scenes that share ground with another one stayed together"
    if missing := sorted({"train", *HELD_OUT} - set(splits.values())):
        note += (
            f"; there is no split {' or '.join(missing)}: {len(members)} labelled scenes that "
            "share no ground are too few"
        )
    return FolderSplits(splits, "draw", note, shared)


def _draw(members: Mapping[str, int]) -> dict[str, str]:
    """Split of each group of scenes, by a hash of its name."""
    total = sum(members.values())
    order = sorted(members, key=lambda name: hashlib.sha256(name.encode()).digest())
    result = dict.fromkeys(order, "train")
    room = {split: max(1, round(share * total)) for split, share in HELD_OUT.items()}
    if total < 3:
        room = {"val": total - 1}
    for name in order:
        split = next((s for s, left in room.items() if members[name] <= left), None)
        if split is not None:
            result[name] = split
            room[split] -= members[name]
    # Where groups are too large to fit, the smallest ones are held out all the same.
    for split in room:
        rest = [name for name in order if result[name] == "train"]
        if split not in result.values() and len(rest) > 1:
            result[min(rest, key=lambda name: members[name])] = split
    return result


def _ground_groups(scenes: Sequence[FoundScene]) -> dict[str, str]:
    """Name of the first of the scenes that share ground, directly or through others."""
    group = {scene.id: scene.id for scene in scenes}

    def first(name: str) -> str:
        while group[name] != name:
            group[name] = group[group[name]]
            name = group[name]
        return name

    outlines = [footprint(scene.images["image"], inset_px=_INSET_PX) for scene in scenes]
    for a, b, _ in overlapping_pairs(outlines, [scene.id for scene in scenes]):
        low, high = sorted((first(scenes[a].id), first(scenes[b].id)))
        group[high] = low
    return {name: first(name) for name in group}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {path}: {error}; see --split") from None


def _counts(splits: Iterable[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(splits).items()))


def _some(texts: Iterable[str]) -> str:
    listed = list(texts)
    return ", ".join(listed[:_SHOWN]) + (" ..." if len(listed) > _SHOWN else "")
