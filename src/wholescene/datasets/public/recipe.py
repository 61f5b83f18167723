"""What a public dataset is, as data: one YAML file per dataset beside this module.

A recipe says how the publisher (and the tools that made other layouts common) name files, what
label values mean, and which scenes belong to which split. All logic is in
``wholescene.datasets.prepare``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from importlib import resources
from itertools import chain, combinations
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from wholescene.datasets.contract import ClassEntry
from wholescene.errors import ConfigError, DatasetError
from wholescene.labels import ClassTable, LabelClass
from wholescene.raster.source import BandSpec, Resampling, SourceSpec
from wholescene.yamlfile import explain_validation_error, parse_yaml, yaml_lines

__all__ = [
    "HeldOut",
    "Layout",
    "Recipe",
    "SplitTable",
    "Submission",
    "TilingRule",
    "load_recipe",
    "recipe_names",
]

Color = tuple[int, int, int]
Counts = dict[str, int]
Patterns = Annotated[tuple[str, ...], BeforeValidator(lambda p: (p,) if isinstance(p, str) else p)]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceRecipe(_Data):
    """One kind of raster; as :class:`~wholescene.raster.source.SourceSpec` without its name."""

    bands: tuple[BandSpec, ...] | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    resampling: Resampling = "bilinear"
    grey_as_color: bool = False

    def named(self, name: str) -> SourceSpec:
        """The source as a dataset describes it."""
        return SourceSpec(name=name, **dict(self))


class Layout(_Data):
    r"""One way in which the files of a dataset are laid out.

    Patterns are regular expressions for the end of a path below the source folder, with ``/``
    between folders, matched from the start of a folder or file name, without regard to case. Their
    named groups are joined into the scene's id; files with the same id belong together. Of a list
    of patterns, the first that a file of the scene follows counts.

    Args:
        images: Pattern of each source, or several.
        labels: Pattern of each target, or several.
        id: Id of a scene, made of named groups.
        group: What scenes of one group share (a city, the scene a patch was cut from), likewise.
        split: Where scenes get their split from: ``table`` (the recipe's split table), ``folder``
            (the group named ``split``), ``lists`` (the files of ``lists`` for the way
            ``official``), or the name of the one split there is.
        split_names: Split that a value of the group ``split`` stands for; others stand for
            themselves.
        lists: Pattern of a text file for each split, by way to split; a line starts with the
            name of an image.
        ids: Class id that a value of a one-band mask stands for; ``None`` takes values as ids.
        colors: Class id of further colours of colour masks, as ``"r,g,b"``.
    """

    images: dict[str, Patterns] = Field(min_length=1)
    labels: dict[str, Patterns] = {}
    id: str = "{scene}"
    group: str | None = None
    split: str = "folder"
    split_names: dict[str, str] = {}
    lists: dict[str, dict[str, str]] = {}
    ids: dict[int, int] | None = None
    colors: dict[str, int] = {}

    @field_validator("images", "labels")
    @classmethod
    def _are_patterns(cls, columns: dict[str, Patterns]) -> dict[str, Patterns]:
        for pattern in chain.from_iterable(columns.values()):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return columns

    @model_validator(mode="after")
    def _groups_exist(self) -> Layout:
        needed = {name for _, name, *_ in Formatter().parse(self.id) if name}
        for pattern in chain(*self.images.values(), *self.labels.values()):
            missing = needed - set(re.compile(pattern).groupindex)
            if missing:
                raise ValueError(f"{pattern!r} has no group {sorted(missing)[0]!r} for {self.id!r}")
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """Patterns of every file that is used."""
        lists = (pattern for by_split in self.lists.values() for pattern in by_split.values())
        return (*chain(*self.images.values(), *self.labels.values()), *lists)

    @property
    def further_colors(self) -> dict[Color, int]:
        """Further colours as numbers."""
        return {_color(text): value for text, value in self.colors.items()}


class HeldOut(_Data):
    """A way to split that holds scenes of the official one out, to select models on.

    Args:
        way: Its name.
        split: Split they go to.
        of: Split they are taken from.
        share: About how many of its scenes: those whose row name has a SHA-256 hash that, read as
            a fraction of the largest, is below this. Which go does not depend on which are there.
        further: More splits of its scenes and their shares: those with the next higher hashes.
        others: What becomes of other splits, such as ``val: test``; an empty name leaves them out.
    """

    way: str = "strict"
    split: str = "val"
    of: str = "train"
    share: float = Field(gt=0, lt=1)
    further: dict[str, float] = {}
    others: dict[str, str] = {}


class SplitTable(_Data):
    """Splits that do not show in the files, as a table of the recipe.

    Args:
        file: CSV in ``splits/`` with a column ``scene`` and one for each way to split; an empty
            cell leaves the scene out. ``None`` if all but the held-out scenes show in the files.
        row: Row of a scene, made of named groups; its group by default, or else its id.
        otherwise: Split of scenes without a row; ``None`` refuses them.
        held_out: A further way to split.
        describe: What each column is, by name.
    """

    file: str | None = None
    row: str | None = None
    otherwise: str | None = None
    held_out: HeldOut | None = None
    describe: dict[str, str] = {}


class TilingRule(_Data):
    """The published rule by which patches are cut.

    Args:
        size: Side of a patch, px.
        stride: Declared distance of patches, px.
        stride_ignored: Whether the published tool lays patches edge to edge all the same.
        totals: Patches of each split, where published.
    """

    size: int = Field(ge=1)
    stride: int = Field(ge=1)
    stride_ignored: bool = False
    totals: Counts = {}


class Submission(_Data):
    """What the server that keeps the labels of a split takes.

    Args:
        split: Split whose labels it keeps.
        url: Where to upload.
        name: File name of a scene's map, made of the groups of its path and ``id``.
        coding: ``ids`` writes class ids plus ``offset``, ``colors`` the palette.
        offset: Added to every class id.
        archive: Name of the archive; ``None`` leaves single files.
        nodata: Value for pixels without a class.
    """

    split: str
    url: str
    name: str = "{id}.png"
    coding: Literal["ids", "colors"] = "ids"
    offset: int = 0
    archive: str | None = None
    nodata: int = 0


class Archive(_Data):
    """One file as published.

    Args:
        name: Pattern of its name.
        md5: Checksum as published; ``None`` if none is.
        sha256: Likewise.
    """

    name: str
    md5: str | None = None
    sha256: str | None = None


class Recipe(_Data):
    """One public dataset.

    Args:
        name: Name on the command line.
        title: Full name.
        homepage: Where to get it.
        licence: Terms of use.
        about: One or two sentences.
        reference: Publication.
        gsd_m: Ground sampling distance in metres; ``None`` if it varies.
        size: Scenes and their size, in words.
        classes: Classes; none for an unlabelled pool.
        ignore_id: Id of pixels that neither train nor score.
        ignore_colors: Colours of such pixels in colour masks.
        color_tolerance: How far each of red, green and blue of a colour mask may be off, where
            published masks are known to be; 127 is a threshold at 128 for colours of 0 and 255.
        tolerated: Scenes whose masks are, by id or group; all if none are named.
        sources: Every kind of raster it has.
        variants: Sources that make up a scene, by name; the first whose files are there is used.
        targets: Kinds of label, the one to use first.
        layouts: Ways to lay it out, the publisher's first.
        splits: Split table.
        archives: Files as published.
        counts: Scenes of each split when complete, in the publisher's layout.
        unlabelled: Splits whose labels are not public, with the reason.
        tiling: How published patches are cut.
        submission: What the server takes.
        exclude: Scenes left out, by id, with the reason.
        may_lack_labels: Scenes left out if they have no label, likewise.
        traps: What to know before using it, one sentence each.
    """

    name: str
    title: str
    homepage: str
    licence: str
    about: str
    reference: str | None = None
    gsd_m: float | None = None
    size: str
    classes: tuple[ClassEntry, ...] = ()
    ignore_id: int | None = None
    ignore_colors: tuple[Color, ...] = ()
    color_tolerance: int = Field(default=0, ge=0, le=127)
    tolerated: tuple[str, ...] = ()
    sources: dict[str, SourceRecipe] = Field(min_length=1)
    variants: dict[str, tuple[str, ...]] = {}
    targets: tuple[str, ...] = ()
    layouts: dict[str, Layout] = Field(min_length=1)
    splits: SplitTable | None = None
    archives: tuple[Archive, ...] = ()
    counts: Counts = {}
    unlabelled: dict[str, str] = {}
    tiling: TilingRule | None = None
    submission: tuple[Submission, ...] = ()
    exclude: dict[str, str] = {}
    may_lack_labels: dict[str, str] = {}
    traps: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        for name, layout in self.layouts.items():
            unknown = {*layout.images} - {*self.sources} | {*layout.labels} - {*self.targets}
            if unknown:
                raise ValueError(f"layout {name!r} has {sorted(unknown)}, which nothing declares")
            if layout.split == "table" and (self.splits is None or self.splits.file is None):
                raise ValueError(f"layout {name!r} needs a split table")
        for variant, sources in self.ways.items():
            if not sources or {*sources} - {*self.sources}:
                raise ValueError(f"variant {variant!r} has a source that is not declared")
        if self.targets and not self.classes:
            raise ValueError("targets need classes")
        return self

    @model_validator(mode="after")
    def _colors_apart(self) -> Recipe:
        for layout in self.layouts.values():
            for (one, a), (other, b) in combinations(self.palette(layout).items(), 2):
                apart = max(abs(p - q) for p, q in zip(one, other, strict=True))
                if a != b and apart <= 2 * self.color_tolerance:
                    raise ValueError(
                        f"color_tolerance {self.color_tolerance} cannot tell the colours {one} and "
                        f"{other}, which are {apart} apart; it must be below half of that"
                    )
        return self

    @property
    def is_pool(self) -> bool:
        """Whether it has no labels at all."""
        return not self.targets

    @property
    def ways(self) -> dict[str, tuple[str, ...]]:
        """Variants; each source by itself where none are declared."""
        return self.variants or {name: (name,) for name in self.sources}

    @cached_property
    def class_table(self) -> ClassTable:
        """Classes with their colours."""
        spare = ClassTable.from_names(str(i) for i in range(len(self.classes))).colors
        classes = tuple(
            LabelClass(id=entry.id, name=entry.name, color=entry.color or color)
            for entry, color in zip(self.classes, spare, strict=True)
        )
        return ClassTable(classes, self.ignore_id)

    def palette(self, layout: Layout) -> dict[Color, int]:
        """Class id of every colour that a colour mask may hold."""
        found = {entry.color: entry.id for entry in self.classes if entry.color is not None}
        if self.ignore_id is not None:
            found.update(dict.fromkeys(self.ignore_colors, self.ignore_id))
        return {**found, **layout.further_colors}


def recipe_names() -> tuple[str, ...]:
    """Names of the datasets that can be prepared, in alphabetical order."""
    files = resources.files(__package__).iterdir()
    return tuple(sorted(Path(f.name).stem for f in files if f.name.endswith(".yaml")))


def load_recipe(name: str) -> Recipe:
    """Read the recipe of a public dataset.

    Args:
        name: One of :func:`recipe_names`, or the path of a recipe of your own (``.yaml``).

    Raises:
        DatasetError: If there is no such recipe or it is not legal.
    """
    own = Path(name)
    if own.suffix in (".yaml", ".yml"):
        if not own.is_file():
            raise DatasetError(f"no recipe at {own}")
        return parse_recipe(own.read_text(encoding="utf-8"), str(own))
    known = recipe_names()
    wanted = name.casefold().replace("_", "-")
    if wanted not in known:
        raise DatasetError(
            f"no dataset {name!r}; known are folder (your own images and masks), "
            f"{', '.join(known)}; a path to a recipe file (.yaml) works too"
        )
    text = (resources.files(__package__) / f"{wanted}.yaml").read_text(encoding="utf-8")
    return parse_recipe(text, f"{wanted}.yaml")


def parse_recipe(text: str, where: str) -> Recipe:
    """Read a recipe from YAML.

    Raises:
        DatasetError: If it is not legal; with file, line, key and what is legal.
    """
    try:
        data: Mapping[str, Any] = parse_yaml(text, where)
        return Recipe.model_validate(data)
    except ValidationError as error:
        message = explain_validation_error(error, Recipe, where, lines=yaml_lines(text))
        raise DatasetError(message) from None
    except ConfigError as error:
        raise DatasetError(str(error)) from None


def split_table_text(file: str) -> str:
    """Content of a committed split table."""
    return (resources.files(__package__) / "splits" / file).read_text(encoding="utf-8")


def _color(text: str) -> Color:
    parts = [int(part) for part in text.split(",")]
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise ValueError(f"{text!r} is not a colour such as '255,0,0'")
    return parts[0], parts[1], parts[2]
