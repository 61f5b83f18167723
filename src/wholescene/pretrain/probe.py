"""Signals of progress: nearest neighbours on labelled windows, and the spread of embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.data.patches import PatchDataset
from wholescene.data.regions import SceneArea
from wholescene.data.sampler import RandomSampler, WindowSize
from wholescene.data.scenes import ScenePool, find_labelled, survey
from wholescene.datasets import Dataset
from wholescene.errors import ConfigError
from wholescene.labels import IGNORE_INDEX
from wholescene.models import ModelSpec
from wholescene.pretrain.settings import ProbeSettings

__all__ = [
    "LabelledWindows",
    "ProbeData",
    "color_histogram",
    "embedding_spread",
    "knn_accuracy",
    "read_probe",
]

TEMPERATURE = 0.07
BINS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledWindows:
    """Windows and the class of most of their pixels.

    Args:
        images: Normalised, (N, C, W, W).
        classes: Class index of each, (N,).
    """

    images: Tensor
    classes: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeData:
    """Neighbours and queries."""

    bank: LabelledWindows
    query: LabelledWindows


def read_probe(
    settings: ProbeSettings, dataset: Dataset, spec: ModelSpec, *, window_px: int
) -> ProbeData:
    """Read the windows of both splits; the same ones in every run.

    Args:
        settings: Splits and number.
        dataset: With the bands of the run.
        spec: Normalisation.
        window_px: Side of a window.

    Raises:
        ConfigError: If a split has too few labelled windows of more than one class.
        DatasetError: If a split is unknown or unlabelled.
    """
    parts = [
        _read_split(split, settings, dataset, spec, window_px)
        for split in (settings.bank_split, settings.query_split)
    ]
    return ProbeData(bank=parts[0], query=parts[1])


def _read_split(
    split: str, settings: ProbeSettings, dataset: Dataset, spec: ModelSpec, window_px: int
) -> LabelledWindows:
    records = find_labelled(dataset, split, settings.target)
    pool = ScenePool(dataset, records, target=settings.target)
    areas: tuple[SceneArea, ...] = survey(pool, num_bands=spec.num_bands)
    sampler = RandomSampler(areas, WindowSize(window_px), seed=0)
    patches = PatchDataset(pool, areas, sampler, patch_px=window_px, mean=spec.mean, std=spec.std)
    images, classes = [], []
    for number in range(settings.windows):
        sample = patches[number]
        labels = sample["label"][sample["label"] != IGNORE_INDEX]
        if len(labels):
            images.append(sample["image"])
            classes.append(labels.bincount().argmax())
    pool.close()
    if len(set(map(int, classes))) < 2:
        raise ConfigError(
            f"probe: all {len(classes)} labelled windows of split {split!r} have one class in most "
            "of their pixels, so neighbours tell nothing; lower data.window_px, name other splits, "
            "or leave out the probe section"
        )
    return LabelledWindows(images=torch.stack(images), classes=torch.stack(classes))


def knn_accuracy(
    describe: Callable[[Tensor], Tensor], data: ProbeData, *, neighbours: int
) -> float:
    """Share of queries whose class most of their nearest neighbours have.

    Args:
        describe: Windows (N, C, W, W) to rows (N, D), compared by cosine after the mean of the
            bank is taken off.
        data: Neighbours and queries.
        neighbours: Number that vote, by ``exp(cosine / 0.07)``.

    Source:
        Wu et al. 2018, arXiv:1805.01978.
    """
    bank, query = describe(data.bank.images).float(), describe(data.query.images).float()
    middle = bank.mean(0)
    cosines = F.normalize(query - middle, dim=1) @ F.normalize(bank - middle, dim=1).T
    nearest = cosines.topk(min(neighbours, bank.shape[0]), dim=1)
    truth = data.query.classes.to(cosines.device)
    votes = data.bank.classes.to(cosines.device)[nearest.indices]
    table = torch.zeros(len(query), int(votes.max()) + 1, device=cosines.device)
    table.scatter_add_(1, votes, (nearest.values / TEMPERATURE).exp())
    return float((table.argmax(1) == truth).float().mean())


def embedding_spread(rows: Tensor) -> float:
    """Standard deviation of embeddings of length 1, mean over features, times ``sqrt(D)``.

    About 1 where they point everywhere, 0 where all are the same.

    Args:
        rows: (N, D).
    """
    directions = F.normalize(rows.float(), dim=1)
    return float(directions.std(0).mean()) * math.sqrt(rows.shape[1])


def color_histogram(images: Tensor) -> Tensor:
    """Histogram of each band, as rows to compare a network's features with, (N, C * 16).

    Args:
        images: Normalised, (N, C, W, W); counted in steps from -3 to 3.
    """
    places = ((images + 3) / 6 * BINS).floor().clamp(0, BINS - 1).to(torch.int64).flatten(2)
    counts = torch.zeros(*places.shape[:2], BINS, device=images.device)
    counts.scatter_add_(2, places, torch.ones_like(places, dtype=counts.dtype))
    return (counts / places.shape[2]).sqrt().flatten(1)
