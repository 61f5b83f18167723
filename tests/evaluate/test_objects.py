"""Objects by size against scipy's connected components and counting by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from wholescene.errors import InputError
from wholescene.evaluate import objects
from wholescene.evaluate.objects import ObjectTable, object_table, score_sizes, size_terciles
from wholescene.geometry import Size
from wholescene.labels import ClassTable

CLASSES = ClassTable.from_names(["land", "car"], ignore_id=255)


def write(path: Path, ids: np.ndarray) -> Path:
    height, width = ids.shape
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 9, 0, -1, 9)}
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=height, width=width, dtype="uint8", **place
    ) as file:
        file.write(ids.astype(np.uint8), 1)
    return path


def by_scipy(mask: np.ndarray, marks: np.ndarray) -> list[tuple[int, int]]:
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    return sorted(
        (int((labels == i).sum()), int((marks & (labels == i)).sum())) for i in range(1, count + 1)
    )


@given(
    arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_objects_are_connected_components(mask: np.ndarray, strip: int, seed: int) -> None:
    marks = np.random.default_rng(seed).random(mask.shape) < 0.5
    runs = objects._Runs(Size(*mask.shape))
    for top in range(0, mask.shape[0], strip):
        runs.add(top, mask[top : top + strip], marks[top : top + strip])
    sizes, hits = runs.objects()
    assert sorted(zip(sizes.tolist(), hits.tolist(), strict=True)) == by_scipy(mask, marks)


def test_a_long_winding_object_is_one() -> None:
    mask = np.zeros((61, 40), bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    runs = objects._Runs(Size(*mask.shape))
    runs.add(0, mask, mask)
    assert runs.objects()[0].tolist() == [mask.sum()]


def test_ignored_pixels_are_in_no_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "STRIP_PIXELS", 16)
    truth, found = np.zeros((8, 8)), np.zeros((8, 8))
    truth[1:3, 1:3] = 1  # 4 px, 3 found
    truth[5, 2:7] = 1  # 5 px, 1 found
    truth[7] = 255
    found[1, 1:3] = found[2, 1] = found[5, 6] = 1
    found[7] = 1  # only ignored pixels
    found[3, 6:8] = 1  # 2 px, false
    paths = write(tmp_path / "label.tif", truth), write(tmp_path / "map.tif", found)
    table = object_table(*paths, CLASSES, "car")
    assert sorted(zip(table.sizes.tolist(), table.hits.tolist(), strict=True)) == [(4, 3), (5, 1)]
    mapped = sorted(zip(table.mapped_sizes.tolist(), table.false.tolist(), strict=True))
    assert mapped == [(1, 0), (2, 2), (3, 0)]
    small, large = score_sizes(table, [4])
    assert (small.objects, small.found, small.recall) == (1, 1.0, 0.75)
    assert small.iou == 3 / (4 + 2)
    assert (large.objects, large.found, large.recall, large.iou) == (1, 0.0, 0.2, 0.2)


def test_groups_without_objects_have_no_score() -> None:
    none = np.zeros(0, np.int64)
    (only,) = score_sizes(ObjectTable(none, none, none, none), [])
    assert (only.objects, only.found, only.recall, only.iou) == (0, None, None, None)


def test_terciles_hold_a_third_each() -> None:
    sizes = np.random.default_rng(0).permutation(np.arange(1, 31))
    assert size_terciles(sizes) == (10, 20)
    with pytest.raises(InputError, match="2 objects are too few"):
        size_terciles(sizes[:2])


def test_what_cannot_be_scored(tmp_path: Path) -> None:
    one = write(tmp_path / "one.tif", np.zeros((4, 4)))
    two = write(tmp_path / "two.tif", np.zeros((4, 5)))
    with pytest.raises(InputError, match="no class 'bus'; the classes are land, car"):
        object_table(one, one, CLASSES, "bus")
    with pytest.raises(InputError, match=r"4 x 4 px, its map .* 4 x 5 px"):
        object_table(one, two, CLASSES, "car")
    table = object_table(one, one, CLASSES, "car")
    with pytest.raises(InputError, match="do not rise"):
        score_sizes(table, [9, 9])


def test_tables_add_up() -> None:
    one = ObjectTable(*(np.array([i]) for i in range(1, 5)))
    assert (one + one).sizes.tolist() == [1, 1]
