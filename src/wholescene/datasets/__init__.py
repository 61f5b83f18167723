"""Datasets: descriptions, scene tables, splits, checks, statistics and label subsets."""

from wholescene.datasets.contract import (
    ClassEntry,
    Dataset,
    DatasetSpec,
    Statistics,
    TargetSpec,
    load_dataset,
    write_dataset,
)
from wholescene.datasets.finding import Finding
from wholescene.datasets.fraction import (
    FractionTable,
    draw_fraction,
    draw_fractions,
    read_fraction,
    write_fraction,
)
from wholescene.datasets.statistics import (
    compute_statistics,
    dataset_overview,
    store_statistics,
)
from wholescene.datasets.synthetic import synthesize
from wholescene.datasets.table import SceneRecord
from wholescene.datasets.verify import verify

__all__ = [
    "ClassEntry",
    "Dataset",
    "DatasetSpec",
    "Finding",
    "FractionTable",
    "SceneRecord",
    "Statistics",
    "TargetSpec",
    "compute_statistics",
    "dataset_overview",
    "draw_fraction",
    "draw_fractions",
    "load_dataset",
    "read_fraction",
    "store_statistics",
    "synthesize",
    "verify",
    "write_dataset",
    "write_fraction",
]
