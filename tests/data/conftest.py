from collections.abc import Sequence
from pathlib import Path

import pytest
from toy_scenes import (
    CLASS_IDS,
    IGNORE_ID,
    MakeDataset,
    Scene,
    coordinate_image,
    coordinate_label,
    write_raster,
)

from wholescene.datasets import (
    ClassEntry,
    Dataset,
    DatasetSpec,
    SceneRecord,
    load_dataset,
    write_dataset,
)


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """Write scenes given as ``{split: [(image, label or None), ...]}``."""

    def make(
        *, nodata: float | None = None, name: str = "toy", **splits: Sequence[Scene]
    ) -> Dataset:
        folder = tmp_path / name
        folder.mkdir()
        records = []
        for split, scenes in splits.items():
            for number, (image, label) in enumerate(scenes):
                stem = folder / f"{split}{number}"
                files = {"image": (write_raster(stem.with_suffix(".tif"), image, nodata=nodata),)}
                labels = {}
                if label is not None:
                    labels["label"] = write_raster(folder / f"{stem.name}_label.tif", label[None])
                records.append(SceneRecord(id=stem.name, split=split, files=files, labels=labels))
        spec = DatasetSpec(
            name=name,
            classes=tuple(ClassEntry(id=i, name=f"class {i}") for i in CLASS_IDS),
            ignore_id=IGNORE_ID,
        )
        return load_dataset(write_dataset(spec, records, folder))

    return make


@pytest.fixture
def coordinates(make_dataset: MakeDataset) -> Dataset:
    """Two training scenes and one for validation, all of coordinates."""

    def scene(height: int, width: int) -> Scene:
        return coordinate_image(height, width), coordinate_label(height, width)

    return make_dataset(train=[scene(200, 150), scene(96, 130)], val=[scene(100, 70)])
