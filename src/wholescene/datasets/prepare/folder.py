"""A dataset from anyone's own images and labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.contract import ClassEntry, write_dataset
from wholescene.datasets.prepare.class_file import CLASS_FILES, read_class_file
from wholescene.datasets.prepare.folder_classes import (
    FolderClasses,
    mask_classes,
    polygon_classes,
)
from wholescene.datasets.prepare.folder_files import Pairs, pair_files
from wholescene.datasets.prepare.folder_splits import FolderSplits, split_scenes
from wholescene.datasets.prepare.match import Found, FoundScene
from wholescene.datasets.prepare.run import Prepared, ScenePlan, work_on
from wholescene.datasets.prepare.scene import SceneWork
from wholescene.datasets.public.recipe import Layout, Recipe, SourceRecipe
from wholescene.errors import DatasetError, InputError
from wholescene.progress import Progress
from wholescene.raster.rasterize import PolygonCoding, PolygonFile, rasterize_polygons
from wholescene.raster.read import SceneReader

__all__ = ["prepare_folder"]

LAYOUT = "folder"
SOURCE, TARGET = "image", "label"


def prepare_folder(
    source: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    classes: str | Path | None = None,
    ignore_id: int | None = None,
    images: str | None = None,
    labels: str | None = None,
    field: str | None = None,
    split: str | None = None,
    partial: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Check, index and describe a folder of images and labels of one's own.

    Images stay where they are. Masks and polygons become tiled GeoTIFFs of class ids in
    ``out/labels``. Interrupted work goes on where it stopped.

    Args:
        source: Folder with images and labels in any usual arrangement.
        out: Folder for the dataset.
        name: Name of the dataset; ``None`` takes that of the folder.
        classes: Class file; ``None`` looks for one in the folder, else reads the labels.
        ignore_id: Id of pixels that neither train nor score.
        images: Pattern of images below ``source``, ``*`` standing for the scene's name.
        labels: Pattern of labels likewise, or one vector file for all images.
        field: Attribute of polygons with the id or name of their class.
        split: ``folders``, ``lists``, ``draw``, or a table (CSV with the columns scene and split);
            ``None`` finds out.
        partial: Index images without a label as unlabelled where others of their split have one.
        workers: Scenes worked on at once; ``None`` for one per processor.
        progress: Called with scenes done and in all.

    Raises:
        DatasetError: If files contradict each other, or labels or classes cannot be told.
        InputError: If an argument does not fit the files.
        LabelError: If a label holds what is in no class, or has another size than its image.
        RasterError: If a file cannot be read, or polygons have no place on an image.
        OutputError: If something cannot be written.
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise DatasetError(f"--source {source} is no folder; give the one with your images")
    pairs = pair_files(source, out, images=images, labels=labels)
    polygons = _polygon_files(pairs, field)
    given, class_note = _given_classes(source, classes)
    masks = [scene.labels[TARGET] for scene in pairs.scenes if scene.labels]
    found = (
        polygon_classes(polygons.values(), given, ignore_id)
        if polygons
        else mask_classes(masks, given, ignore_id, workers)
    )
    split_by = split_scenes(source, pairs.scenes, split or "auto")
    recipe = _recipe(name or source.resolve().name, pairs, found, split_by)
    plan = ScenePlan(recipe, _found(pairs, split_by), (SOURCE,), "official", out, partial)
    records, notes = plan.records()
    tasks = [_with_polygons(task, polygons, recipe, found) for task in plan.work(records)]
    statistics = work_on(tasks, workers, progress)
    spec = plan.spec(statistics).model_copy(
        update={"split_way": split_by.way, "licence": None, "description": None}
    )
    path = write_dataset(spec, records, out)
    counts = Counter(record.split for record in records)
    told = (*class_note, *found.notes, split_by.note, *pairs.notes, *notes)
    return Prepared(path, LAYOUT, SOURCE, dict(counts), told)


@dataclass(frozen=True)
class PolygonWork(SceneWork):
    """The work for one scene whose labels are polygons.

    Args:
        polygons: The polygons of each vector file.
        polygon_coding: What they stand for.
    """

    polygons: Mapping[Path, PolygonFile]
    polygon_coding: PolygonCoding

    def _convert(self, image: SceneReader) -> dict[str, NDArray[np.int64]]:
        return {
            target: rasterize_polygons(
                self.polygons[self.masks[target]],
                out,
                self.polygon_coding,
                image.grid,
                where=str(image.paths[0]),
            )
            for target, out in self.record.labels.items()
        }

    def _key(self) -> str:
        coding = self.polygon_coding
        attributes = {each.attribute for each in self.polygons.values()}
        parts = [super()._key(), attributes, coding.background, coding.foreground]
        text = repr([*parts, sorted(coding.ids.items())])
        return hashlib.sha256(text.encode()).hexdigest()


def _polygon_files(pairs: Pairs, field: str | None) -> dict[Path, PolygonFile]:
    """The vector files, where labels are polygons."""
    if pairs.are_polygons:
        files = dict.fromkeys(path for scene in pairs.scenes for path in scene.labels.values())
        return {path: PolygonFile(path, field) for path in files}
    if field is not None:
        raise InputError(f"--field {field!r} is for polygons, but the labels here are masks")
    return {}


def _given_classes(
    source: Path, classes: str | Path | None
) -> tuple[tuple[ClassEntry, ...] | None, tuple[str, ...]]:
    """What the class file says, and a note if it was not named."""
    if classes is not None:
        return read_class_file(Path(classes)), ()
    files = [source / name for name in CLASS_FILES if (source / name).is_file()]
    if not files:
        return None, ()
    if len(files) > 1:
        raise DatasetError(f"{files[0]} and {files[1]} both name classes; say which with --classes")
    return read_class_file(files[0]), (f"classes are those of {files[0]}",)


def _recipe(name: str, pairs: Pairs, found: FolderClasses, split_by: FolderSplits) -> Recipe:
    """The folder as a recipe of its own."""
    layout = Layout(
        images={SOURCE: pairs.image_pattern},
        labels={TARGET: pairs.label_pattern},
        group="{group}" if split_by.groups else None,
        split_names={split: split for split in split_by.splits.values()},
        ids=None if found.values is None else {**found.values},
        colors={",".join(map(str, color)): value for color, value in found.colors.items()},
    )
    return Recipe(
        name=name,
        title=name,
        homepage="",
        licence="",
        about="",
        size="",
        classes=found.entries,
        ignore_id=found.ignore_id,
        ignore_colors=found.ignore_colors,
        sources={SOURCE: SourceRecipe()},
        targets=(TARGET,),
        layouts={LAYOUT: layout},
    )


def _found(pairs: Pairs, split_by: FolderSplits) -> Found:
    """Scenes that have a split, with what the layout takes from their names."""
    scenes = {}
    for scene in pairs.scenes:
        if scene.id in split_by.splits:
            fields = {
                "split": split_by.splits[scene.id],
                "group": split_by.groups.get(scene.id, scene.id),
            }
            scenes[scene.id] = FoundScene(scene.id, fields, scene.images, scene.labels)
    return Found(LAYOUT, scenes, {}, pairs.stray)


def _with_polygons(
    task: SceneWork, polygons: Mapping[Path, PolygonFile], recipe: Recipe, found: FolderClasses
) -> SceneWork:
    """The same work for a scene whose labels are polygons."""
    if not polygons:
        return task
    coding = PolygonCoding(recipe.class_table, found.background, found.foreground, found.attributes)
    own = {each.name: getattr(task, each.name) for each in fields(task)}
    return PolygonWork(**own, polygons=polygons, polygon_coding=coding)
