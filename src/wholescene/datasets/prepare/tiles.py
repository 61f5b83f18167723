"""Patches of a dataset as files, cut by a published rule; a dataset of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.contract import Dataset, DatasetSpec, write_dataset
from wholescene.datasets.table import SceneRecord
from wholescene.errors import DatasetError, OutputError
from wholescene.geometry import Size, Window
from wholescene.geometry.tiling import TileRule, count_tiles
from wholescene.labels import IGNORE_INDEX
from wholescene.progress import Progress
from wholescene.raster.aside import free_disk_check, written_aside
from wholescene.raster.gdal import is_local
from wholescene.raster.info import open_info
from wholescene.raster.patch_file import PatchFormat, StoredReader, write_label_patch
from wholescene.raster.read import LabelReader
from wholescene.raster.source import SourceSpec

__all__ = ["expected_tiles", "write_tiles"]

_JOURNAL = ".tiles"
_VALUES_AT_ONCE = 1 << 25


def expected_tiles(
    dataset: Dataset, size: int, stride: int, stride_ignored: bool = False
) -> dict[str, int]:
    """Patches of each split, from the sizes of the scenes; reads no pixel.

    Args:
        dataset: Prepared dataset.
        size: Side of a patch, px.
        stride: Declared distance of patches, px.
        stride_ignored: Lay patches edge to edge whatever ``stride`` says.

    Raises:
        InputError: If a number is out of range.
        RasterError: If a scene cannot be opened.
    """
    rule = TileRule(size, stride, stride_ignored)
    return {
        split: count_tiles((_scene_size(dataset, s) for s in dataset.split(split)), rule)
        for split in dataset.splits
    }


def write_tiles(
    dataset: Dataset,
    out: str | Path,
    *,
    size: int,
    stride: int,
    stride_ignored: bool = False,
    splits: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Cut every scene into square patches and describe them as a dataset.

    Images go to ``img_dir/<split>/<scene>_<y0>_<x0>_<y1>_<x1>``, labels of the first target to
    ``ann_dir`` under the same name; further sources and targets to ``img_dir_<source>`` and
    ``ann_dir_<target>``. Images keep their stored numbers: PNG where that holds all there is to
    know (uint8 in one or three bands), GeoTIFF otherwise. Labels are grey PNG of class ids.
    Patches beyond a smaller scene are filled with 0 and the ignore id. Statistics are those of the
    scenes. Interrupted work goes on with the first scene that is not complete.

    Args:
        dataset: Prepared dataset; only targets of kind ``mask`` are cut.
        out: Folder for the patches, another than that of the dataset.
        size: Side of a patch, px.
        stride: Distance of patches, px; the last of a row or column is shifted back to the border.
        stride_ignored: Lay patches edge to edge whatever ``stride`` says.
        splits: Splits to cut; ``None`` for all.
        progress: Called with pixels of patches done and in all.

    Returns:
        Path of the new ``dataset.yaml``.

    Raises:
        InputError: If a number is out of range.
        DatasetError: If a split is unknown, scenes differ in their bands, or pixels have no label
            and the dataset has no ignore id.
        OutputError: If something cannot be written, or ``out`` holds patches of another rule.
    """
    rule, out = TileRule(size, stride, stride_ignored), Path(out)
    wanted = dataset.scenes if splits is None else dataset.split("+".join(splits))
    scenes = [_Scene.of(dataset, record, rule, out) for record in wanted]
    bands = _same_bands(dataset, scenes)
    _claim(dataset, out, rule)
    _work(scenes, out, progress)
    records = [patch for scene in scenes for patch in scene.patches()]
    return write_dataset(_description(dataset, rule, bands), records, out)


