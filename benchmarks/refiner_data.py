"""What the refiner is tried on: scenes, the small objects in them, and their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from wholescene.datasets import Dataset, load_dataset, store_statistics, synthesize
from wholescene.evaluate import iou, miou, recall, score_map, total_table
from wholescene.evaluate.objects import object_table, score_sizes, size_terciles

CONFIGS = Path(__file__).parent.parent / "configs"
SEED = 7
SIDE_PX = 1024
SPLITS = {"train": 4, "val": 1, "scored": 2}
METRICS = ("miou", "class_iou", "class_recall", "small_iou", "small_recall", "small_found")
"""Of the scored scenes: mean IoU; IoU and recall of the refined class; and of its small objects
IoU, recall in pixels, and the share of which at least half was found."""


@dataclass(frozen=True)
class Study:
    """A data set and what is small in it.

    Args:
        name: Short name.
        dataset: Scenes.
        split: Split that is scored.
        small: Refined class.
        edges: Largest sizes of the groups of objects; the first group counts as small.
    """

    name: str
    dataset: Dataset
    split: str
    small: str
    edges: tuple[int, ...]

    @property
    def config(self) -> Path:
        """Recipe of the refined network."""
        return CONFIGS / f"refiner-{self.name}.yaml"

    def score(self, maps: Mapping[str, Path]) -> dict[str, Any]:
        """Scores of maps by the id of their scene."""
        target, classes = self.dataset.mask_target(), self.dataset.classes
        scenes = self.dataset.split(self.split)
        pairs = [(scene.labels[target], maps[scene.id]) for scene in scenes]
        total = total_table([score_map(*pair, classes) for pair in pairs])
        objects = reduce(add, (object_table(*pair, classes, self.small) for pair in pairs))
        groups = score_sizes(objects, self.edges)
        index = classes.names.index(self.small)
        return {
            "miou": miou(total),
            "class_iou": float(iou(total)[index]),
            "class_recall": float(recall(total)[index]),
            "small_iou": groups[0].iou,
            "small_recall": groups[0].recall,
            "small_found": groups[0].found,
            "groups": [asdict(group) for group in groups],
        }


def vehicles(folder: Path) -> Study:
    """Synthetic scenes with vehicles of two by four pixels, made once."""
    path = folder / "dataset.yaml"
    if not path.is_file():
        synthesize(
            folder,
            scenes=sum(SPLITS.values()),
            height=SIDE_PX,
            width=SIDE_PX,
            seed=SEED,
            splits=SPLITS,
        )
    if load_dataset(path).spec.statistics is None:
        store_statistics(load_dataset(path))
    return Study("vehicles", load_dataset(path), "scored", "vehicle", ())


def kampala(folder: Path) -> Study:
    """Kampala buildings; small are those of the smallest third of the scored scenes."""
    dataset, split = load_dataset(folder), "test+test2"
    labels = [scene.labels[dataset.mask_target()] for scene in dataset.split(split)]
    tables = [object_table(label, label, dataset.classes, "building") for label in labels]
    return Study("kampala", dataset, split, "building", size_terciles(reduce(add, tables).sizes))
