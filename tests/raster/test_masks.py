"""Masks against a pixel-by-pixel reading of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wholescene.errors import LabelError
from wholescene.labels import ClassTable
from wholescene.raster import mask_coding, masks
from wholescene.raster.mask_coding import MaskCoding, find_runs
from wholescene.raster.masks import convert_mask

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

CLASSES = ClassTable.from_names(["road", "roof", "tree"], ignore_id=9)
COLORS = {(255, 255, 255): 0, (0, 0, 255): 1, (0, 255, 0): 2, (0, 0, 0): 9}
CODING = MaskCoding(CLASSES, COLORS, ids={7: 0, 8: 2, 300: 1})


def saved(path: Path, pixels: np.ndarray) -> Path:
    """Write pixels, (bands, h, w), as a plain TIFF."""
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape) as out:
        out.write(pixels)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


@given(
    hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.integers(0, 2)
    ),
    st.integers(1, 20),
)
def test_runs_tell_every_pixel(pixels: np.ndarray, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_coding, "_PIECE_PIXELS", piece)
        values, lengths = find_runs(pixels)
    np.testing.assert_array_equal(values.repeat(lengths, axis=1), pixels.reshape(len(pixels), -1))
    assert (values[:, 1:] != values[:, :-1]).any(axis=0).all()


@pytest.mark.parametrize("side", [1, 37, 601])
@pytest.mark.parametrize("speckled", [True, False])
@pytest.mark.parametrize("at_once", [1, 40_000, 1 << 22])
def test_colors_become_ids(
    tmp_path: Path, side: int, speckled: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "STRIP_PIXELS", at_once)
    generator = np.random.default_rng(side)
    shape = (side, 700) if speckled else (-(-side // 7), 100)
    picked = generator.integers(0, 4, shape)
    if not speckled:
        picked = picked.repeat(7, 0).repeat(7, 1)[:side]
    colors = np.array([*COLORS], np.uint8)[picked].transpose(2, 0, 1)

    counts = convert_mask(saved(tmp_path / "mask.tif", colors), tmp_path / "ids.tif", CODING)

    np.testing.assert_array_equal(read(tmp_path / "ids.tif"), np.array([0, 1, 2, 9])[picked])
    assert counts.tolist() == [(picked == k).sum() for k in range(4)]


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_values_become_ids(tmp_path: Path, dtype: str) -> None:
    values = np.array([[7, 8, 300], [300, 300, 7]], dtype)
    counts = convert_mask(saved(tmp_path / "mask.tif", values[None]), tmp_path / "ids.tif", CODING)
    assert read(tmp_path / "ids.tif").tolist() == [[0, 2, 1], [1, 1, 0]]
    assert counts.tolist() == [2, 3, 1, 0]


def test_unknown_colors_are_counted_over_the_whole_file(tmp_path: Path) -> None:
    colors = np.zeros((3, 5000, 600), np.uint8)
    colors[0, ::1000] = 17
    colors[1, 4999, 3:5] = 18
    with pytest.raises(LabelError) as caught:
        convert_mask(saved(tmp_path / "mask.tif", colors), tmp_path / "ids.tif", CODING)
    assert "mask.tif: colour (17, 0, 0) (3000 px), (0, 18, 0) (2 px) is in no" in str(caught.value)
    assert not (tmp_path / "ids.tif").exists()


def test_a_photograph_is_no_mask(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 300, 300), np.uint8)
    with pytest.raises(LabelError, match=r" and \d{5} more is in no class; known are"):
        convert_mask(saved(tmp_path / "mask.tif", noise), tmp_path / "ids.tif", CODING)


@pytest.mark.parametrize("value", [-1, 70_000, 4])
def test_unknown_values_are_refused(tmp_path: Path, value: int) -> None:
    values = np.array([[[7, value, value]]], np.int32)
    with pytest.raises(LabelError, match=rf"value {value} \(2 px\) stands for no class; known are"):
        convert_mask(saved(tmp_path / "mask.tif", values), tmp_path / "ids.tif", CODING)


@pytest.mark.parametrize("value", [7.5, np.nan])
def test_fractions_are_no_ids(tmp_path: Path, value: float) -> None:
    values = np.array([[[7, value]]], np.float32)
    with pytest.raises(LabelError, match="hold fractions"):
        convert_mask(saved(tmp_path / "mask.tif", values), tmp_path / "ids.tif", CODING)


def test_colors_have_eight_bits(tmp_path: Path) -> None:
    mask = saved(tmp_path / "mask.tif", np.zeros((3, 2, 2), np.uint16))
    with pytest.raises(LabelError, match=r"mask.tif: colours of type uint16.*save it as uint8"):
        convert_mask(mask, tmp_path / "ids.tif", CODING)
