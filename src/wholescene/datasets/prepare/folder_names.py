"""What the names of files and folders tell: image or label, split, scene."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

__all__ = ["RASTERS", "SPLIT_NAMES", "VECTORS", "NamedFile", "is_vector", "matching", "read_name"]

RASTERS = frozenset(
    (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".vrt", ".bmp", ".img", ".webp")
)
VECTORS = frozenset((".geojson", ".gpkg", ".shp", ".fgb"))
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Split that the name of a folder or list stands for."""

_SPLIT = rf"(?P<split>{'|'.join(SPLIT_NAMES)})"
_IMAGE_WORDS = (
    r"images?|imgs?|img_dir|jpegimages|inputs?|imagery|rgb\w*|irrg|chips|sat|ortho(?:photo)?s?"
)
_LABEL_WORDS = (
    r"\w*?(?:masks?|labels?|annotations?|groundtruth|ground_truth)|gts?|ann_dir|anns?|annots?|"
    "segmentationclass(?:png)?|targets?|lbls?"
)
_KIND = rf"(?:(?P<image>{_IMAGE_WORDS})|(?P<label>{_LABEL_WORDS}))"
_FOLDER_PATTERNS = (
    re.compile(rf"{_SPLIT}?[-_. ]*{_KIND}?", re.IGNORECASE),
    re.compile(rf"{_KIND}[-_. ]*{_SPLIT}", re.IGNORECASE),
)
_LABEL_NAME = re.compile(
    r"(?P<stem>.+?)[-_. ](?:masks?|labels?|gt|groundtruth|seg|annotations?|annot|targets?|lbl)",
    re.IGNORECASE,
)
_IMAGE_NAME = re.compile(r"(?P<stem>.+?)[-_. ](?:image|img|sat|rgb|im|ortho)", re.IGNORECASE)


@dataclass(frozen=True)
class NamedFile:
    """One file with what its path tells.

    Args:
        path: Where it is.
        text: Its path below the source folder.
        role: ``image``, ``label``, or ``plain`` if nothing tells.
        place: What image and label have in common besides the stem: split and further folders.
        split: Split that a folder names.
        stem: Name of the scene, possibly with a suffix.
    """

    path: Path
    text: str
    role: str
    place: tuple[str, ...]
    split: str | None
    stem: str

    @property
    def stems(self) -> tuple[str, ...]:
        """Names a file may pair under: its own, and that without its suffix."""
        pattern = _LABEL_NAME if self.role == "label" else _IMAGE_NAME
        match = pattern.fullmatch(self.stem)
        return (self.stem,) if match is None else (self.stem, match["stem"])

    @property
    def glob(self) -> str:
        """A pattern for files named like this one."""
        folder, _, name = self.text.rpartition("/")
        before, _, after = name.rpartition(self.stems[-1] or self.path.stem)
        return f"{folder}{'/' if folder else ''}{before}*{after or self.path.suffix}"

    @property
    def regex(self) -> str:
        """The same as a regular expression."""
        return re.escape(self.glob).replace(r"\*", "(?P<scene>[^/]+)")

    @property
    def order(self) -> list[tuple[int, str]]:
        """Key of an order in which 2 stands before 10."""
        parts = re.findall(r"\d+|\D+", self.text)
        return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def read_name(text: str, path: Path) -> NamedFile:
    """Read a file's name.

    Args:
        text: Its path below the source folder, with ``/``.
        path: Where it is.
    """
    split, role, place = None, "plain", []
    for folder in PurePosixPath(text).parent.parts:
        match = next((m for p in _FOLDER_PATTERNS if (m := p.fullmatch(folder))), None)
        if match is None:
            place.append(folder)
            continue
        split = SPLIT_NAMES[match["split"].casefold()] if match["split"] else split
        role = "label" if match["label"] else "image" if match["image"] else role
    stem = PurePosixPath(text).stem
    is_named_label = role == "plain" and _LABEL_NAME.fullmatch(stem) is not None
    if is_named_label or is_vector(path):
        role = "label"
    return NamedFile(path, text, role, (split or "", *place), split, stem)


def matching(
    files: Iterable[NamedFile], pattern: str, role: str, *, joint: bool = False
) -> list[NamedFile]:
    """Files that fit a pattern, named by what ``*`` stands for.

    With two patterns (``joint``) folders need not be the same, because all ``*`` are.
    """
    parts = re.split(r"(\*\*/|\*|\?)", pattern.removeprefix("./"))
    regex = "".join(_GLOB.get(part, re.escape(part)) for part in parts)
    folders = pattern.rpartition("/")[0].replace("**/", "").count("*")
    found = []
    for file in files:
        match = re.fullmatch(regex, file.text)
        if match is not None:
            stars = match.groups() if joint else match.groups()[folders:]
            stem = "_".join(stars) if joint else "_".join(stars) or file.stem
            found.append(replace(file, role=role, stem=stem, place=() if joint else file.place))
    return found


_GLOB = {"**/": "(?:.*/)?", "*": "([^/]*)", "?": "[^/]"}


def is_vector(path: Path) -> bool:
    """Whether a file holds polygons, by its suffix."""
    return path.suffix.lower() in VECTORS
