import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wholescene.data.balanced import BalancedSampler
from wholescene.data.class_grid import ClassGrid
from wholescene.data.keyed import Purpose, keyed_generator
from wholescene.data.regions import SceneArea, ignore_outside, place
from wholescene.data.sampler import (
    FixedPatches,
    GridSampler,
    RandomSampler,
    WholeScenes,
    WindowSize,
    draw_weighted,
)
from wholescene.errors import DatasetError
from wholescene.geometry import Size, Window
from wholescene.labels import IGNORE_INDEX

SIDES = st.integers(1, 60)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(1, 80), st.integers(0, 5))
def test_a_placed_window_lies_in_its_target_or_around_it(
    height: int, width: int, row: int, col: int, side: int, seed: int
) -> None:
    scene = Size(height, width)
    target = Window.from_slices(
        slice(min(row, height) - 1, height), slice(min(col, width) - 1, width)
    )
    generator = np.random.default_rng(seed)
    found = place(target, Size(side, side), scene=scene, generator=generator)

    def check(start: int, stop: int, first: int, last: int, length: int) -> None:
        inner, outer = sorted([(start, stop), (first, last)], key=lambda part: part[1] - part[0])
        assert outer[0] <= inner[0]
        assert inner[1] <= outer[1]
        if side <= length:
            assert first >= 0
            assert last <= length

    check(target.row_off, target.row_stop, found.row_off, found.row_stop, height)
    check(target.col_off, target.col_stop, found.col_off, found.col_stop, width)


def test_every_place_is_as_likely_as_another() -> None:
    generator = np.random.default_rng(0)
    whole = Window.whole(Size(7, 7))
    found = [place(whole, Size(4, 4), scene=Size(7, 7), generator=generator) for _ in range(4000)]
    counts = np.zeros((4, 4))
    np.add.at(counts, ([w.row_off for w in found], [w.col_off for w in found]), 1)
    assert counts.min() > 180  # 250 expected, standard deviation 15
    assert counts.max() < 320


def test_weights_are_drawn_exactly() -> None:
    generator = np.random.default_rng(0)
    drawn = [draw_weighted(np.cumsum([2, 0, 1]), generator) for _ in range(6000)]
    np.testing.assert_allclose(np.bincount(drawn) / 6000, [2 / 3, 0, 1 / 3], atol=0.02)


def test_scenes_come_as_often_as_their_area() -> None:
    sampler = RandomSampler(
        [SceneArea(Size(100, 100)), SceneArea(Size(100, 300))], WindowSize(16), seed=3
    )
    share = np.mean([sampler.draw(i).scene for i in range(2000)])
    assert share == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("kind", [RandomSampler, GridSampler])
def test_a_sample_depends_on_seed_and_number_alone(kind: type) -> None:
    areas = [SceneArea(Size(100, 80)), SceneArea(Size(50, 90))]
    size = WindowSize(16, (0.5, 2.0))
    forward = [kind(areas, size, seed=5).draw(i) for i in range(40)]
    sampler = kind(areas, size, seed=5)
    assert [sampler.draw(i) for i in reversed(range(40))] == forward[::-1]
    assert [kind(areas, size, seed=6).draw(i) for i in range(40)] != forward
    assert sampler.draw(3, attempt=1) != sampler.draw(3)


def test_every_place_of_the_grid_comes_once_in_each_round_in_another_order() -> None:
    sampler = GridSampler(
        [SceneArea(Size(100, 64)), SceneArea(Size(20, 20))], WindowSize(32), seed=0
    )
    # 4 rows (the last shifted back to row 68) by 2 columns, and a patch larger than its scene.
    expected = {(0, row, col) for row in (0, 32, 64, 68) for col in (0, 32)} | {(1, 0, 0)}
    assert sampler.patches_per_cover == 9
    drawn = [sampler.draw(i) for i in range(18)]
    rounds = [[(p.scene, p.window.row_off, p.window.col_off) for p in drawn[:9]]]
    rounds += [[(p.scene, p.window.row_off, p.window.col_off) for p in drawn[9:]]]
    assert set(rounds[0]) == set(rounds[1]) == expected
    assert rounds[0] != rounds[1]


def test_windows_side_by_side_hold_each_pixel_once() -> None:
    areas = [SceneArea(Size(70, 33)), SceneArea(Size(10, 32))]
    sampler = FixedPatches(areas, 32)
    hits = [np.zeros(area.size, int) for area in areas]
    for i in range(sampler.patches_per_cover):
        patch = sampler.draw(i)
        hits[patch.scene][patch.window.rows, patch.window.cols] += 1
    assert all((part == 1).all() for part in hits)


def test_scales_are_even_in_their_logarithm_and_within_bounds() -> None:
    size = WindowSize(100, (0.5, 2.0))
    generator = keyed_generator(0, 0, purpose=Purpose.WINDOW)
    sides = np.array([size.draw(generator).height for _ in range(3000)])
    assert sides.min() >= 50
    assert sides.max() <= 200
    assert np.mean(sides < 100) == pytest.approx(0.5, abs=0.04)


