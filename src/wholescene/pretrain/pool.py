"""Windows of a pool of scenes, labelled or not, read on the fly."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypedDict

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from wholescene.data.keyed import Purpose, keyed_generator
from wholescene.data.loader import open_loader
from wholescene.data.regions import Patch, SceneArea, place
from wholescene.data.sampler import PatchSampler, RandomSampler, WindowSize
from wholescene.data.stream import SampleStream
from wholescene.datasets import Dataset, SceneRecord
from wholescene.errors import DatasetError
from wholescene.geometry import Size, Window
from wholescene.models import normalise
from wholescene.pretrain.packed import PackedRecords
from wholescene.pretrain.settings import PoolSettings
from wholescene.raster.read import SceneReader

__all__ = ["PoolBatch", "PoolDataModule", "PoolWindows"]

MAX_OPEN_SCENES = 128
MAX_TRIES = 32
"""Windows drawn for one sample before one with little data is accepted."""

PROBE_START = 2**62
"""Number of the first window that is kept for probing; no run gets so far."""


class PoolBatch(TypedDict):
    """Windows of a batch.

    Keys:
        image: Normalised, invalid pixels 0, float32 (B, C, W, W).
    """

    image: Tensor


class PoolImages:
    """Readers of the scenes of a pool, opened when first asked for.

    Args:
        dataset: Dataset the scenes are of.
        records: Scenes, in a fixed order.
        num_bands: Bands each must have.
    """

    def __init__(self, dataset: Dataset, records: Sequence[SceneRecord], num_bands: int) -> None:
        # Workers get this object: its records are shared, and the table stays behind.
        self.dataset, self.num_bands = replace(dataset, scenes=()), num_bands
        self.records = PackedRecords(records)
        self._open: OrderedDict[int, SceneReader] = OrderedDict()

    def get(self, scene: int) -> SceneReader:
        """Reader of a scene.

        Raises:
            DatasetError: If it has other bands than the statistics.
        """
        if scene in self._open:
            self._open.move_to_end(scene)
            return self._open[scene]
        while len(self._open) >= MAX_OPEN_SCENES:
            self._open.popitem(last=False)[1].close()
        reader = self.dataset.reader(self.records[scene])
        if reader.num_bands != self.num_bands:
            reader.close()
            raise DatasetError(
                f"scene {self.records[scene].id!r} has {reader.num_bands} bands, but mean and std "
                f"are of {self.num_bands}; check 'sources' in {self.dataset.path} and data.bands, "
                "then run 'wholescene data stats'"
            )
        self._open[scene] = reader
        return reader

    def areas(self) -> tuple[SceneArea, ...]:
        """Open every scene once and take its size."""
        sizes = tuple(SceneArea(self.get(i).size) for i in range(len(self.records)))
        self.close()
        return sizes

    def close(self) -> None:
        """Close every reader; ``get`` opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        # Workers open their own.
        return {**self.__dict__, "_open": OrderedDict()}


class SceneSampler:
    """Every scene equally often, then a place in it; a scene is opened when it is drawn.

    Args:
        images: The scenes.
        size: Side of the windows.
        seed: Seed of the run.
    """

    def __init__(self, images: PoolImages, size: WindowSize, *, seed: int) -> None:
        self._images, self._size, self._seed = images, size, seed

    @property
    def patches_per_cover(self) -> int:
        """One of each scene."""
        return len(self._images.records)

    def draw(self, index: int, attempt: int = 0) -> Patch:
        """Choose a scene, then a place."""
        generator = keyed_generator(self._seed, index, purpose=Purpose.WINDOW, attempt=attempt)
        scene = int(generator.integers(len(self._images.records)))
        size = self._images.get(scene).size
        window = self._size.draw(generator)
        return Patch(scene, place(Window.whole(size), window, scene=size, generator=generator))


class PoolWindows(TorchDataset[PoolBatch]):
    """Batches of windows by the numbers of their samples.

    Args:
        images: Scenes to read.
        sampler: Chooses the windows.
        settings: Side of a window, and how much of it must have data.
        mean: Mean of each band.
        std: Standard deviation of each band.
    """

    def __init__(
        self,
        images: PoolImages,
        sampler: PatchSampler,
        settings: PoolSettings,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.images, self.sampler = images, sampler
        self.size = Size(settings.window_px, settings.window_px)
        self.least_valid, self.mean, self.std = settings.least_valid, tuple(mean), tuple(std)

    def __getitem__(self, indices: Sequence[int]) -> PoolBatch:
        """Read the windows with these numbers."""
        batch: PoolBatch = default_collate([{"image": self.read(index)} for index in indices])
        return batch

    def read(self, index: int) -> Tensor:
        """Read window ``index``, normalised (C, W, W)."""
        for attempt in range(MAX_TRIES):
            patch = self.sampler.draw(index, attempt)
            out_size = None if patch.window.size == self.size else self.size
            pixels = self.images.get(patch.scene).read(patch.window, out_size=out_size)
            if pixels.valid.mean() >= self.least_valid or attempt == MAX_TRIES - 1:
                return normalise(pixels.values, pixels.valid, self.mean, self.std)
        raise AssertionError("the last try accepts any window")


class PoolDataModule(LightningDataModule):
    """Windows of a pool for pre-training.

    Batch ``b`` of a run is the same whatever the number of workers and wherever the run was
    resumed; over the processes of a run every sample number stands once.

    Args:
        settings: The ``data`` section.
        dataset: The dataset it names, its bands chosen.
        mean: Mean of each band.
        std: Standard deviation of each band.
        seed: Seed of the run.

    Raises:
        DatasetError: If the split is unknown, or with ``draw: area`` a scene has other bands.
        RasterError: If with ``draw: area`` a scene cannot be opened.
    """

    def __init__(
        self,
        settings: PoolSettings,
        dataset: Dataset,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.settings, self._start = settings, 0
        self.scenes = dataset.split(settings.split)
        images = PoolImages(dataset, self.scenes, len(mean))
        size = WindowSize(settings.window_px, settings.scale_jitter)
        sampler: PatchSampler = (
            RandomSampler(images.areas(), size, seed=seed)
            if settings.draw == "area"
            else SceneSampler(images, size, seed=seed)
        )
        self.windows = PoolWindows(images, sampler, settings, mean=mean, std=std)

    def set_start(self, step: int) -> None:
        """Continue a run: the next loader gives batch ``step`` of each process first."""
        self._start = step

    def windows_per_epoch(self) -> int:
        """Windows of one epoch over all processes."""
        return self.settings.windows_per_epoch or self.windows.sampler.patches_per_cover

    def batches_per_epoch(self) -> int:
        """Batches of one epoch in each process."""
        per_pass = self.settings.batch_size * self._world
        return max(1, -(-self.windows_per_epoch() // per_pass))

    def train_dataloader(self) -> DataLoader[PoolBatch]:
        """Endless stream of windows, an epoch at a time."""
        settings = self.settings
        stream = SampleStream(
            self.batches_per_epoch(),
            settings.batch_size,
            rank=self.trainer.global_rank if self.trainer is not None else 0,
            world=self._world,
            start=self._start,
        )
        return open_loader(
            self.windows,
            stream,
            num_workers=settings.num_workers,
            cache_mb=settings.cache_mb,
            num_local=self.trainer.num_devices if self.trainer is not None else 1,
            keep_workers=True,
        )

    def probe_windows(self, count: int) -> Tensor:
        """The same windows in every run of this seed, (count, C, W, W); training draws others."""
        images = [self.windows.read(PROBE_START + number) for number in range(count)]
        self.windows.images.close()
        return torch.stack(images)

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1
