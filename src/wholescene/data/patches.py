"""Patches read on the fly from whole scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import default_collate

from wholescene.data.augment import Augment
from wholescene.data.regions import Patch, SceneArea, ignore_outside
from wholescene.data.sampler import PatchSampler
from wholescene.data.scenes import ScenePool
from wholescene.geometry import Size
from wholescene.labels import IGNORE_INDEX
from wholescene.models.normalise import normalise

__all__ = ["Batch", "PatchBatches", "PatchDataset", "Sample"]

MAX_TRIES = 32
"""Windows tried for one sample before one without any labelled pixel is accepted."""


class Sample(TypedDict):
    """One patch.

    Keys:
        image: Normalised, invalid pixels 0, float32 (C, P, P).
        label: Class indices, ``IGNORE_INDEX`` where unlabelled or invalid, int64 (P, P).
        valid: Whether the image has data, bool (P, P).
        scene: Place of the scene in its split, -1 for padding, int64 ().
    """

    image: Tensor
    label: Tensor
    valid: Tensor
    scene: Tensor


class Batch(Sample):
    """Samples stacked along a first axis."""


class PatchDataset(TorchDataset[Sample]):
    """Sample ``i`` of a run, for any ``i``.

    A sample is the window a sampler chooses, read at the size of a patch: image by the resampling
    of its source, labels by nearest. What lies beyond the scene is 0 and ignored. A window without
    a pixel that is both valid and labelled is drawn again.

    Args:
        pool: Scenes to read.
        areas: Size and usable parts of each.
        sampler: Chooses the windows.
        patch_px: Side of a patch; ``None`` takes windows as they are.
        mean: Mean of each band over the dataset.
        std: Standard deviation of each band over the dataset.
        max_tries: Windows tried before an empty one is accepted.
    """

    def __init__(
        self,
        pool: ScenePool,
        areas: Sequence[SceneArea],
        sampler: PatchSampler,
        *,
        patch_px: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        max_tries: int = MAX_TRIES,
    ) -> None:
        self.pool, self.areas, self.sampler = pool, tuple(areas), sampler
        self.size = None if patch_px is None else Size(patch_px, patch_px)
        self.mean, self.std, self.max_tries = tuple(mean), tuple(std), max_tries

    def __getitem__(self, index: int) -> Sample:
        """Read sample ``index``."""
        for attempt in range(self.max_tries):
            patch = self.sampler.draw(index, attempt)
            is_last = attempt == self.max_tries - 1
            sample = self._read(patch, accept_empty=is_last)
            if sample is not None:
                return sample
        raise AssertionError("the last try accepts any window")

    def _read(self, patch: Patch, *, accept_empty: bool) -> Sample | None:
        """Read a patch; ``None`` if it has nothing to learn from."""
        image, labels = self.pool.get(patch.scene)
        out_size = None if patch.window.size == self.size else self.size
        label = labels.read(patch.window, out_size=out_size)
        label = ignore_outside(label, patch.window, self.areas[patch.scene])
        # Labels are cheaper to read than images, so they are asked first.
        if not accept_empty and (label == IGNORE_INDEX).all():
            return None
        pixels = image.read(patch.window, out_size=out_size)
        label = label.astype(np.int64)
        if not pixels.valid.all():
            label[~pixels.valid] = IGNORE_INDEX
            if not accept_empty and (label == IGNORE_INDEX).all():
                return None
        return Sample(
            image=normalise(pixels.values, pixels.valid, self.mean, self.std),
            label=torch.from_numpy(label),
            valid=torch.from_numpy(pixels.valid),
            scene=torch.tensor(patch.scene),
        )


class PatchBatches(TorchDataset[Batch]):
    """Batches by the numbers of their samples, read and augmented where they are asked for.

    Args:
        patches: Samples.
        augment: Changes a sample; ``None`` leaves it.
        length: Number of samples; higher numbers give padding that scores nowhere. ``None`` for
            an endless run.
    """

    def __init__(
        self, patches: PatchDataset, *, augment: Augment | None = None, length: int | None = None
    ) -> None:
        self.patches, self.augment, self.length = patches, augment, length

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        """Read the samples with these numbers."""
        # In a worker this collects straight into the memory shared with the training process.
        batch: Batch = default_collate([self._sample(index) for index in indices])
        return batch

    def _sample(self, index: int) -> Sample:
        if self.length is None or index < self.length:
            return self._augmented(self.patches[index], index)
        assert self.patches.size is not None
        side = tuple(self.patches.size)
        return Sample(
            image=torch.zeros(len(self.patches.mean), *side),
            label=torch.full(side, IGNORE_INDEX),
            valid=torch.zeros(side, dtype=torch.bool),
            scene=torch.tensor(-1),
        )

    def _augmented(self, sample: Sample, index: int) -> Sample:
        if self.augment is None:
            return sample
        image, label, valid = self.augment(
            sample["image"], sample["label"], sample["valid"], index=index
        )
        return Sample(image=image, label=label, valid=valid, scene=sample["scene"])