def test_zooms_come_alike() -> None:
    size = WindowSize(512, zooms=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0))
    generator = keyed_generator(0, 0, purpose=Purpose.WINDOW)
    sides = [size.draw(generator).height for _ in range(7000)]
    found, counts = np.unique(sides, return_counts=True)
    assert found.tolist() == [256, 293, 341, 410, 512, 683, 1024]
    np.testing.assert_allclose(counts / 7000, 1 / 7, atol=0.02)
    assert size.smallest_px == 256


def test_samples_stay_in_the_usable_parts_or_around_them() -> None:
    parts = (
        Window(row_off=10, col_off=20, height=40, width=40),
        Window(row_off=80, col_off=0, height=8, width=8),
    )
    sampler = RandomSampler([SceneArea(Size(100, 100), parts)], WindowSize(16), seed=1)
    for i in range(200):
        window = sampler.draw(i).window
        inside = window.intersect(parts[0]) == window
        around = window.intersect(parts[1]) == parts[1]
        assert inside or around


def test_labels_outside_the_usable_parts_are_ignored_at_any_scale() -> None:
    label = np.arange(100, dtype=np.int16).reshape(10, 10)
    area = SceneArea(Size(10, 10), (Window(row_off=2, col_off=4, height=4, width=4),))
    kept = ignore_outside(label, Window.whole(Size(10, 10)), area)
    expected = np.full_like(label, IGNORE_INDEX)
    expected[2:6, 4:8] = label[2:6, 4:8]
    np.testing.assert_array_equal(kept, expected)
    # At half the resolution the pixels with middles 1, 3, 5, 7, 9 are seen.
    halved = ignore_outside(label[1::2, 1::2], Window.whole(Size(10, 10)), area)
    np.testing.assert_array_equal(halved, expected[1::2, 1::2])
    untouched = SceneArea(Size(10, 10))
    assert ignore_outside(label, Window.whole(Size(10, 10)), untouched) is label


def _grid(counts: np.ndarray, cell_px: int) -> ClassGrid:
    rows, cols, _ = counts.shape
    return ClassGrid(Size(rows * cell_px, cols * cell_px), cell_px, counts.astype(np.uint16))


def test_balanced_windows_hold_the_class_they_were_drawn_for() -> None:
    counts = np.zeros((4, 5, 3))
    counts[..., 0] = 64
    counts[3, 4, 1] = 1  # one pixel in one cell; class 2 does not occur
    grids = [_grid(np.zeros((2, 2, 3)), 8), _grid(counts, 8)]
    areas = [SceneArea(grid.size) for grid in grids]
    sampler = BalancedSampler(areas, grids, WindowSize(16, (0.6, 1.5)), seed=0)
    rare_cell = Window(row_off=24, col_off=32, height=8, width=8)
    drawn = [sampler.draw(i) for i in range(400)]
    assert {patch.scene for patch in drawn} == {1}
    holds_rare = [patch.window.intersect(rare_cell) == rare_cell for patch in drawn]
    assert np.mean(holds_rare) > 0.45
    assert sampler.draw(7) == drawn[7]


@pytest.mark.parametrize(("power", "share"), [(0.0, 1 / 2), (0.5, 1 / 11), (1.0, 1 / 101)])
def test_the_power_sets_how_often_a_class_is_drawn(power: float, share: float) -> None:
    counts = np.zeros((1, 40, 2))
    counts[0, 0, 0], counts[0, 39, 1] = 100, 1
    grid = _grid(counts, 16)
    sampler = BalancedSampler([SceneArea(grid.size)], [grid], WindowSize(32), seed=0, power=power)
    rare = [sampler.draw(i).window.col_off > 300 for i in range(3000)]
    assert np.mean(rare) == pytest.approx(share, abs=0.03)


def test_nothing_labelled_cannot_be_balanced() -> None:
    grid = _grid(np.zeros((2, 2, 2)), 8)
    with pytest.raises(DatasetError, match="no pixel of the training labels is of any class"):
        BalancedSampler([SceneArea(grid.size)], [grid], WindowSize(16), seed=0)


def test_whole_scenes_come_once_per_round_in_another_order() -> None:
    part = Window(row_off=2, col_off=0, height=3, width=4)
    areas = [SceneArea(Size(9, 5)), SceneArea(Size(8, 4), (part,)), SceneArea(Size(3, 3))]
    sampler = WholeScenes(areas, seed=1)
    rounds = [[sampler.draw(3 * k + i) for i in range(3)] for k in range(8)]
    for drawn in rounds:
        assert sorted(patch.scene for patch in drawn) == [0, 1, 2]
        assert {patch.scene: patch.window for patch in drawn}[0] == Window.whole(Size(9, 5))
        assert {patch.scene: patch.window for patch in drawn}[1] == part
    assert len({tuple(patch.scene for patch in drawn) for drawn in rounds}) > 1
    assert sampler.patches_per_cover == 3
    assert sampler.draw(4, attempt=1) == sampler.draw(5)
