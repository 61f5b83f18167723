from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from wholescene.errors import InputError, LabelError
from wholescene.evaluate.boundary import BoundaryTable, erode_labels
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.score_map import score_map
from wholescene.labels import ClassTable, LabelClass

WriteRaster = Callable[..., Path]


def random_ids(seed: int, *, height: int = 70, width: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height // 5, width // 5))
    return np.kron(coarse, np.ones((5, 5), np.uint8))


def test_scene_is_counted_by_hand(classes: ClassTable, write_raster: WriteRaster) -> None:
    truth = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
    guess = np.array([[0, 1, 1], [255, 2, 0]], np.uint8)
    score = score_map(
        write_raster("label.tif", truth), write_raster("map.tif", guess, nodata=255), classes
    )
    np.testing.assert_array_equal(score.table.table, [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(score.table.unmapped, [0, 1, 0])
    assert score.table.ignored_pixels == 1
    assert score.scene == "map"
    assert score.boundary is None


@pytest.mark.parametrize("block", [1, 16, 33, 1024])
@pytest.mark.parametrize(("erode_px", "boundary_px"), [(0, None), (2, None), (0, 3), (3, 1)])
def test_counts_do_not_depend_on_blocks(
    classes: ClassTable,
    write_raster: WriteRaster,
    block: int,
    erode_px: int,
    boundary_px: int | None,
) -> None:
    if block == 1:
        ids = random_ids(0, height=15, width=10), random_ids(1, height=15, width=10)
    else:
        ids = random_ids(0), random_ids(1)
    truth, guess = (classes.to_index(i) for i in ids)
    expected = ConfusionTable(classes)
    expected.add(erode_labels(truth, erode_px), guess)
    score = score_map(
        write_raster("label.tif", ids[0]),
        write_raster("map.tif", ids[1]),
        classes,
        erode_px=erode_px,
        boundary_px=boundary_px,
        block=block,
    )
    assert score.table == expected
    assert score.erode_px == erode_px
    if boundary_px is not None:
        whole = BoundaryTable(classes, boundary_px)
        whole.add(truth, guess)
        assert score.boundary == whole


def test_every_pixel_is_counted_once_and_progress_reaches_the_end(
    classes: ClassTable, write_raster: WriteRaster
) -> None:
    label, label_map = (write_raster(f"{i}.tif", random_ids(i)) for i in range(2))
    seen: list[tuple[int, int]] = []
    score = score_map(
        label, label_map, classes, block=16, progress=lambda done, total: seen.append((done, total))
    )
    assert score.table.scored_pixels + score.table.ignored_pixels == 70 * 50
    assert seen[-1] == (3500, 3500)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_ids_need_not_be_contiguous(write_raster: WriteRaster) -> None:
    table = ClassTable(
        (
            LabelClass(id=10, name="barley", color=(1, 2, 3)),
            LabelClass(id=3, name="corn", color=(4, 5, 6)),
        ),
        ignore_id=0,
    )
    label = write_raster("label.tif", np.array([[10, 3, 3, 0]], np.uint16))
    label_map = write_raster("map.tif", np.array([[10, 10, 3, 3]], np.uint16), nodata=0)
    score = score_map(label, label_map, table)
    np.testing.assert_array_equal(score.table.table, [[1, 0], [1, 1]])


def test_ignoring_a_class_keeps_its_mapped_pixels_as_errors(
    classes: ClassTable, write_raster: WriteRaster
) -> None:
    label = write_raster("label.tif", np.array([[0, 0, 1, 2, 2, 255]], np.uint8))
    label_map = write_raster("map.tif", np.array([[0, 2, 1, 2, 0, 0]], np.uint8))
    score = score_map(label, label_map, classes, ignore=2)
    assert score.table.classes.names == ("land", "water")
    np.testing.assert_array_equal(score.table.table, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(score.table.unmapped, [1, 0])
    assert score.table.ignored_pixels == 3
    assert score.table == score_map(label, label_map, classes).table.without("road")


def test_another_ignore_id_applies_to_the_label_only(write_raster: WriteRaster) -> None:
    table = ClassTable.from_names(["land", "water"])
    label = write_raster("label.tif", np.array([[0, 1, 9]], np.uint8))
    with pytest.raises(LabelError, match=r"label.tif: id 9 \(1 px\)"):
        score_map(label, write_raster("map.tif", np.array([[0, 1, 1]], np.uint8)), table)
    score = score_map(
        label, write_raster("map.tif", np.array([[0, 1, 1]], np.uint8)), table, ignore=9
    )
    assert score.table.ignored_pixels == 1


def test_ignoring_the_only_class_is_refused(write_raster: WriteRaster) -> None:
    raster = write_raster("label.tif", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="ignore=0 is the only class"):
        score_map(raster, raster, ClassTable.from_names(["land"]), ignore=0)


def test_edge_of_an_ignored_class_is_still_eroded(
    classes: ClassTable, write_raster: WriteRaster
) -> None:
    raster = write_raster("label.tif", np.array([[0, 0, 0, 2, 2]], np.uint8))
    score = score_map(raster, raster, classes, ignore=2, erode_px=1)
    assert score.table.scored_pixels == 2


def test_true_pixels_of_an_ignored_class_leave_the_bands_of_the_map(
    classes: ClassTable, write_raster: WriteRaster
) -> None:
    label = write_raster("label.tif", np.array([[0] * 5 + [2] * 5], np.uint8))
    label_map = write_raster("map.tif", np.zeros((1, 10), np.uint8))
    score = score_map(label, label_map, classes, ignore=2, boundary_px=1)
    assert score.boundary is not None
    assert score.boundary.classes.names == ("land", "water")
    assert (score.boundary.truth[0], score.boundary.guess[0]) == (5, 5)


def test_map_of_another_size_is_refused(classes: ClassTable, write_raster: WriteRaster) -> None:
    label = write_raster("label.tif", np.zeros((4, 6), np.uint8))
    label_map = write_raster("map.tif", np.zeros((6, 4), np.uint8))
    with pytest.raises(InputError, match=r"map has 6 x 4 px, the label 4 x 6 px"):
        score_map(label, label_map, classes)


def test_map_in_another_crs_is_refused(classes: ClassTable, write_raster: WriteRaster) -> None:
    label = write_raster("label.tif", np.zeros((4, 6), np.uint8))
    label_map = write_raster("map.tif", np.zeros((4, 6), np.uint8), crs="EPSG:32637")
    with pytest.raises(InputError, match=r"the map is in EPSG:32637, the label in EPSG:32636"):
        score_map(label, label_map, classes)


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.5, 0, 5e5 + 0.5, 0, -0.5, 4e6),
        Affine(0.6, 0, 5e5, 0, -0.5, 4e6),
        Affine(0.5, 0, 5e5, 0, 0.5, 4e6),
    ],
    ids=["shifted", "other pixel size", "south-up"],
)
def test_map_on_another_grid_is_refused(
    classes: ClassTable, write_raster: WriteRaster, transform: Affine
) -> None:
    label = write_raster("label.tif", np.zeros((4, 6), np.uint8))
    label_map = write_raster("map.tif", np.zeros((4, 6), np.uint8), transform=transform)
    with pytest.raises(InputError, match=r"px apart; the map's transform is \(0\.[56], 0\.0, 5000"):
        score_map(label, label_map, classes)


def test_rounding_in_the_transform_is_no_other_grid(
    classes: ClassTable, write_raster: WriteRaster
) -> None:
    label = write_raster("label.tif", np.zeros((4, 6), np.uint8))
    rounded = Affine(0.5 + 1e-9, 0, 5e5 + 1e-6, 0, -0.5, 4e6)
    label_map = write_raster("map.tif", np.zeros((4, 6), np.uint8), transform=rounded)
    assert score_map(label, label_map, classes).table.scored_pixels == 24


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_plain_labels_pair_with_a_georeferenced_map_by_size(
    classes: ClassTable, write_raster: WriteRaster
) -> None:
    plain = write_raster(
        "label.tif", np.zeros((4, 6), np.uint8), crs=None, transform=Affine.identity()
    )
    label_map = write_raster("map.tif", np.zeros((4, 6), np.uint8))
    assert score_map(plain, label_map, classes).table.scored_pixels == 24


def test_map_id_of_no_class_is_refused(classes: ClassTable, write_raster: WriteRaster) -> None:
    label = write_raster("label.tif", np.zeros((4, 6), np.uint8))
    label_map = write_raster("map.tif", np.full((4, 6), 7, np.uint8))
    with pytest.raises(LabelError, match=r"map.tif: id 7 \(24 px\) in no class"):
        score_map(label, label_map, classes)


def test_block_of_no_pixels_is_refused(classes: ClassTable, write_raster: WriteRaster) -> None:
    raster = write_raster("label.tif", np.zeros((4, 6), np.uint8))
    with pytest.raises(InputError, match="block 0 is not"):
        score_map(raster, raster, classes, block=0)
