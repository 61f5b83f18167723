"""Checks of a dataset: files, bands, labels, grids, and leaks between splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.contract import Dataset
from wholescene.datasets.finding import Finding
from wholescene.datasets.leaks import content_leaks, file_leaks, ground_leaks, group_leaks
from wholescene.datasets.table import SceneRecord
from wholescene.errors import LabelError, WholesceneError
from wholescene.geometry import Size, Window
from wholescene.labels import ClassTable
from wholescene.progress import Progress
from wholescene.raster.footprint import Footprint, footprint
from wholescene.raster.gdal import is_local
from wholescene.raster.read import LabelReader, SceneReader
from wholescene.raster.statistics import class_counts

__all__ = ["verify"]

_TOLERANCE_PX = 0.5
_VALUES_AT_ONCE = 1 << 22
_TRAIN = "train"


def verify(dataset: Dataset, *, progress: Progress | None = None) -> list[Finding]:
    """Check everything about a dataset that can be checked without training.

    Reads every label, but of every scene only as much as shows that it has data and is whole.

    Args:
        dataset: Dataset to check.
        progress: Called with scenes done and in all.

    Returns:
        Findings, errors first, in the order of the scene table; empty if all is well.
    """
    checked: list[_Checked] = []
    for done, scene in enumerate(dataset.scenes, start=1):
        checked.append(_SceneCheck(dataset, scene).run())
        if progress is not None:
            progress(done, len(dataset.scenes))
    findings = [finding for each in checked for finding in each.findings]
    findings += _band_findings(checked)
    findings += _unknown_id_findings(dataset, checked)
    findings += _leak_findings(dataset, checked)
    findings += _absent_class_findings(dataset, checked)
    findings += _statistics_findings(dataset, checked)
    return sorted(findings, key=lambda finding: finding.severity != "error")


@dataclass
class _Checked:
    """What the checks of one scene leave for those of the whole dataset."""

    scene: SceneRecord
    findings: list[Finding] = field(default_factory=list)
    footprint: Footprint | None = None
    band_names: tuple[str, ...] | None = None
    has_data: bool = False
    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    unknown_ids: dict[str, dict[int, int]] = field(default_factory=dict)


class _SceneCheck:
    """Checks of one scene alone."""

    def __init__(self, dataset: Dataset, scene: SceneRecord) -> None:
        self.dataset = dataset
        self.scene = scene
        self.result = _Checked(scene)

    def run(self) -> _Checked:
        """Collect the findings; none of the checks raises for a fault of the data."""
        missing = {path for path in self.scene.all_files if _is_missing(path)}
        for path in sorted(missing):
            self._error("missing-file", f"no file {path}; check its path in the scene table")
        if missing.isdisjoint(path for paths in self.scene.files.values() for path in paths):
            try:
                with self.dataset.reader(self.scene) as image:
                    self._check_labels(image, missing)
                    self._check_image(image)
            except WholesceneError as error:
                self._error("unreadable-file", str(error))
        return self.result

    def _check_image(self, image: SceneReader) -> None:
        self.result.band_names = tuple(image.band_names)
        self.result.footprint = footprint(image, inset_px=_TOLERANCE_PX / 2)
        windows = image.windows(pixels=_VALUES_AT_ONCE // image.num_bands)
        self.result.has_data = any(image.valid(window).any() for window in windows)
        if not self.result.has_data:
            self._warning("all-nodata", "no pixel of the scene has data; leave it out")
        # A file cut short opens well and fails only here.
        image.read(_last_row(image.size))

    def _check_labels(self, image: SceneReader, missing: set[Path]) -> None:
        for target in self.dataset.spec.targets:
            path = self.scene.labels.get(target.name)
            if target.kind != "mask" or path is None or path in missing:
                continue
            try:
                with self.dataset.label_reader(self.scene, target.name) as label:
                    self._check_label_grid(image, label, path)
                    self._count_label(label, path, target.name)
            except WholesceneError as error:
                self._error("unreadable-file", str(error))

    def _check_label_grid(self, image: SceneReader, label: LabelReader, path: Path) -> None:
        if image.size != label.size:
            self._error(
                "label-grid",
                f"image has {image.size}, its label {path} has {label.size}; make the label again "
                "on the grid of the image",
            )
        elif image.crs is not None and label.crs is not None and image.crs != label.crs:
            self._error(
                "label-grid",
                f"image has CRS {image.crs.to_string()}, its label {path} has "
                f"{label.crs.to_string()}; bring the label to the grid of the image",
            )
        elif not (image.transform.is_identity or label.transform.is_identity):
            shift = _largest_shift_px(image, label)
            if shift > _TOLERANCE_PX:
                self._error(
                    "label-grid",
                    f"the corners of image and label {path} lie up to {shift:.3g} px apart: image "
                    f"transform {_numbers(image.transform)}, label {_numbers(label.transform)}; "
                    "bring the label to the grid of the image",
                )

    def _count_label(self, label: LabelReader, path: Path, target: str) -> None:
        try:
            counts = class_counts([label])
        except LabelError as error:
            found = _unknown_ids(path, self.dataset.spec.class_table(target))
            if found:
                self.result.unknown_ids[target] = found
            else:
                self._error("label-id", str(error))
            return
        self.result.counts[target] = counts
        if not counts[:-1].any():
            self._warning(
                "label-empty",
                f"label {path} holds no pixel of a class, only ignored ones; leave the cell of "
                f"column {target!r} empty if the scene is unlabelled",
            )

    def _error(self, check: str, what: str) -> None:
        self.result.findings.append(Finding("error", self.scene.id, what, check))

    def _warning(self, check: str, what: str) -> None:
        self.result.findings.append(Finding("warning", self.scene.id, what, check))


def _band_findings(checked: Sequence[_Checked]) -> Iterator[Finding]:
    named = [(each.scene, each.band_names) for each in checked if each.band_names is not None]
    if not named:
        return
    usual = Counter(names for _, names in named).most_common(1)[0][0]
    example = next(scene.id for scene, names in named if names == usual)
    for scene, names in named:
        if len(names) != len(usual):
            what = (
                f"{len(names)} bands ({_listed(names)}), where scene {example!r} has {len(usual)}"
            )
        elif names != usual:
            what = f"bands {_listed(names)}, where scene {example!r} has {_listed(usual)}"
        else:
            continue
        # The same names in another order, or another number, would train on the wrong bands;
        # other names may be the same bands under other words.
        wrong = len(names) != len(usual) or set(names) == set(usual)
        yield Finding(
            "error" if wrong else "warning",
            scene.id,
            f"{what}; list the bands to use under 'sources' in dataset.yaml",
            "bands",
        )


def _unknown_id_findings(dataset: Dataset, checked: Sequence[_Checked]) -> Iterator[Finding]:
    for target in dataset.spec.target_names:
        pixels: Counter[int] = Counter()
        scenes: dict[int, list[SceneRecord]] = defaultdict(list)
        for each in checked:
            for label_id, count in each.unknown_ids.get(target, {}).items():
                pixels[label_id] += count
                scenes[label_id].append(each.scene)
        table = dataset.spec.class_table(target)
        for label_id, count in sorted(pixels.items()):
            first = scenes[label_id][0]
            yield Finding(
                "error",
                first.id,
                f"label id {label_id} is in no class: {count} px in {len(scenes[label_id])} "
                f"scene(s), such as {first.labels[target]}; known are {list(table.ids)} and "
                f"ignore_id {table.ignore_id}. Add the class to 'classes' in dataset.yaml, or set "
                "'ignore_id' if these pixels are unlabelled",
                "label-id",
            )


def _leak_findings(dataset: Dataset, checked: Sequence[_Checked]) -> Iterator[Finding]:
    main_source = dataset.spec.source_names[0]
    yield from group_leaks(dataset.scenes)
    yield from file_leaks(dataset.scenes, main_source)
    placed = {
        each.scene.id: each.footprint
        for each in checked
        if each.footprint is not None and each.footprint.lonlat is not None
    }
    yield from ground_leaks(dataset.scenes, placed)
    readable = [each.scene for each in checked if each.has_data and each.scene.id not in placed]
    yield from content_leaks(readable, main_source)


def _absent_class_findings(dataset: Dataset, checked: Sequence[_Checked]) -> Iterator[Finding]:
    for target in dataset.spec.target_names:
        counts = [
            each.counts[target]
            for each in checked
            if each.scene.split == _TRAIN and target in each.counts
        ]
        if not counts:
            continue
        total = np.sum(counts, axis=0)
        for entry, count in zip(dataset.spec.class_table(target).classes, total, strict=False):
            if count == 0:
                yield Finding(
                    "warning",
                    None,
                    f"class {entry.name!r} (id {entry.id}) stands in no label of split "
                    f"{_TRAIN!r}, so no model can learn it",
                    "absent-class",
                )


def _statistics_findings(dataset: Dataset, checked: Sequence[_Checked]) -> Iterator[Finding]:
    found = dataset.spec.statistics
    if found is None:
        yield Finding(
            "warning",
            None,
            f"{dataset.path} holds no statistics, which training needs; run "
            f"'wholescene data stats {dataset.path}'",
            "statistics",
        )
        return
    bands = Counter(len(each.band_names) for each in checked if each.band_names is not None)
    if bands and len(found.mean) != bands.most_common(1)[0][0]:
        yield Finding(
            "error",
            None,
            f"{dataset.path} holds statistics of {len(found.mean)} bands, the scenes have "
            f"{bands.most_common(1)[0][0]}; run 'wholescene data stats {dataset.path}'",
            "statistics",
        )


def _is_missing(path: Path) -> bool:
    return is_local(str(path)) and not path.exists()


def _last_row(size: Size) -> Window:
    return Window(row_off=size.height - 1, col_off=0, height=1, width=size.width)


def _largest_shift_px(image: SceneReader, label: LabelReader) -> float:
    a, b, _, d, e, _ = tuple(image.transform)[:6]
    apart = footprint(label).corners - footprint(image).corners
    return float(np.abs(np.linalg.solve([[a, b], [d, e]], apart.T)).max())


def _unknown_ids(path: Path, table: ClassTable) -> dict[int, int]:
    found: Counter[int] = Counter()
    with SceneReader(path) as raw:
        for window in raw.windows(pixels=_VALUES_AT_ONCE):
            pixels = raw.read(window)
            ids = pixels.values[0][pixels.valid].astype(np.int64)
            found.update(table.unknown_ids(ids))
    return dict(found)


def _numbers(transform: object) -> str:
    return str(tuple(transform)[:6])  # type: ignore[arg-type]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} ... {names[-1]}" if len(names) > 8 else shown
