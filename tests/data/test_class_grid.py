import os
from pathlib import Path

import numpy as np
import pytest
from toy_scenes import CLASS_IDS, MakeDataset

from wholescene.data import class_grid
from wholescene.data.class_grid import ClassGridCache, cell_px_for, count_classes
from wholescene.data.regions import SceneArea
from wholescene.datasets import Dataset
from wholescene.geometry import Size, Window
from wholescene.raster.read import LabelReader


@pytest.fixture
def labelled(make_dataset: MakeDataset) -> Dataset:
    generator = np.random.default_rng(0)
    label = generator.choice(
        np.array([0, *CLASS_IDS], np.uint8), (50, 70), p=[0.1, 0.7, 0.15, 0.05]
    )
    return make_dataset(train=[(np.zeros((1, 50, 70), np.uint8), label)])


def read_all(dataset: Dataset) -> tuple[LabelReader, np.ndarray]:
    reader = dataset.label_reader(dataset.scenes[0])
    return reader, reader.read(Window.whole(reader.size))


@pytest.mark.parametrize("strip_pixels", [1, 2000, 1 << 20])
def test_each_cell_counts_its_own_pixels(
    labelled: Dataset, strip_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_grid, "STRIP_PIXELS", strip_pixels)
    reader, label = read_all(labelled)
    grid = count_classes(reader, SceneArea(reader.size), num_classes=3, cell_px=16)
    assert grid.counts.shape == (4, 5, 3)
    for number in range(20):
        window = grid.cell(number)
        expected = [(label[window.rows, window.cols] == k).sum() for k in range(3)]
        assert grid.counts.reshape(20, 3)[number].tolist() == expected
    assert grid.cell(19) == Window(row_off=48, col_off=64, height=2, width=6)


def test_only_usable_parts_count(labelled: Dataset) -> None:
    reader, label = read_all(labelled)
    part = Window(row_off=3, col_off=20, height=30, width=33)
    grid = count_classes(reader, SceneArea(reader.size, (part,)), num_classes=3, cell_px=16)
    inside = label[part.rows, part.cols]
    assert grid.counts.sum((0, 1)).tolist() == [(inside == k).sum() for k in range(3)]


def test_counts_are_kept_until_the_file_changes(
    labelled: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, _ = read_all(labelled)
    path, area = labelled.scenes[0].labels["label"], SceneArea(reader.size)
    cache = ClassGridCache(tmp_path / "kept", labelled.classes, 16)
    first = cache.get(path, reader, area)
    with monkeypatch.context() as patch:
        patch.setattr(class_grid, "count_classes", lambda *a, **k: pytest.fail("counted again"))
        np.testing.assert_array_equal(cache.get(path, reader, area).counts, first.counts)
    os.utime(path, ns=(1, 1))
    part = SceneArea(reader.size, (Window.whole(Size(4, 4)),))
    assert cache.get(path, reader, area).counts.sum() == first.counts.sum()
    assert cache.get(path, reader, part).counts.sum() <= 16
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_a_damaged_or_unwritable_cache_only_costs_time(labelled: Dataset, tmp_path: Path) -> None:
    reader, _ = read_all(labelled)
    path, area = labelled.scenes[0].labels["label"], SceneArea(reader.size)
    folder = tmp_path / "kept"
    first = ClassGridCache(folder, labelled.classes, 16).get(path, reader, area)
    (file,) = folder.iterdir()
    for content in (b"", b"PK\x03\x04 no zip", file.read_bytes()[:100]):
        file.write_bytes(content)
        again = ClassGridCache(folder, labelled.classes, 16).get(path, reader, area)
        np.testing.assert_array_equal(again.counts, first.counts)
    blocked = tmp_path / "a file"
    blocked.touch()
    again = ClassGridCache(blocked, labelled.classes, 16).get(path, reader, area)
    np.testing.assert_array_equal(again.counts, first.counts)


@pytest.mark.parametrize(("window", "cell"), [(1, 1), (8, 4), (256, 128), (4096, 128)])
def test_a_cell_fits_into_the_smallest_window(window: int, cell: int) -> None:
    assert cell_px_for(window) == cell
