"""Labels come as contiguous class indices, and nothing unknown slips through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toy_rasters import MakeRaster, ramp

from wholescene.errors import InputError, LabelError, RasterError
from wholescene.geometry import Size, Window
from wholescene.labels import ClassTable, LabelClass
from wholescene.raster import LabelReader

GREY = (9, 9, 9)
SALINAS = ClassTable(
    (LabelClass(id=1, name="weeds", color=GREY), LabelClass(id=10, name="corn", color=GREY)),
    ignore_id=0,
)


def read(make_raster: MakeRaster, pixels: Any, classes: ClassTable, **settings: Any) -> np.ndarray:
    path = make_raster(np.array(pixels), "label.tif", **settings)
    with LabelReader(path, classes) as reader:
        return reader.read(Window.whole(reader.size))


def test_ids_become_indices(make_raster: MakeRaster) -> None:
    found = read(make_raster, np.array([[1, 10, 0]], np.uint16), SALINAS)
    np.testing.assert_array_equal(found, [[0, 1, -1]])
    assert found.dtype == np.int16


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_any_dtype_of_whole_numbers(make_raster: MakeRaster, dtype: str) -> None:
    found = read(make_raster, np.array([[1, 10, 0]], dtype), SALINAS)
    np.testing.assert_array_equal(found, [[0, 1, -1]])


def test_fractions_are_no_ids(make_raster: MakeRaster) -> None:
    with pytest.raises(LabelError, match=r"label 1\.5 is no whole number"):
        read(make_raster, np.array([[1, 1.5]], np.float32), SALINAS)


def test_unknown_id_names_file_id_and_count(make_raster: MakeRaster) -> None:
    with pytest.raises(LabelError, match=r"label\.tif: id 7 \(2 px\) in no class"):
        read(make_raster, np.array([[1, 7, 7]], np.uint8), SALINAS)
    with pytest.raises(LabelError, match=r"id -1 \(1 px\)"):
        read(make_raster, np.array([[1, -1]], np.int16), SALINAS)


def test_nodata_is_ignored_unless_it_is_a_class(make_raster: MakeRaster) -> None:
    pixels = np.array([[1, 10, 255]], np.uint8)
    np.testing.assert_array_equal(read(make_raster, pixels, SALINAS, nodata=255), [[0, 1, -1]])
    pixels = np.array([[1, 10, 10]], np.uint8)
    np.testing.assert_array_equal(read(make_raster, pixels, SALINAS, nodata=10), [[0, 1, 1]])


def test_nan_is_ignored(make_raster: MakeRaster) -> None:
    found = read(make_raster, np.array([[1, np.nan]], np.float32), SALINAS, nodata=np.nan)
    np.testing.assert_array_equal(found, [[0, -1]])


def test_masked_labels_are_ignored_whatever_lies_below(make_raster: MakeRaster) -> None:
    pixels, mask = np.array([[1, 99]], np.uint8), np.array([[True, False]])
    np.testing.assert_array_equal(read(make_raster, pixels, SALINAS, mask=mask), [[0, -1]])


def test_outside_the_raster_is_ignored(make_raster: MakeRaster) -> None:
    with LabelReader(make_raster(np.full((2, 2), 10, np.uint8)), SALINAS) as reader:
        found = reader.read(Window(row_off=1, col_off=-1, height=2, width=3))
    np.testing.assert_array_equal(found, [[-1, 1, 1], [-1, -1, -1]])


def test_resizing_never_invents_a_class(make_raster: MakeRaster) -> None:
    classes = ClassTable.from_names([str(i) for i in range(25)])
    pixels = ramp(4, 6, start=0)
    with LabelReader(make_raster(pixels), classes) as reader:
        window = Window.whole(reader.size)
        half = reader.read(window, out_size=Size(2, 3))
        double = reader.read(window, out_size=Size(8, 12))
        odd = reader.read(window, out_size=Size(3, 5))
        with pytest.raises(InputError, match="cannot resize"):
            reader.read(window, out_size=Size(1, 0))
    np.testing.assert_array_equal(half, pixels[1::2, 1::2])
    np.testing.assert_array_equal(double, pixels.repeat(2, 0).repeat(2, 1))
    # Centres of three rows over four: 0.67, 2, 3.33; of five columns over six: 0.6, 1.8, 3, ...
    np.testing.assert_array_equal(odd, pixels[np.ix_([0, 2, 3], [0, 1, 3, 4, 5])])


def test_colours_are_not_ids(make_raster: MakeRaster) -> None:
    path = make_raster(ramp(3, 4, 4))
    with pytest.raises(RasterError, match="one band of class ids, this one has 3 bands"):
        LabelReader(path, SALINAS)


def test_a_palette_is_a_label_raster(make_raster: MakeRaster) -> None:
    palette = {1: (255, 0, 0, 255), 10: (0, 255, 0, 255)}
    found = read(make_raster, np.array([[1, 10]], np.uint8), SALINAS, palette=palette)
    np.testing.assert_array_equal(found, [[0, 1]])


def test_grid_of_the_file(make_raster: MakeRaster) -> None:
    with LabelReader(make_raster(ramp(3, 4)), SALINAS) as reader:
        assert reader.size == Size(3, 4)
        assert reader.crs.to_epsg() == 32630
        assert (reader.transform.a, reader.transform.f) == (10, 4_600_000)