@dataclass(frozen=True)
class _Scene:
    """One scene and what its patches will be; no file stays open."""

    dataset: Dataset
    record: SceneRecord
    rule: TileRule
    out: Path
    size: Size
    gsd_m: float | None
    formats: tuple[PatchFormat, ...]
    key: str

    @classmethod
    def of(cls, dataset: Dataset, record: SceneRecord, rule: TileRule, out: Path) -> _Scene:
        """Look at the files of a scene.

        Raises:
            DatasetError: If it is smaller than a patch, and labels cannot tell.
        """
        with StoredReader(record.files, dataset.spec.sources) as reader:
            gsd_m = None if dataset.spec.gsd_m else record.gsd_m or reader.gsd_m
            key = _key(dataset, record, reader.fingerprint(), rule)
            scene = cls(dataset, record, rule, out, reader.size, gsd_m, reader.formats, key)
        if min(scene.size) < rule.size:
            what = f"has {scene.size}, less than a patch of {rule.size} px; the rest of the patch"
            for target in scene.targets:
                scene.need_ignore_id(target, what, "choose smaller patches with --tiles")
        return scene

    @property
    def targets(self) -> tuple[str, ...]:
        """Label rasters it has."""
        return tuple(name for name in _mask_targets(self.dataset) if name in self.record.labels)

    @property
    def pixels(self) -> int:
        """Pixels of all its patches."""
        return self.rule.count(self.size) * self.rule.size**2

    @property
    def largest_file(self) -> int:
        """Upper bound of one of its files, bytes."""
        return max(self._label_bytes, *self._image_bytes)

    @property
    def max_bytes(self) -> int:
        """Upper bound of all its files, bytes."""
        patch = sum(self._image_bytes) + len(self.targets) * self._label_bytes
        return self.rule.count(self.size) * patch

    @property
    def is_done(self) -> bool:
        """Whether an earlier run has made everything."""
        try:
            found = self._journal.read_text(encoding="utf-8")
        except OSError:
            return False
        return found == self.key and all(
            path.is_file() for patch in self.patches() for path in patch.all_files
        )

    def patches(self) -> Iterator[SceneRecord]:
        """A record for each patch, in the order of the windows."""
        for window in self.rule.windows(self.size):
            name = self._name(window)
            yield SceneRecord(
                id=name,
                split=self.record.split,
                files={
                    source: (self._image_path(number, name),)
                    for number, source in enumerate(self.dataset.spec.source_names)
                },
                labels={target: self._label_path(target, name) for target in self.targets},
                group=self.record.id,
                datetime=self.record.datetime,
                gsd_m=self.gsd_m,
            )

    def cut(self, done: Callable[[int], None]) -> None:
        """Write all patches; ``done`` is told the pixels of those just written."""
        labels = {name: self.dataset.label_reader(self.record, name) for name in self.targets}
        try:
            with StoredReader(self.record.files, self.dataset.spec.sources) as image:
                for strip in self._strips(image.num_bands):
                    self._cut_images(image, strip)
                    for target, reader in labels.items():
                        self._cut_labels(reader, target, strip)
                    done(sum(window.size.area for window in strip))
        finally:
            for reader in labels.values():
                reader.close()
        with written_aside(self._journal) as part:
            part.write_text(self.key, encoding="utf-8")

    def need_ignore_id(self, target: str, what: str, other: str) -> None:
        """Refuse pixels without a label where no id says so."""
        if self.dataset.spec.class_table(target).ignore_id is None:
            raise DatasetError(
                f"scene {self.record.id!r} {what} has no label in target {target!r}, and "
                f"{self.dataset.path} has no ignore_id to mark it with; set 'ignore_id' there, or "
                f"{other}"
            )

    def _strips(self, num_bands: int) -> Iterator[list[Window]]:
        """Patches side by side, as many as may be read at once."""
        widest = max(self.rule.size, _VALUES_AT_ONCE // (self.rule.size * num_bands))
        strip: list[Window] = []
        for window in self.rule.windows(self.size):
            is_next_row = strip and strip[0].row_off != window.row_off
            if strip and (is_next_row or window.col_stop - strip[0].col_off > widest):
                yield strip
                strip = []
            strip.append(window)
        yield strip

    def _cut_images(self, image: StoredReader, strip: Sequence[Window]) -> None:
        whole = _around(strip)
        for number, (form, pixels) in enumerate(
            zip(image.formats, image.stored(whole), strict=True)
        ):
            for window in strip:
                part = pixels.part(window.relative_to(whole).cols)
                path = self._image_path(number, self._name(window))
                form.write(path, part, image.place(window))

    def _cut_labels(self, reader: LabelReader, target: str, strip: Sequence[Window]) -> None:
        whole = _around(strip)
        indices = reader.read(whole)
        if (indices == IGNORE_INDEX).any():
            what = f"in rows {whole.row_off} to {whole.row_stop - 1}"
            self.need_ignore_id(target, what, "label every pixel")
        ids = reader.classes.to_ids(indices)
        for window in strip:
            part: NDArray[np.unsignedinteger] = ids[:, window.relative_to(whole).cols]
            write_label_patch(self._label_path(target, self._name(window)), part)

    def _name(self, window: Window) -> str:
        corners = (window.row_off, window.col_off, window.row_stop, window.col_stop)
        return "_".join([self.record.id, *map(str, corners)])

    def _image_path(self, number: int, name: str) -> Path:
        source = "" if number == 0 else f"_{self.dataset.spec.source_names[number]}"
        suffix = self.formats[number].suffix
        return self.out / f"img_dir{source}" / self.record.split / f"{name}{suffix}"

    def _label_path(self, target: str, name: str) -> Path:
        further = "" if target == _mask_targets(self.dataset)[0] else f"_{target}"
        return self.out / f"ann_dir{further}" / self.record.split / f"{name}.png"

    @property
    def _image_bytes(self) -> list[int]:
        return [form.max_bytes(self.rule.size) for form in self.formats]

    @property
    def _label_bytes(self) -> int:
        return 2 * self.rule.size**2 * 17 // 16 + 65_536

    @property
    def _journal(self) -> Path:
        return self.out / _JOURNAL / f"{self.record.id}.txt"


def _around(strip: Sequence[Window]) -> Window:
    first, last = strip[0], strip[-1]
    return Window.from_slices(first.rows, slice(first.col_off, last.col_stop))


def _work(scenes: Sequence[_Scene], out: Path, progress: Progress | None) -> None:
    todo = [scene for scene in scenes if not scene.is_done]
    total = sum(scene.pixels for scene in scenes)
    count = total - sum(scene.pixels for scene in todo)

    def done(pixels: int) -> None:
        nonlocal count
        count += pixels
        if progress is not None:
            progress(count, total)

    if todo:
        needed = sum(scene.max_bytes for scene in todo)
        free_disk_check(out, needed, file_bytes=max(scene.largest_file for scene in todo))
    done(0)
    for scene in todo:
        scene.cut(done)


def _claim(dataset: Dataset, out: Path, rule: TileRule) -> None:
    """Make sure that a folder holds patches of one rule only.

    Raises:
        OutputError: If it holds others, or the dataset itself.
    """
    if out.resolve() == dataset.root.resolve():
        raise OutputError(
            f"{out}: holds the dataset itself; choose another folder for the patches with --out"
        )
    path = out / _JOURNAL / "rule.json"
    text = json.dumps({"dataset": dataset.spec.name, **asdict(rule)})
    if path.is_file() and (found := path.read_text(encoding="utf-8")) != text:
        raise OutputError(
            f"{out}: holds patches of another rule or dataset ({found}, asked for is {text}); "
            "choose another folder with --out, or remove this one"
        )
    with written_aside(path) as part:
        part.write_text(text, encoding="utf-8")


def _key(dataset: Dataset, record: SceneRecord, images: str, rule: TileRule) -> str:
    """Hash of everything that the patches of a scene depend on."""
    labels = {
        name: [str(path), (status := path.stat()).st_size, status.st_mtime_ns]
        for name, path in record.labels.items()
        if name in _mask_targets(dataset) and is_local(str(path))
    }
    spec = dataset.spec.model_dump(
        mode="json", include={"classes", "ignore_id", "sources", "targets"}
    )
    text = json.dumps([images, labels, spec, asdict(rule)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _same_bands(dataset: Dataset, scenes: Sequence[_Scene]) -> Mapping[str, PatchFormat]:
    """The format of each source, whose bands all scenes share.

    Raises:
        DatasetError: If they do not.
    """
    first = scenes[0]
    for scene in scenes:
        for name, one, other in zip(
            dataset.spec.source_names, first.formats, scene.formats, strict=True
        ):
            if len(one.bands) != len(other.bands):
                raise DatasetError(
                    f"source {name!r} has {len(one.bands)} bands in scene {first.record.id!r} and "
                    f"{len(other.bands)} in {scene.record.id!r}; list the bands to use under "
                    f"'sources' in {dataset.path}"
                )
    return dict(zip(dataset.spec.source_names, first.formats, strict=True))


def _description(
    dataset: Dataset, rule: TileRule, formats: Mapping[str, PatchFormat]
) -> DatasetSpec:
    spec = dataset.spec
    text = f"Patches of {rule.size} px every {rule.step} px, cut from {spec.name}."
    update = {
        "name": f"{spec.name}-{rule.size}",
        "sources": tuple(_as_cut(source, formats[source.name]) for source in spec.sources),
        "targets": tuple(target for target in spec.targets if target.kind == "mask"),
        "scenes": "scenes.csv",
        "description": f"{text} {spec.description}" if spec.description else text,
    }
    return spec.model_copy(update=update)


def _as_cut(source: SourceSpec, form: PatchFormat) -> SourceSpec:
    """The same source in files that hold its bands and no others."""
    numbered = enumerate(form.bands, start=1)
    bands = tuple(band.model_copy(update={"index": position}) for position, band in numbered)
    return source.model_copy(update={"bands": bands})


def _mask_targets(dataset: Dataset) -> tuple[str, ...]:
    return tuple(target.name for target in dataset.spec.targets if target.kind == "mask")


def _scene_size(dataset: Dataset, record: SceneRecord) -> Size:
    return open_info(record.files[dataset.spec.source_names[0]][0]).size
