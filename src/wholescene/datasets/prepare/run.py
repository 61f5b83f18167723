"""From the files of a dataset as they came to ``dataset.yaml``, a scene table and label rasters."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from wholescene.datasets.contract import (
    DatasetSpec,
    Statistics,
    TargetSpec,
    write_dataset,
)
from wholescene.datasets.prepare.archives import unpack_archives
from wholescene.datasets.prepare.match import Found, FoundScene, choose_layout, find_files
from wholescene.datasets.prepare.scene import SceneResult, SceneWork, merge_results
from wholescene.datasets.prepare.splits import assign_splits, group_of
from wholescene.datasets.public.recipe import Recipe
from wholescene.datasets.table import SceneRecord
from wholescene.errors import DatasetError, InputError
from wholescene.progress import Progress
from wholescene.raster.mask_coding import MaskCoding
from wholescene.raster.masks import mask_values
from wholescene.raster.source import SourceSpec

__all__ = ["Prepared", "ScenePlan", "prepare_dataset", "work_on"]

POOL_STATISTICS_SCENES = 2000
"""Scenes of an unlabelled pool whose pixels are read for its statistics."""

_SETTLED_BY = 200  # scenes whose labels tell layouts with equal names apart
_SHOWN = 5


@dataclass(frozen=True)
class Prepared:
    """What was made.

    Args:
        path: The ``dataset.yaml``.
        layout: Layout that was found.
        variant: Variant that was made.
        splits: Scenes of each split.
        notes: What a user should know, one sentence each.
    """

    path: Path
    layout: str
    variant: str
    splits: Mapping[str, int]
    notes: tuple[str, ...]


def prepare_dataset(
    recipe: Recipe,
    source: str | Path,
    out: str | Path,
    *,
    layout: str = "auto",
    variant: str | None = None,
    split: str = "official",
    partial: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Check, index and describe a dataset as it was downloaded.

    Images stay where they are. Masks become tiled GeoTIFFs of class ids in ``out/labels``.
    Archives are unpacked into ``out/unpacked`` unless that was done beside them. Interrupted
    work goes on where it stopped.

    Args:
        recipe: The dataset.
        source: Folder with archives, with what they unpack to, or with both.
        out: Folder for the dataset.
        layout: Name of a layout of the recipe, or ``auto``.
        variant: Name of a variant; ``None`` takes the first whose files are there.
        split: Way to split.
        partial: Index scenes of a labelled split whose label is missing as unlabelled.
        workers: Scenes worked on at once; ``None`` for one per processor.
        progress: Called with scenes done and in all.

    Raises:
        DatasetError: If no file fits, files contradict each other, or labels are missing.
        InputError: If an argument names nothing there is.
        LabelError: If a mask holds what is in no class, or has another size than its image.
        OutputError: If something cannot be written.
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise DatasetError(f"--source {source} is no folder; give the one with {recipe.title}")
    unpacked, packed = unpack_archives(recipe, source, out / "unpacked", progress=progress)
    files = find_files([source, *unpacked])
    found = _settle(recipe, choose_layout(recipe, files, layout))
    name, sources = _variant(recipe, found, variant)
    plan = ScenePlan(recipe, found, sources, split, out, partial)
    records, notes = plan.records()
    statistics = work_on(plan.work(records), workers, progress)
    path = write_dataset(plan.spec(statistics), records, out)
    counts = Counter(record.split for record in records)
    return Prepared(
        path, found.layout, name, dict(counts), (*packed, *notes, *plan.count_notes(counts))
    )


def _settle(recipe: Recipe, candidates: Sequence[Found]) -> Found:
    """Of layouts that take the same labels, choose one that knows every value in them."""
    best = candidates[0]
    labels = {i: scene.labels for i, scene in best.scenes.items()}
    rivals = [c for c in candidates if {i: s.labels for i, s in c.scenes.items()} == labels]
    for path in [p for found in labels.values() for p in found.values()][:_SETTLED_BY]:
        if len(rivals) > 1:
            values = mask_values(path)
            rivals = [c for c in rivals if _coding(recipe, c.layout).knows(values)]
    # If none is left, its error is said when the labels are read.
    return rivals[0] if rivals else best


def _coding(recipe: Recipe, layout: str) -> MaskCoding:
    found = recipe.layouts[layout]
    return MaskCoding(recipe.class_table, recipe.palette(found), found.ids)


def _variant(recipe: Recipe, found: Found, asked: str | None) -> tuple[str, tuple[str, ...]]:
    """The variant to make, and its sources."""
    if asked is not None and asked not in recipe.ways:
        raise InputError(
            f"{recipe.name} has no variant {asked!r}; it has {', '.join(recipe.ways)}; see "
            "--variant"
        )
    names = [*recipe.ways] if asked is None else [asked]
    there = {source for scene in found.scenes.values() for source in scene.images}
    for name in names:
        if there.issuperset(recipe.ways[name]):
            return name, recipe.ways[name]
    wanted = sorted(set(recipe.ways[names[0]]) - there)
    raise DatasetError(
        f"variant {names[0]!r} of {recipe.name} needs the files of {', '.join(wanted)}; found are "
        f"those of {', '.join(sorted(there))}. Unpack the missing archives into the source folder, "
        f"or choose another variant with --variant"
    )


class ScenePlan:
    """What is to be made of the files of one dataset."""

    def __init__(
        self,
        recipe: Recipe,
        found: Found,
        sources: Sequence[str],
        way: str,
        out: Path,
        partial: bool,
    ) -> None:
        self.recipe, self.found, self.out, self.partial = recipe, found, out, partial
        self.layout = recipe.layouts[found.layout]
        self.way, self.splits = way, assign_splits(recipe, found, way)
        self.sources = sources
        there = {target for scene in found.scenes.values() for target in scene.labels}
        self.targets = tuple(name for name in recipe.targets if name in there)

    @property
    def source_specs(self) -> tuple[SourceSpec, ...]:
        """The first source is always called ``image``."""
        names = ("image", *self.sources[1:])
        return tuple(
            self.recipe.sources[key].named(name)
            for key, name in zip(self.sources, names, strict=True)
        )

    def records(self) -> tuple[list[SceneRecord], list[str]]:
        """A record for each scene, and notes on what is missing."""
        taken = [
            scene
            for scene in self.found.scenes.values()
            if scene.id in self.splits and self._why_left_out(scene) is None
        ]
        if not taken:
            raise DatasetError(
                f"none of {len(self.found.scenes)} scenes of {self.recipe.name} is in a split of "
                f"{self.way!r}; split another way (--split)"
            )
        incomplete = [scene for scene in taken if not set(self.sources) <= set(scene.images)]
        if incomplete:
            self._refuse_incomplete(incomplete, len(taken))
        notes = [*self._stray_notes(), *self._missing_labels(taken), *self._excluded_notes()]
        return [self._record(scene) for scene in taken], notes

    def work(self, records: Sequence[SceneRecord]) -> list[SceneWork]:
        """What is to be done for each scene."""
        is_read = _statistics_scenes(self.recipe, records)
        exact = _coding(self.recipe, self.found.layout) if self.targets else None
        lenient = exact and replace(exact, tolerance=self.recipe.color_tolerance)
        named = {*self.recipe.tolerated}
        return [
            SceneWork(
                record=record,
                masks=self.found.scenes[record.id].labels,
                coding=lenient if not named or named & {record.id, record.group} else exact,
                sources=self.source_specs,
                journal=self.out / ".prepare" / f"{record.id}.json",
                with_moments=record.id in is_read,
                whole=self.recipe.targets != (),
            )
            for record in records
        ]

    def spec(self, statistics: Statistics | None) -> DatasetSpec:
        """The description."""
        recipe = self.recipe
        return DatasetSpec(
            name=recipe.name,
            classes=recipe.classes,
            ignore_id=recipe.ignore_id,
            gsd_m=recipe.gsd_m,
            sources=self.source_specs,
            targets=tuple(TargetSpec(name=name) for name in self.targets),
            scenes="scenes.parquet" if recipe.is_pool else "scenes.csv",
            statistics=statistics,
            split_way=self.way,
            licence=recipe.licence,
            description=f"{recipe.title}. {recipe.about} {recipe.homepage}",
        )

    def count_notes(self, counts: Mapping[str, int]) -> list[str]:
        """How far the dataset is complete."""
        is_published = self.found.layout == next(iter(self.recipe.layouts))
        if not is_published or self.way != "official":
            return []
        return [
            f"split {split!r}: {counts.get(split, 0):,} of {wanted:,} scenes; unpack the rest into "
            "the source folder and prepare again to add it"
            for split, wanted in self.recipe.counts.items()
            if counts.get(split, 0) < wanted
        ]

    def _record(self, scene: FoundScene) -> SceneRecord:
        names = [spec.name for spec in self.source_specs]
        return SceneRecord(
            id=scene.id,
            split=self.splits[scene.id],
            files={
                name: (scene.images[key],) for name, key in zip(names, self.sources, strict=True)
            },
            labels={
                name: self._label(scene, name) for name in self.targets if name in scene.labels
            },
            group=group_of(self.layout, scene.fields),
        )

    def _label(self, scene: FoundScene, target: str) -> Path:
        return self.out / "labels" / target / f"{scene.id}.tif"

    def _refuse_incomplete(self, scenes: Sequence[FoundScene], count: int) -> None:
        lacking = sorted(set(self.sources) - set(scenes[0].images))
        raise DatasetError(
            f"{len(scenes)} of {count} scenes lack a file of {', '.join(lacking)} "
            f"({_some(scene.id for scene in scenes)}); unpack the rest, or choose a variant "
            "without it (--variant)"
        )

    def _missing_labels(self, scenes: Sequence[FoundScene]) -> list[str]:
        """Scenes that should be labelled and are not."""
        notes = []
        for target in self.targets:
            lacking = [
                scene.id
                for scene in scenes
                if target not in scene.labels
                and self.splits[scene.id] not in self.recipe.unlabelled
            ]
            # A target that a whole split lacks, such as full labels kept back, is no accident.
            splits = {self.splits[i] for i in lacking}
            has_some = {self.splits[s.id] for s in scenes if target in s.labels}
            lacking = [i for i in lacking if self.splits[i] in splits & has_some]
            if not lacking:
                continue
            what = (
                f"{len(lacking)} scenes of labelled splits have an image but no {target!r} mask "
                f"({_some(lacking)})"
            )
            if not self.partial:
                pattern = " or ".join(self.layout.labels[target])
                raise DatasetError(
                    f"{what}; masks are named {pattern}. Add them, or index these scenes as "
                    "unlabelled with --partial"
                )
            notes.append(f"{what}; they are indexed as unlabelled")
        return notes

    def _stray_notes(self) -> list[str]:
        stray = self.found.stray
        if not stray:
            return []
        return [f"{len(stray)} masks without an image are left out ({_some(map(str, stray))})"]

    def _why_left_out(self, scene: FoundScene) -> str | None:
        may_lack = {} if scene.labels else self.recipe.may_lack_labels
        return self.recipe.exclude.get(scene.id, may_lack.get(scene.id))

    def _excluded_notes(self) -> list[str]:
        why = {s.id: self._why_left_out(s) for s in self.found.scenes.values()}
        found = {scene: reason for scene, reason in why.items() if reason is not None}
        if not found:
            return []
        reasons = "; ".join(sorted({*found.values()}))
        return [f"{len(found)} scenes are left out ({_some(found)}): {reasons}"]


def _statistics_scenes(recipe: Recipe, records: Iterable[SceneRecord]) -> set[str]:
    """Scenes whose pixels are read: those of the training split, of a pool some."""
    listed = list(records)
    split = "train" if any(r.split == "train" for r in listed) else listed[0].split
    ids = [r.id for r in listed if r.split == split]
    step = max(1, len(ids) // POOL_STATISTICS_SCENES) if recipe.is_pool else 1
    return set(ids[::step])


def work_on(
    tasks: Sequence[SceneWork], workers: int | None, progress: Progress | None
) -> Statistics | None:
    """Do the work of all scenes on several threads; GDAL and NumPy leave Python meanwhile."""
    results: dict[str, SceneResult] = {}
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        futures = {pool.submit(task.run): task.record.id for task in tasks}
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                results[futures[future]] = future.result()
                if progress is not None:
                    progress(done, len(futures))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    # In the order of the table, so that sums do not depend on which scene was done first.
    split = next((t.record.split for t in tasks if t.with_moments), "train")
    return merge_results([results[task.record.id] for task in tasks if task.with_moments], split)


def _some(ids: Iterable[str]) -> str:
    listed = list(ids)
    return ", ".join(listed[:_SHOWN]) + (" ..." if len(listed) > _SHOWN else "")
