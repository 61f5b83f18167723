"""Evaluation protocols as data: one YAML file per protocol in ``protocols/``.

A protocol says which pixels of which split count, how they are mapped, and which figure is
reported. Every figure follows from the one stored confusion table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wholescene.datasets.contract import Dataset
from wholescene.datasets.public.recipe import SourceRecipe, TilingRule, load_recipe
from wholescene.errors import ConfigError, InputError
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.files import SCORES_JSON, read_scores, to_json
from wholescene.evaluate.scores import Summary, summary
from wholescene.geometry import Size, Window
from wholescene.geometry.tiling import TileRule
from wholescene.raster.aside import written_aside
from wholescene.raster.source import SourceSpec
from wholescene.yamlfile import (
    explain_validation_error,
    nearest_key_hint,
    parse_yaml,
    yaml_lines,
)

__all__ = [
    "Headline",
    "PatchRule",
    "Protocol",
    "PublishedScore",
    "load_protocol",
    "protocol_names",
    "store_protocol",
]

Headline = Literal["miou", "mf1", "overall_accuracy"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PatchRule(TilingRule):
    """How a published tool cuts the patches that it scores.

    Args:
        drop_remainder: Whether pixels beyond the last full step are not scored, instead of being
            covered by a patch shifted back inside.
    """

    drop_remainder: bool = False

    def windows(self, scene: Size) -> Iterator[Window]:
        """Patches of a scene, row by row; they reach beyond it only where it is smaller."""
        rule = TileRule(self.size, self.stride, self.stride_ignored)
        for window in rule.windows(scene):
            is_shifted = window.row_off % rule.step or window.col_off % rule.step
            if not (self.drop_remainder and is_shifted):
                yield window


class PublishedScore(_Data):
    """A figure that was published under the protocol.

    Args:
        model: What reached it.
        value: The headline figure in percent.
    """

    model: str
    value: float = Field(ge=0, le=100)


class Protocol(_Data):
    """How models are compared on one dataset.

    Args:
        name: Name on the command line.
        dataset: Name of the dataset's recipe.
        about: What it is, and where it differs from what was published.
        source: Publication or code whose rules these are.
        strict: Whether it promises that scenes are scored whole and that no model is selected on
            them.
        split_way: Way to split that the dataset must be prepared with.
        split: Split that is scored.
        select_on: Split that models are selected on.
        target: Kind of label that is scored; ``None`` for the dataset's first.
        erode_px: Radius around class boundaries that does not score.
        exclude: Classes left out of the means; their pixels still count.
        ignore: Classes whose true pixels do not count at all.
        absent: What a class in neither truth nor map adds to a mean.
        scoring: ``scenes``: whole scenes, each pixel once. ``patches``: each patch by itself, a
            pixel as often as patches cover it.
        patches: How patches are cut.
        headline: The figure that is reported.
        variant: Variant of the recipe whose bands are read; ``None`` leaves it open.
        published: Published figures.
    """

    name: str
    dataset: str
    about: str
    source: str
    strict: bool = False
    split_way: str = "official"
    split: str
    select_on: str
    target: str | None = None
    erode_px: int = Field(default=0, ge=0)
    exclude: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    absent: Literal["skip", "zero", "one"] = "skip"
    scoring: Literal["scenes", "patches"] = "scenes"
    patches: PatchRule | None = None
    headline: Headline = "miou"
    variant: str | None = None
    published: tuple[PublishedScore, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Protocol:
        if (self.scoring == "patches") != (self.patches is not None):
            raise ValueError(
                "'scoring: patches' and 'patches' (size and stride) belong together; give both, or "
                "neither to score whole scenes"
            )
        both = sorted({*self.exclude} & {*self.ignore})
        if both:
            raise ValueError(
                f"class {both[0]!r} is in 'exclude' and in 'ignore'; an ignored class is in no "
                "mean, so keep it in 'ignore' only"
            )
        if self.strict:
            self._check_strict()
        return self

    def _check_strict(self) -> None:
        shared = sorted({*self.select_on.split("+")} & {*self.split.split("+")})
        if shared:
            raise ValueError(
                f"a strict protocol selects models on scenes that it does not score, but "
                f"{shared[0]!r} is in 'split' and in 'select_on'; select on held-out training "
                "scenes"
            )
        if self.scoring != "scenes":
            raise ValueError(
                "a strict protocol scores each pixel once; use 'scoring: scenes' or 'strict: false'"
            )

    @property
    def convention(self) -> str:
        """Name of its figures among the conventions of ``scores.json``."""
        return f"protocol_{self.name}"

    def figures(self, table: ConfusionTable) -> Summary:
        """The figures of a table under the protocol's rules."""
        counted = table.without(*self.ignore) if self.ignore else table
        return summary(counted, exclude=self.exclude, absent=self.absent)

    def check(self, dataset: Dataset) -> None:
        """Make sure that a dataset is the protocol's, prepared as it says; opens no raster.

        Raises:
            DatasetError: If the dataset lacks the split or the target.
            InputError: If it is another dataset, split in another way, or has other bands.
        """
        spec = dataset.spec
        if spec.name != self.dataset:
            raise InputError(
                f"protocol {self.name!r} is for dataset {self.dataset!r}, but {dataset.path} is "
                f"{spec.name!r}; {_protocols_for(spec.name)}"
            )
        if spec.split_way != self.split_way:
            raise InputError(
                f"protocol {self.name!r} needs the way to split {self.split_way!r}, but "
                f"{dataset.path} has split_way {spec.split_way!r}; make it again with 'wholescene "
                f"data prepare {self.dataset} --split {self.split_way}'"
            )
        dataset.split(self.split)
        dataset.mask_target(self.target)
        unknown = [name for name in self.named if name not in dataset.classes.names]
        if unknown:
            raise InputError(
                f"protocol {self.name!r} leaves out class {unknown[0]!r}, but {dataset.path} has "
                f"{', '.join(dataset.classes.names)}"
            )
        self._check_bands(dataset)

    def _check_bands(self, dataset: Dataset) -> None:
        if self.variant is None:
            return
        recipe = load_recipe(self.dataset)
        wanted = _band_names(recipe.sources[key] for key in recipe.ways[self.variant])
        found = _band_names(dataset.spec.sources)
        if wanted != found:
            raise InputError(
                f"protocol {self.name!r} reads variant {self.variant!r} of {self.dataset} "
                f"({', '.join(wanted)}), but {dataset.path} has {', '.join(found)}; make it again "
                f"with 'wholescene data prepare {self.dataset} --variant {self.variant}'"
            )

    @property
    def named(self) -> tuple[str, ...]:
        """Classes that it treats apart."""
        return (*self.exclude, *self.ignore)


