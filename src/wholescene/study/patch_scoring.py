"""Scoring by patches, as many publications do: each patch is mapped by itself.

A pixel counts as often as patches cover it, each time with another context. Maps of whole scenes
count each pixel once (:mod:`wholescene.study.evaluation`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wholescene.datasets import Dataset, SceneRecord
from wholescene.errors import DatasetError, InputError
from wholescene.evaluate import ConfusionTable, SceneScore, erode_labels
from wholescene.evaluate.protocol import PatchRule
from wholescene.geometry import Window
from wholescene.models import Segmenter
from wholescene.prediction import Options, Views
from wholescene.prediction.ahead import Ahead
from wholescene.prediction.engine import Forward, borrowed, check_finite, find_device
from wholescene.prediction.options import DEFAULT_BATCH
from wholescene.prediction.plan import open_scene
from wholescene.progress import Progress
from wholescene.raster import LabelReader, SceneReader

__all__ = ["score_patches"]

_SETTINGS = ("batch", "device", "precision", "tta")

Labels = NDArray[np.int16]


def score_patches(
    dataset: Dataset,
    scenes: Sequence[SceneRecord],
    model: Segmenter,
    rule: PatchRule,
    *,
    target: str | None = None,
    erode_px: int = 0,
    progress: Progress | None = None,
    **settings: Any,
) -> list[SceneScore]:
    """Map and count every patch of some scenes.

    Beyond a scene that is smaller than a patch, the image is 0 after normalisation and the labels
    are ignored.

    Args:
        dataset: The dataset of the scenes.
        scenes: Labelled scenes.
        model: The network.
        rule: How patches are cut.
        target: Kind of label; ``None`` for the dataset's first.
        erode_px: Radius around class boundaries that does not score.
        progress: Called with scenes done and in all.
        settings: Of :class:`~wholescene.prediction.Options` batch, device, precision and tta;
            others only as long as they say nothing.

    Returns:
        The counts of each scene.

    Raises:
        DatasetError: If a label has another size than its image.
        InputError: If a setting is out of range or means nothing to a patch.
        ModelFileError: If the model does not fit the scenes.
        RasterError: If a file cannot be read.
        UnsupportedError: If the network gives NaN.
    """
    options = _options(rule, settings)
    device = find_device(options.device)
    scores = []
    with borrowed(model, device):
        forward = Forward(model, device, options.precision, Views.parse(options.tta))
        for done, scene in enumerate(scenes, 1):
            with (
                open_scene(scene.files, model.spec, options) as image,
                dataset.label_reader(scene, target) as labels,
            ):
                _check_sizes(scene, image, labels)
                patches = _Patches(image, labels, rule, erode_px, options.batch or DEFAULT_BATCH)
                table = _count(patches, forward)
            scores.append(SceneScore(scene=scene.id, table=table, erode_px=erode_px))
            if progress is not None:
                progress(done, len(scenes))
    return scores


def _options(rule: PatchRule, settings: Mapping[str, Any]) -> Options:
    for name, value in settings.items():
        says_nothing = value is None or value is False or (name, value) == ("engine", "auto")
        if name not in _SETTINGS and not says_nothing:
            raise InputError(
                f"--{name.replace('_', '-')} does not apply where patches of {rule.size} px are "
                "scored, each mapped by itself; leave it out, or use a protocol that scores whole "
                "scenes"
            )
    kept = {name: value for name, value in settings.items() if name in _SETTINGS}
    return Options(engine="windowed", block=rule.size, overlap=0, **kept)


@dataclass(frozen=True)
class _Patches:
    """The patches of one scene."""

    image: SceneReader
    labels: LabelReader
    rule: PatchRule
    erode_px: int
    batch: int

    def batches(self, forward: Forward) -> Iterator[tuple[list[Window], Tensor, Labels]]:
        """Windows, what the network sees of them, and their labels."""
        windows = list(self.rule.windows(self.image.size))
        for first in range(0, len(windows), self.batch):
            part = windows[first : first + self.batch]
            images = forward.prepare([self.image.read(window) for window in part])
            yield part, images, np.stack([self._truth(window) for window in part])

    def _truth(self, window: Window) -> Labels:
        near = self.labels.read(window.grow(self.erode_px))
        inner = slice(self.erode_px, -self.erode_px or None)
        return erode_labels(near, self.erode_px)[inner, inner]


def _count(patches: _Patches, forward: Forward) -> ConfusionTable:
    table = ConfusionTable(patches.labels.classes)
    with Ahead(patches.batches(forward), waiting=1) as batches:
        for windows, images, truth in batches:
            probabilities = forward(images)
            for window, found in zip(windows, probabilities, strict=True):
                check_finite(found, window)
            table.add(truth, probabilities.max(1).indices.numpy())
    return table


def _check_sizes(scene: SceneRecord, image: SceneReader, labels: LabelReader) -> None:
    if image.size != labels.size:
        raise DatasetError(
            f"scene {scene.id!r}: the image has {image.size}, its labels {labels.path} have "
            f"{labels.size}; prepare the labels again on the grid of the image"
        )
