"""What preparation does for one scene: its label rasters, and what its pixels add to statistics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wholescene.datasets.contract import Statistics
from wholescene.datasets.table import SceneRecord
from wholescene.raster.aside import written_aside
from wholescene.raster.mask_coding import MaskCoding
from wholescene.raster.masks import convert_mask
from wholescene.raster.read import SceneReader
from wholescene.raster.source import SourceSpec
from wholescene.raster.statistics import Moments, scene_moments

__all__ = ["SceneResult", "SceneWork", "merge_results"]

SAMPLED_PIXELS = 1 << 21
"""Pixels of a scene that count for the statistics, about; windows of them are spread over it."""

_WINDOWS = 16
_VALUES_AT_ONCE = 1 << 23


@dataclass(frozen=True)
class SceneResult:
    """What one scene adds.

    Args:
        bands: Names of its bands.
        moments: Moments of its valid pixels; ``None`` if they were not read.
        counts: Pixels of each class and of ignored ones, by target.
    """

    bands: tuple[str, ...]
    moments: Moments | None
    counts: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class SceneWork:
    """The work for one scene.

    Args:
        record: The scene as it will be listed.
        masks: Mask of each target as it came.
        coding: What values of masks stand for; ``None`` without masks.
        sources: What is expected of the images.
        journal: File that says what was done.
        with_moments: Whether its pixels count for the statistics.
        whole: Whether the image is opened even if no pixel is needed.
    """

    record: SceneRecord
    masks: Mapping[str, Path]
    coding: MaskCoding | None
    sources: tuple[SourceSpec, ...]
    journal: Path
    with_moments: bool
    whole: bool

    def run(self) -> SceneResult:
        """Do what was not done before.

        Raises:
            LabelError: If a mask does not fit its image or holds what is in no class.
            RasterError: If a file cannot be read.
            OutputError: If a file cannot be written.
        """
        if not (self.whole or self.with_moments):
            return SceneResult((), None, {})
        key = self._key()
        found = self._recorded(key)
        if found is not None:
            return found
        with SceneReader(self.record.files, self.sources) as image:
            counts = self._convert(image)
            moments = None
            if self.with_moments:
                at_once = min(SAMPLED_PIXELS // _WINDOWS, _VALUES_AT_ONCE // image.num_bands)
                block = max(1, isqrt(at_once))
                moments = scene_moments(image, block=block, max_pixels=SAMPLED_PIXELS)
            result = SceneResult(image.band_names, moments, counts)
        self._record(key, result)
        return result

    def _convert(self, image: SceneReader) -> dict[str, NDArray[np.int64]]:
        if self.coding is None:
            return {}
        return {
            target: convert_mask(self.masks[target], out, self.coding, place=image.grid)
            for target, out in self.record.labels.items()
        }

    def _key(self) -> str:
        """Hash of everything the result depends on."""
        files = [path for paths in self.record.files.values() for path in paths]
        stats = [
            [str(path), (status := path.stat()).st_size, status.st_mtime_ns]
            for path in (*files, *self.masks.values())
        ]
        coding = self.coding and [
            repr(self.coding.classes),
            [*self.coding.colors.items()],
            [*(self.coding.ids or {}).items()],
            self.coding.tolerance,
        ]
        sources = [source.model_dump(mode="json") for source in self.sources]
        text = json.dumps([stats, coding, sources, self.with_moments], default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _recorded(self, key: str) -> SceneResult | None:
        try:
            data: dict[str, Any] = json.loads(self.journal.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        is_there = all(path.is_file() for path in self.record.labels.values())
        if data.get("key") != key or not is_there:
            return None
        moments = data["moments"]
        return SceneResult(
            tuple(data["bands"]),
            None if moments is None else Moments.restored(moments),
            {name: np.array(values, np.int64) for name, values in data["counts"].items()},
        )

    def _record(self, key: str, result: SceneResult) -> None:
        data = {
            "key": key,
            "bands": result.bands,
            "moments": None if result.moments is None else result.moments.state(),
            "counts": {name: values.tolist() for name, values in result.counts.items()},
        }
        with written_aside(self.journal) as part:
            part.write_text(json.dumps(data), encoding="utf-8")


def merge_results(results: Sequence[SceneResult], split: str) -> Statistics | None:
    """Statistics of the scenes of a split; nothing if their bands differ or none was read."""
    read = [result for result in results if result.moments is not None]
    if not read or any(len(r.bands) != len(read[0].bands) for r in read):
        return None
    total = Moments(len(read[0].bands))
    for result in read:
        assert result.moments is not None
        total.merge(result.moments)
    found = total.result()
    if not found.count:
        return None
    counted = [next(iter(r.counts.values())) for r in read if r.counts]
    counts = np.sum(counted, axis=0) if counted else None
    return Statistics(
        mean=tuple(map(float, found.mean)),
        std=tuple(map(float, found.std)),
        class_counts=None if counts is None else tuple(map(int, counts[:-1])),
        ignored_pixels=None if counts is None else int(counts[-1]),
        bands=read[0].bands,
        split=split,
    )
