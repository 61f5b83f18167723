"""What a benchmark's server takes for a split whose labels it keeps."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets import Dataset, SceneRecord, load_dataset
from wholescene.datasets.prepare.match import choose_layout
from wholescene.datasets.public.recipe import Recipe, Submission
from wholescene.errors import DatasetError, InputError
from wholescene.evaluate.report.png import encode_png
from wholescene.geometry import Window
from wholescene.labels import ClassTable
from wholescene.models import Segmenter, load_model
from wholescene.progress import Progress
from wholescene.raster import LabelReader, StripWriter
from wholescene.raster.aside import written_aside
from wholescene.study.evaluation import check_classes, map_scenes, official_recipe

__all__ = ["write_submission"]

ROWS_AT_ONCE = 512


def write_submission(
    dataset: Path,
    model: Path | Segmenter,
    out: Path,
    *,
    split: str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> tuple[dict[str, Any], str]:
    """Map every scene of a split whole and write it as the benchmark's server takes it.

    Args:
        dataset: ``dataset.yaml`` or its folder.
        model: Model directory, or a model.
        out: Folder for ``maps/``, ``submission/`` and the archive.
        split: Split to map; ``None`` for the one that the server scores.
        progress: Called with pixels done and in all.
        settings: Further arguments of :func:`wholescene.predict`, such as ``resume``.

    Returns:
        Facts (what to upload, where, scenes) and a text to print.

    Raises:
        DatasetError: If scenes of the split are missing.
        InputError: If no server scores the split.
        ModelFileError: If the model's classes are not the dataset's.
        OutputError: If a file cannot be written.
    """
    found = load_dataset(dataset)
    recipe, form = _form(found, split)
    scenes = found.split(form.split)
    _check_complete(found, recipe, form.split)
    names = _file_names(recipe, form, scenes)
    network = model if isinstance(model, Segmenter) else load_model(model)
    check_classes(found, network)
    maps, notes = map_scenes(scenes, network, out, progress=progress, **settings)
    coding = _Coding(form, found.classes)
    folder = out / "submission"
    for scene in scenes:
        coding.write(maps[scene.id], folder / names[scene.id])
    upload = folder if form.archive is None else out / form.archive
    if form.archive is not None:
        _pack(folder, names.values(), upload)
    facts = {"submission": str(upload), "url": form.url, "scenes": len(scenes)}
    text = f"{len(scenes)} maps in {upload}; upload it at {form.url}"
    return facts, "\n".join((*notes, text))


def _form(dataset: Dataset, split: str | None) -> tuple[Recipe, Submission]:
    """What the server of a split takes."""
    recipe = official_recipe(dataset)
    if recipe is None:
        raise InputError(
            f"--submission needs a public dataset with its official splits, but {dataset.path} is "
            f"{dataset.spec.name!r} with split_way {dataset.spec.split_way!r}; prepare it with "
            "'wholescene data prepare'"
        )
    forms = [form for form in recipe.submission if split in (None, form.split)]
    if not forms:
        scored = ", ".join(form.split for form in recipe.submission) or "none"
        raise InputError(
            f"no server scores split {split or 'test'!r} of {recipe.name}; splits that one scores: "
            f"{scored}. Leave out --submission to score a split with labels"
        )
    return recipe, forms[0]


def _check_complete(dataset: Dataset, recipe: Recipe, split: str) -> None:
    found, wanted = len(dataset.split(split)), recipe.counts.get(split, 0)
    if found < wanted:
        raise DatasetError(
            f"{dataset.path} has {found} of the {wanted} scenes of split {split!r}; the server "
            "takes all of them. Unpack the rest into the source folder and prepare again"
        )


def _file_names(recipe: Recipe, form: Submission, scenes: Sequence[SceneRecord]) -> dict[str, str]:
    """Name of each scene's file, from the groups of its path and its id."""
    paths = [path for scene in scenes for files in scene.files.values() for path in files]
    found = choose_layout(recipe, [(path.as_posix(), path) for path in paths], "auto")[0].scenes
    names = {
        scene.id: form.name.format_map({**found[scene.id].fields, "id": scene.id})
        for scene in scenes
    }
    if len({*names.values()}) < len(names):
        raise DatasetError(
            f"scenes of {recipe.name} would share a file name: {form.name!r} does not tell them "
            "apart; correct 'submission.name' of the recipe"
        )
    return names


@dataclass(frozen=True)
class _Coding:
    """From a label map to the values that a server takes."""

    form: Submission
    classes: ClassTable

    @cached_property
    def _values(self) -> NDArray[np.uint8]:
        """Bands of each class, (num_classes + 1, bands); the last is for pixels without one."""
        none = self.form.nodata
        if self.form.coding == "colors":
            return np.array([*self.classes.colors, (none,) * 3], np.uint8)
        ids = [i + self.form.offset for i in self.classes.ids]
        return np.array([*ids, none], np.uint8)[:, None]

    def write(self, label_map: Path, out: Path) -> None:
        """Write one map, as PNG or GeoTIFF by the ending of its name."""
        with LabelReader(label_map, self.classes) as labels:
            if out.suffix in (".tif", ".tiff"):
                self._write_tiff(labels, out)
                return
            pixels = self._read(labels, Window.whole(labels.size))
        with written_aside(out) as part:
            part.write_bytes(encode_png(pixels))

    def _write_tiff(self, labels: LabelReader, out: Path) -> None:
        with StripWriter(
            out,
            size=labels.size,
            bands=self._values.shape[1],
            dtype="uint8",
            transform=labels.transform,
            crs=labels.crs,
        ) as writer:
            for row in range(0, labels.size.height, ROWS_AT_ONCE):
                rows = slice(row, min(row + ROWS_AT_ONCE, labels.size.height))
                window = Window.from_slices(rows, slice(0, labels.size.width))
                writer.write(row, np.moveaxis(self._read(labels, window), -1, 0))

    def _read(self, labels: LabelReader, window: Window) -> NDArray[np.uint8]:
        """Values of a window, (h, w, bands)."""
        # The last entry serves index -1.
        return np.asarray(self._values[labels.read(window)])


def _pack(folder: Path, names: Iterable[str], archive: Path) -> None:
    with (
        written_aside(archive) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in sorted(names):
            packed.write(folder / name, name)
