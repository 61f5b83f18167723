"""Loaders of training and validation patches for Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from wholescene.data.augment import Augment
from wholescene.data.balanced import BalancedSampler
from wholescene.data.class_grid import CACHE_FOLDER, ClassGridCache, cell_px_for
from wholescene.data.loader import open_loader
from wholescene.data.patches import Batch, PatchBatches, PatchDataset
from wholescene.data.regions import SceneArea
from wholescene.data.sampler import (
    FixedPatches,
    GridSampler,
    PatchSampler,
    RandomSampler,
    WholeScenes,
    WindowSize,
)
from wholescene.data.scenes import ScenePool, find_labelled, limit, restrict, survey
from wholescene.data.settings import DataSettings
from wholescene.data.stream import SampleStream, ShardedBatches
from wholescene.datasets import Dataset, SceneRecord

__all__ = ["SceneDataModule"]


class SceneDataModule(LightningDataModule):
    """Patches of a dataset for training and validation.

    Everything that can be wrong with the data is found when the object is made, before any work.
    Batch ``b`` of a run is the same whatever the number of workers and wherever the run was
    resumed; over the processes of a run every sample number stands once.

    Args:
        settings: The ``data`` section of a run configuration.
        dataset: The dataset ``settings.dataset`` names.
        mean: Mean of each band over the training split.
        std: Standard deviation of each band over the training split.
        seed: Seed of the run.
        rows: Processes that take the same training batches.

    Raises:
        DatasetError: If a split is unknown or unlabelled, an image does not fit its labels or the
            statistics, or a fraction table belongs to other data.
        RasterError: If a file cannot be opened.
    """

    def __init__(
        self,
        settings: DataSettings,
        dataset: Dataset,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        rows: int = 1,
    ) -> None:
        super().__init__()
        self.rows = rows
        self.settings, self.dataset, self.seed = settings, dataset, seed
        self.mean, self.std = tuple(mean), tuple(std)
        self._start = 0
        self._augment = Augment.from_settings(settings, mean=mean, std=std, seed=seed)
        self._train, self.train_areas = self._open_train()
        self._val, self.val_areas = self._open_val()

    @property
    def train_scenes(self) -> tuple[SceneRecord, ...]:
        """Scenes that train."""
        return tuple(self._train.records)

    @property
    def val_scenes(self) -> tuple[SceneRecord, ...]:
        """Scenes that validate, in the order batches number them."""
        return tuple(self._val.records) if self._val is not None else ()

    def set_start(self, step: int) -> None:
        """Continue a run: the next training loader gives batch ``step`` of each process first.

        Args:
            step: Batches each process has taken since the run began; with accumulated gradients
                these are several to an optimiser step.
        """
        self._start = step

    def batches_per_epoch(self) -> int:
        """Training batches of one epoch in each process."""
        patches = self.settings.patches_per_epoch or self._num_patches()
        return max(1, -(-patches // (self.settings.batch_size * self._batches_at_once)))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Endless stream of augmented patches, an epoch at a time."""
        settings = self.settings
        side = None if settings.sampling == "scenes" else settings.patch_px
        patches = self._patches(self._train, self.train_areas, self._sampler(), side)
        stream = SampleStream(
            self.batches_per_epoch(),
            settings.batch_size,
            rank=self._rank // self.rows,
            world=self._batches_at_once,
            start=self._start,
        )
        return self._loader(PatchBatches(patches, augment=self._augment), stream, keep_workers=True)

    def val_dataloader(self) -> DataLoader[Batch] | DataLoader[dict[str, Tensor]] | list[Any]:
        """Validation data as ``val_mode`` says; an empty list without a validation split.

        ``patches``: batches whose windows hold each pixel of the scenes once. ``scenes``:
        ``{"scene": place in val_scenes}``, one scene at a time. In both, every process has as many
        batches; those without data have ``scene`` -1 and no label.
        """
        if self._val is None:
            return []
        if self.settings.val_mode == "scenes":
            count = len(self.val_scenes)
            order = ShardedBatches(-(-count // self._world), 1, rank=self._rank, world=self._world)
            return DataLoader(_SceneNumbers(count), batch_size=None, sampler=order)
        sampler = FixedPatches(self.val_areas, self.settings.patch_px)
        side = self.settings.patch_px
        patches = self._patches(self._val, self.val_areas, sampler, side, max_tries=1)
        per_pass = self.settings.batch_size * self._world
        count = sampler.patches_per_cover
        order = ShardedBatches(
            -(-count // per_pass), self.settings.batch_size, rank=self._rank, world=self._world
        )
        return self._loader(PatchBatches(patches, length=count), order)

    @property
    def _batches_at_once(self) -> int:
        """Training batches that are under way at the same time."""
        return max(1, self._world // self.rows)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    def _open_train(self) -> tuple[ScenePool, tuple[SceneArea, ...]]:
        settings, dataset, file = self.settings, self.dataset, self.settings.fraction
        records = find_labelled(dataset, settings.train_split, settings.target)
        if file is None:
            pool = self._pool(records)
            return pool, survey(pool, num_bands=len(self.mean))
        records, windows = restrict(records, file=file, dataset=dataset, split=settings.train_split)
        pool = self._pool(records)
        areas = survey(pool, num_bands=len(self.mean))
        return pool, limit(areas, records, windows, file=file)

    def _open_val(self) -> tuple[ScenePool | None, tuple[SceneArea, ...]]:
        settings = self.settings
        if settings.val_split is None:
            return None, ()
        records = find_labelled(self.dataset, settings.val_split, settings.target)
        pool = self._pool(records)
        return pool, survey(pool, num_bands=len(self.mean))

    def _pool(self, records: Sequence[SceneRecord]) -> ScenePool:
        settings = self.settings
        return ScenePool(self.dataset, records, target=settings.target, bands=settings.bands)

    @property
    def _window_size(self) -> WindowSize:
        settings = self.settings
        return WindowSize(settings.patch_px, settings.scale_jitter, settings.zooms)

    def _num_patches(self) -> int:
        if self.settings.sampling in ("grid", "scenes"):
            return self._sampler().patches_per_cover
        return self._window_size.patches_in(self.train_areas)

    def _sampler(self) -> PatchSampler:
        size, areas, seed = self._window_size, self.train_areas, self.seed
        match self.settings.sampling:
            case "scenes":
                return WholeScenes(areas, seed=seed)
            case "random":
                return RandomSampler(areas, size, seed=seed)
            case "grid":
                return GridSampler(areas, size, seed=seed)
            case "balanced":
                grids = self._class_grids(cell_px_for(size.smallest_px))
                power = self.settings.balance_power
                return BalancedSampler(areas, grids, size, seed=seed, power=power)

    def _class_grids(self, cell_px: int) -> list[Any]:
        classes = self.dataset.spec.class_table(self.dataset.mask_target(self.settings.target))
        cache = ClassGridCache(self.dataset.root / CACHE_FOLDER, classes, cell_px)
        grids = []
        for number, area in enumerate(self.train_areas):
            labels = self._train.get(number)[1]
            grids.append(cache.get(self._train.label_path(number), labels, area))
        self._train.close()
        return grids

    def _patches(
        self,
        pool: ScenePool,
        areas: Sequence[SceneArea],
        sampler: PatchSampler,
        patch_px: int | None,
        **options: Any,
    ) -> PatchDataset:
        return PatchDataset(
            pool, areas, sampler, patch_px=patch_px, mean=self.mean, std=self.std, **options
        )

    def _loader(
        self, batches: PatchBatches, order: ShardedBatches, *, keep_workers: bool = False
    ) -> DataLoader[Batch]:
        settings = self.settings
        return open_loader(
            batches,
            order,
            num_workers=settings.num_workers,
            cache_mb=settings.cache_mb,
            num_local=self.trainer.num_devices if self.trainer is not None else 1,
            keep_workers=keep_workers,
        )


class _SceneNumbers(TorchDataset[dict[str, Tensor]]):
    """Numbers of whole scenes; -1 for padding."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __getitem__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        (index,) = indices
        return {"scene": torch.tensor(index if index < self.count else -1)}
