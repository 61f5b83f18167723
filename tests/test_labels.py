import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholescene.errors import LabelError
from wholescene.labels import IGNORE_INDEX, ClassTable, LabelClass

SALINAS = ClassTable(
    tuple(LabelClass(id=i, name=f"c{i}", color=(i, 0, 0)) for i in (1, 10, 11, 12, 13, 14)),
    ignore_id=0,
)


def test_ids_need_not_be_contiguous() -> None:
    ids = np.array([[0, 1], [10, 14]], np.uint8)
    indices = SALINAS.to_index(ids)
    np.testing.assert_array_equal(indices, [[IGNORE_INDEX, 0], [1, 5]])
    np.testing.assert_array_equal(SALINAS.to_ids(indices), ids)


@given(st.sets(st.integers(0, 65_535), min_size=2, max_size=20), st.randoms())
def test_ids_survive_the_way_through_indices(ids: set[int], random) -> None:
    ordered = list(ids)
    random.shuffle(ordered)
    table = ClassTable(
        tuple(LabelClass(id=i, name=str(i), color=(0, 0, 0)) for i in ordered[1:]),
        ignore_id=ordered[0],
    )
    raster = np.array(ordered)
    np.testing.assert_array_equal(table.to_ids(table.to_index(raster)), raster)


@pytest.mark.parametrize("ids", [[2], [255], [-1], [70_000]])
def test_unknown_ids_are_named_with_file_and_count(ids: list[int]) -> None:
    with pytest.raises(LabelError, match=rf"a\.tif: id {ids[0]} \(3 px\) in no class"):
        SALINAS.to_index(np.array(ids * 3 + [1]), where="a.tif")


def test_nodata_id_is_the_ignore_id_else_the_first_free_one() -> None:
    assert SALINAS.nodata_id == 0
    assert ClassTable.from_names(["a", "b"]).nodata_id == 255
    full = ClassTable(
        tuple(LabelClass(id=i, name=str(i), color=(0, 0, 0)) for i in (*range(1, 256),))
    )
    assert full.nodata_id == 0
    assert full.map_dtype == "uint8"


def test_maps_turn_uint16_when_an_id_needs_it() -> None:
    table = ClassTable((LabelClass(id=300, name="a", color=(0, 0, 0)),))
    assert table.map_dtype == "uint16"
    assert table.to_ids(np.array([0, IGNORE_INDEX])).tolist() == [300, 255]


@pytest.mark.parametrize(
    ("classes", "ignore", "message"),
    [
        ([(1, "a"), (1, "b")], None, "class id 1 stands more than once"),
        ([(1, "a"), (2, "a")], None, "class name a stands more than once"),
        ([(1, "a")], 1, "ignore_id 1 is also the id of class 'a'"),
        ([(70_000, "a")], None, "outside 0..65535"),
        ([(1, "")], None, "empty name"),
        ([], None, "at least one class"),
    ],
)
def test_inconsistent_tables_are_refused(classes, ignore, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        ClassTable(tuple(LabelClass(id=i, name=n, color=(0, 0, 0)) for i, n in classes), ignore)


def test_generated_colors_differ() -> None:
    colors = ClassTable.from_names([str(i) for i in range(60)]).colors
    assert len(set(colors)) == 60
