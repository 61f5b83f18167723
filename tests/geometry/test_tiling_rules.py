"""Published numbers of patches, and what every rule must keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholescene.errors import InputError
from wholescene.geometry import Size
from wholescene.geometry.tiling import TileRule, count_tiles, tile_starts

POTSDAM = Size(6000, 6000)
sides = st.integers(1, 60)


def test_edge_to_edge_patches_of_a_potsdam_scene() -> None:
    starts = tile_starts(6000, 512, 256, stride_ignored=True)
    assert starts == [0, 512, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 4608, 5120, 5488]


@pytest.mark.parametrize(
    ("stride_ignored", "of_one", "train", "val"),
    [(True, 144, 3456, 2016), (False, 529, 12696, 7406)],
)
def test_published_totals_of_potsdam(
    stride_ignored: bool, of_one: int, train: int, val: int
) -> None:
    rule = TileRule(512, 256, stride_ignored)
    assert rule.count(POTSDAM) == len(list(rule.windows(POTSDAM))) == of_one
    assert count_tiles([POTSDAM] * 24, rule) == train
    assert count_tiles([POTSDAM] * 14, rule) == val


def test_a_scene_of_vaihingen_has_rows_and_columns_of_its_own() -> None:
    rule = TileRule(512, 256, stride_ignored=True)
    windows = list(rule.windows(Size(height=2557, width=1887)))
    assert len({w.row_off for w in windows}) == 5
    assert len({w.col_off for w in windows}) == 4
    assert rule.count(Size(2557, 1887)) == len(windows) == 20


@pytest.mark.parametrize(
    ("side", "size", "stride", "starts"),
    [
        (2000, 896, 512, [0, 512, 1024, 1104]),
        (1000, 896, 512, [0, 104]),
        (896, 896, 512, [0]),
        (895, 896, 512, [0]),
        (1000, 512, 384, [0, 384, 488]),
        (1024, 512, 512, [0, 512]),
    ],
)
def test_starts_of_known_sides(side: int, size: int, stride: int, starts: list[int]) -> None:
    assert tile_starts(side, size, stride) == starts


@given(sides, sides, sides, st.booleans(), st.data())
def test_windows_cover_every_pixel_and_stay_inside(
    height: int, width: int, size: int, stride_ignored: bool, data: st.DataObject
) -> None:
    rule = TileRule(size, data.draw(st.integers(1, size)), stride_ignored)
    windows = list(rule.windows(Size(height, width)))
    seen = np.zeros((height, width), bool)
    for window in windows:
        assert window.size == (size, size)
        assert window.row_off >= 0 <= window.col_off
        assert window.row_stop <= max(height, size)
        assert window.col_stop <= max(width, size)
        seen[window.rows, window.cols] = True
    assert seen.all()
    assert len(windows) == len(set(windows)) == rule.count(Size(height, width))


@given(st.integers(1, 500), st.integers(1, 80), st.booleans(), st.data())
def test_starts_are_the_multiples_of_the_step_and_the_last_that_fits(
    side: int, size: int, stride_ignored: bool, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, size))
    starts = tile_starts(side, size, stride, stride_ignored=stride_ignored)
    step = size if stride_ignored else stride
    last = max(0, side - size)
    assert starts == sorted({min(i * step, last) for i in range(side)})


@given(sides, sides, st.data())
def test_an_ignored_stride_has_no_effect(side: int, size: int, data: st.DataObject) -> None:
    one, other = (data.draw(st.integers(1, size)) for _ in range(2))
    assert tile_starts(side, size, one, stride_ignored=True) == tile_starts(
        side, size, other, stride_ignored=True
    )


@pytest.mark.parametrize(
    ("size", "stride", "what"),
    [
        (0, 1, "--tiles >= 1"),
        (8, 0, "does not advance; choose --stride 1..8"),
        (8, 9, "stride of 9 px leaves gaps between patches of 8 px; choose --stride 1..8"),
    ],
)
@pytest.mark.parametrize("stride_ignored", [True, False])
def test_rules_out_of_range_are_refused(
    size: int, stride: int, what: str, stride_ignored: bool
) -> None:
    with pytest.raises(InputError, match=what):
        tile_starts(100, size, stride, stride_ignored=stride_ignored)
