"""What ``wholescene data prepare`` does, from a name to a text about what was made."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any, Literal

from wholescene.datasets.contract import Dataset, load_dataset
from wholescene.datasets.prepare.folder import prepare_folder
from wholescene.datasets.prepare.run import Prepared, prepare_dataset
from wholescene.datasets.prepare.tiles import expected_tiles, write_tiles
from wholescene.datasets.public.recipe import TilingRule, load_recipe
from wholescene.errors import InputError
from wholescene.progress import Progress

__all__ = ["prepare"]

FOLDER = "folder"


def prepare(
    name: str,
    source: Path,
    out: Path,
    *,
    tiles: int | None = None,
    stride: int | None = None,
    tile_rule: Literal["exact", "seed"] = "exact",
    progress: Progress | None = None,
    **settings: Any,
) -> tuple[dict[str, Any], str]:
    """Prepare a dataset, cut patches if asked to, and say what was made.

    Args:
        name: Dataset, ``folder``, or the path of a recipe.
        source: Folder with the files as they came.
        out: Folder for the dataset; patches go into ``out/tiles``.
        tiles: Side of patches, px; ``None`` cuts none.
        stride: Distance of patches, px; the side if ``None``.
        tile_rule: ``seed`` cuts as the published tool of the dataset does.
        progress: Called with what is done and in all.
        settings: Further arguments of :func:`prepare_dataset` or :func:`prepare_folder`; ``None``
            for what was not given.

    Returns:
        Facts, and the same as text.

    Raises:
        InputError: If a setting does not apply.
    """
    if stride is not None and tiles is None:
        raise InputError(f"--stride {stride} is the distance of patches; give their side: --tiles")
    made, rule = _prepare(name, source, out, _given(settings), progress)
    facts = {
        "dataset": str(made.path),
        "layout": made.layout,
        "variant": made.variant,
        "splits": dict(made.splits),
        "notes": list(made.notes),
    }
    lines = [_summary(made), *(f"note: {note}" for note in made.notes)]
    dataset = load_dataset(made.path)
    if rule is not None:
        lines.append(_published_patches(dataset, rule))
    if tiles is not None:
        ignored = tile_rule == "seed" and rule is not None and rule.stride_ignored
        step = stride or tiles
        path = write_tiles(
            dataset,
            out / "tiles",
            size=tiles,
            stride=step,
            stride_ignored=ignored,
            progress=progress,
        )
        counts = expected_tiles(dataset, tiles, step, ignored)
        facts["tiles"] = {"dataset": str(path), "counts": counts}
        lines.append(f"patches: {_counted(counts)} -> {path}")
    return facts, "\n".join(lines)


def _prepare(
    name: str, source: Path, out: Path, settings: dict[str, Any], progress: Progress | None
) -> tuple[Prepared, TilingRule | None]:
    recipe = None if name == FOLDER else load_recipe(name)
    run = prepare_folder if recipe is None else partial(prepare_dataset, recipe)
    foreign = sorted(settings.keys() - inspect.signature(run).parameters.keys())
    if foreign:
        flag = foreign[0].replace("_", "-")
        raise InputError(
            f"--{flag} {settings[foreign[0]]} does not apply to {name!r}; "
            + (
                "it tells apart how public datasets are laid out"
                if recipe is None
                else "it describes files of your own ('folder')"
            )
        )
    made = run(source, out, progress=progress, **settings)
    return made, None if recipe is None else recipe.tiling


def _published_patches(dataset: Dataset, rule: TilingRule) -> str:
    """How many patches the published tool would cut from these scenes."""
    counts = expected_tiles(dataset, rule.size, rule.stride, rule.stride_ignored)
    known = f"; published: {_counted(rule.totals)}" if rule.totals else ""
    return (
        f"the published tool would cut {_counted(counts)} patches of {rule.size} px from these "
        f"scenes{known}"
    )


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _summary(made: Prepared) -> str:
    return f"{_counted(made.splits)} (layout {made.layout}, variant {made.variant}) -> {made.path}"


def _counted(counts: Any) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
