"""Which classes the labels of one's own folder show, given or found out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from wholescene.datasets.contract import ClassEntry
from wholescene.datasets.prepare.class_file import class_file_text
from wholescene.errors import DatasetError, LabelError
from wholescene.raster.mask_coding import Color, color_of
from wholescene.raster.masks import MaskReader
from wholescene.raster.rasterize import PolygonFile
from wholescene.raster.sidecar import read_palette

__all__ = ["MAX_CLASSES", "FolderClasses", "mask_classes", "polygon_classes"]

MAX_CLASSES = 64
"""More values than this are no classes."""

BACKGROUND = "background"
TWO_CLASSES = (ClassEntry(id=0, name=BACKGROUND), ClassEntry(id=1, name="foreground"))

_MAX_COLORS = 4096
_SHOWN_COLORS = 20


@dataclass(frozen=True)
class FolderClasses:
    """Classes, and what stands for them in labels.

    Args:
        entries: The classes.
        ignore_id: Id of pixels that neither train nor score.
        ignore_colors: Colours of such pixels.
        values: Class id of the values of one-band masks; ``None`` takes values as ids.
        colors: Class id of further colours of colour masks.
        background: Id of pixels in no polygon.
        foreground: Id of every polygon where no attribute tells it.
        attributes: Class id of the values of the polygons' attribute.
        notes: What was found out, one sentence each.
    """

    entries: tuple[ClassEntry, ...]
    ignore_id: int | None = None
    ignore_colors: tuple[Color, ...] = ()
    values: Mapping[int, int] | None = None
    colors: Mapping[Color, int] = field(default_factory=dict)
    background: int = 0
    foreground: int = 1
    attributes: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass
class _Tally:
    """Pixels of each value of masks of one kind."""

    shows_colors: bool
    pixels: Counter[int] = field(default_factory=Counter)


def mask_classes(
    masks: Sequence[Path],
    given: tuple[ClassEntry, ...] | None,
    ignore_id: int | None,
    workers: int | None,
) -> FolderClasses:
    """Classes of masks, from a class file or from what the masks hold.

    Args:
        masks: Every mask.
        given: What the class file says, if there is one.
        ignore_id: Id of ignored pixels, if there is one.
        workers: Masks read at once.

    Raises:
        DatasetError: If the masks show colours and no class file tells what they are.
        LabelError: If they hold too many values to be classes.
    """
    if given is not None:
        if all(entry.color is None for entry in given) and _tally(masks[0]).shows_colors:
            raise DatasetError(_colors_without_names(_tally(masks[0]), masks[0], given))
        return _given(given, ignore_id)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        tallies = list(pool.map(_tally, masks))
    if any(tally.shows_colors for tally in tallies):
        return _from_colors(tallies, masks[0], ignore_id)
    return _from_values(_total(tallies), read_palette(masks[0]), ignore_id, masks[0])


def polygon_classes(
    files: Iterable[PolygonFile], given: tuple[ClassEntry, ...] | None, ignore_id: int | None
) -> FolderClasses:
    """Classes of polygons, from a class file or from the values of their attribute.

    Raises:
        DatasetError: If pixels in no polygon would have no class.
        LabelError: If there are too many values to be classes.
    """
    counts: Counter[str | None] = Counter()
    for each in files:
        counts.update(each.counts())
    texts = sorted(text for text in counts if text is not None)
    if given is not None:
        return _given_for_polygons(given, ignore_id, counts)
    if not texts:
        return FolderClasses(
            TWO_CLASSES, ignore_id, notes=("every polygon is class 1, foreground",)
        )
    if len(texts) > MAX_CLASSES:
        raise LabelError(
            f"the attribute has {len(texts)} values such as {', '.join(texts[:5])}; up to "
            f"{MAX_CLASSES} could be classes. Choose another attribute with --field"
        )
    if all(text.isdecimal() for text in texts):
        ids = {text: int(text) for text in texts}
        names = {value: f"class_{value}" for value in ids.values() if value != ignore_id}
    else:
        ids = {text: number for number, text in enumerate(texts, start=1)}
        names = {number: text for text, number in ids.items()}
    if ignore_id != 0:
        names.setdefault(0, BACKGROUND)
    entries = tuple(ClassEntry(id=value, name=names[value]) for value in sorted(names))
    return FolderClasses(entries, ignore_id, attributes=ids, notes=(_derived(entries),))


def _given(given: tuple[ClassEntry, ...], ignore_id: int | None) -> FolderClasses:
    """A class file may name the ignored pixels too."""
    ignored = tuple(e.color for e in given if e.id == ignore_id and e.color is not None)
    entries = tuple(entry for entry in given if entry.id != ignore_id)
    return FolderClasses(entries, ignore_id, ignored)


def _given_for_polygons(
    given: tuple[ClassEntry, ...], ignore_id: int | None, values: Iterable[str | None]
) -> FolderClasses:
    found = _given(given, ignore_id)
    attributes = {entry.name: entry.id for entry in given}
    attributes.update((str(entry.id), entry.id) for entry in given)
    others = [entry.id for entry in found.entries if entry.id != 0]
    if None in values and len(others) != 1:
        raise DatasetError(
            f"the class file has {len(others)} classes besides 0, and nothing says which of them a "
            "polygon is; name the attribute that tells it with --field"
        )
    # A class 0 that polygons show is a class like the others, not what lies between them.
    shown = {attributes[value] for value in values if value in attributes}
    names = {entry.id: entry.name for entry in found.entries}
    has_background = 0 in names and 0 not in shown
    if not has_background and ignore_id is None:
        raise DatasetError(
            "the class file has no class 0 for pixels in no polygon; number the classes of "
            "polygons from 1 and add {id: 0, name: background}, or leave such pixels out with "
            "--ignore-id 255"
        )
    background = 0 if has_background or ignore_id is None else ignore_id
    what = f"class 0, {names[0]}" if has_background else f"ignored ({ignore_id})"
    return FolderClasses(
        found.entries,
        ignore_id,
        background=background,
        foreground=others[0] if others else 0,
        attributes=attributes,
        notes=(f"pixels in no polygon are {what}",),
    )


def _from_values(
    values: Counter[int], palette: Mapping[int, Color], ignore_id: int | None, example: Path
) -> FolderClasses:
    ids = sorted(value for value in values if value != ignore_id)
    if not ids:
        raise LabelError(
            f"masks such as {example} hold nothing but {ignore_id}, which is ignored; see "
            "--ignore-id"
        )
    if len(ids) > MAX_CLASSES:
        raise LabelError(
            f"masks such as {example} hold over {MAX_CLASSES} values (from {ids[0]} to "
            f"{ids[-1]}); this looks like an image or an instance mask, or like classes saved "
            "with loss (JPEG). Give masks of class ids with --labels, or name the classes with "
            "--classes"
        )
    if ids == [0, 255] or ids == [255]:
        note = "masks of 0 and 255: 0 is background, 255 is foreground with id 1"
        known = {0: 0, 255: 1} | ({} if ignore_id is None else {ignore_id: ignore_id})
        return FolderClasses(TWO_CLASSES, ignore_id, values=known, notes=(note,))
    entries = tuple(
        ClassEntry(id=value, name=f"class_{value}", color=palette.get(value)) for value in ids
    )
    notes = [_derived(entries)]
    if 255 in ids and len(ids) > 2:
        notes.append(
            "255 became a class; if it marks pixels to leave out, prepare again with "
            "--ignore-id 255"
        )
    return FolderClasses(entries, ignore_id, notes=tuple(notes))


def _from_colors(tallies: Sequence[_Tally], example: Path, ignore_id: int | None) -> FolderClasses:
    """Shades of grey are ids that were saved as three bands; other colours need names."""
    colors = _total(tally for tally in tallies if tally.shows_colors)
    values = _total(tally for tally in tallies if not tally.shows_colors)
    if any(code not in _GREYS for code in colors):
        raise DatasetError(_colors_without_names(_Tally(True, colors), example, None))
    shades = Counter({code & 255: count for code, count in colors.items()})
    found = _from_values(shades + values, {}, ignore_id, example)
    ids = found.values or {value: value for value in shades}
    return FolderClasses(
        found.entries,
        ignore_id,
        values=found.values,
        colors={(shade, shade, shade): ids[shade] for shade in shades if shade in ids},
        notes=(*found.notes, "masks of three equal bands are read as one"),
    )


_GREYS = frozenset(shade * 0x10101 for shade in range(256))


def _colors_without_names(
    tally: _Tally, example: Path, given: tuple[ClassEntry, ...] | None
) -> str:
    common = tally.pixels.most_common(_SHOWN_COLORS)
    listed = ", ".join(f"{color_of(code)} ({count} px)" for code, count in common)
    more = len(tally.pixels) - len(common)
    names = [entry.name for entry in given or ()]
    names += [f"class_{i}" for i in range(len(names), len(common))]
    entries = [
        ClassEntry(id=i, name=names[i], color=color_of(code)) for i, (code, _) in enumerate(common)
    ]
    lossy = (
        " So many colours mean that masks were saved with loss (JPEG) or are images."
        if (len(tally.pixels) > MAX_CLASSES)
        else ""
    )
    return (
        f"masks such as {example} show classes as colours, and nothing says which colour is which "
        f"class. Colours found: {listed}{f' and {more} more' if more > 0 else ''}.{lossy} Save "
        "lines such as these as classes.yaml with names of your own, and give it with --classes:\n"
        f"{class_file_text(entries)}"
    )


def _tally(path: Path) -> _Tally:
    """Count the values of one mask; stops when there are too many."""
    with closing(MaskReader(path)) as reader:
        tally = _Tally(reader.shows_colors)
        limit = _MAX_COLORS if reader.shows_colors else MAX_CLASSES
        for found in reader.counts():
            tally.pixels.update(found)
            if len(tally.pixels) > limit:
                break
        return tally


def _total(tallies: Iterable[_Tally]) -> Counter[int]:
    total: Counter[int] = Counter()
    for tally in tallies:
        total.update(tally.pixels)
    return total


def _derived(entries: Sequence[ClassEntry]) -> str:
    listed = ", ".join(f"{entry.id} {entry.name}" for entry in entries)
    return f"classes were read from the labels ({listed}); name them with --classes"