def protocol_names() -> tuple[str, ...]:
    """Names of the protocols that come with the package, in alphabetical order."""
    files = _folder().iterdir()
    return tuple(sorted(Path(f.name).stem for f in files if f.name.endswith(".yaml")))


def load_protocol(name: str | Path) -> Protocol:
    """Read a protocol.

    Args:
        name: One of :func:`protocol_names`, or the path of a protocol of your own (``.yaml``).

    Raises:
        InputError: If there is no such protocol or it is not legal; with file, line, key and what
            is legal.
    """
    own = Path(name)
    if own.suffix in (".yaml", ".yml"):
        if not own.is_file():
            raise InputError(f"no protocol at {own}; check the path, or give a name without .yaml")
        return _parsed(own.read_text(encoding="utf-8"), str(own))
    known = protocol_names()
    if str(name) not in known:
        raise InputError(
            f"no protocol {str(name)!r}; {nearest_key_hint(str(name), known)}; a path to a file of "
            "your own (.yaml) works too"
        )
    file = f"{name}.yaml"
    return _parsed((_folder() / file).read_text(encoding="utf-8"), file)


def store_protocol(folder: str | Path, protocol: Protocol) -> dict[str, Any]:
    """Put a protocol and its figures, first among the conventions, into a ``scores.json``.

    Args:
        folder: Where :func:`~wholescene.evaluate.files.write_scores` wrote it.
        protocol: Rules that the pixels were counted by.

    Returns:
        The content of the file.

    Raises:
        InputError: If there is no such file.
        OutputError: If it cannot be written.
    """
    stored = read_scores(folder)
    figures = {
        key: None if math.isnan(value) else value
        for key, value in protocol.figures(stored.table).items()
        if isinstance(value, float)
    }
    document = {
        "protocol": {**protocol.model_dump(mode="json"), "value": figures[protocol.headline]},
        **stored.document,
        "conventions": {protocol.convention: figures, **stored.document["conventions"]},
    }
    with written_aside(Path(folder) / SCORES_JSON) as part:
        part.write_text(to_json(document), encoding="utf-8", newline="")
    return document


def _band_names(sources: Iterable[SourceRecipe | SourceSpec]) -> list[str]:
    return [band.name for source in sources for band in source.bands or ()]


def _protocols_for(dataset: str) -> str:
    names = [name for name in protocol_names() if load_protocol(name).dataset == dataset]
    listed = ", ".join(names)
    return f"protocols for it are {listed}" if names else "no protocol is for it"


def _folder() -> Traversable:
    return resources.files(__package__) / "protocols"


def _parsed(text: str, where: str) -> Protocol:
    try:
        return Protocol.model_validate(parse_yaml(text, where))
    except ValidationError as error:
        message = explain_validation_error(error, Protocol, where, lines=yaml_lines(text))
        raise InputError(message) from None
    except ConfigError as error:
        raise InputError(str(error)) from None
