"""Synthetic scenes: pure functions of seed and position, with classes only context can tell."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholescene.datasets.contract import load_dataset
from wholescene.datasets.synthetic import IGNORE_ID, SyntheticScene, scene_window, synthesize
from wholescene.datasets.synthetic.ground import Label
from wholescene.datasets.synthetic.landscape import Landscape
from wholescene.datasets.synthetic.noise import pixel_grain, uniform, value_noise
from wholescene.datasets.synthetic.parcels import spanned_places, survey
from wholescene.datasets.synthetic.scene import BLOCK
from wholescene.datasets.synthetic.spectra import band_specs, mixtures
from wholescene.errors import InputError
from wholescene.geometry import Size, Window
from wholescene.raster.read import LabelReader, SceneReader

SIZE = Size(700, 1100)  # more than one block each way, and no multiple of anything


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return SyntheticScene(3, 0, SIZE)


@pytest.fixture(scope="module")
def whole(scene: SyntheticScene) -> tuple[np.ndarray, np.ndarray]:
    return scene.window(Window.whole(SIZE))


def _eroded(mask: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _components(mask: np.ndarray) -> list[np.ndarray]:
    """Pixels of each 4-connected component, by flood fill."""
    todo = {(int(r), int(c)) for r, c in np.argwhere(mask)}
    found = []
    while todo:
        front, part = [todo.pop()], []
        while front:
            r, c = front.pop()
            part.append((r, c))
            for near in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if near in todo:
                    todo.remove(near)
                    front.append(near)
        found.append(np.array(part))
    return found


# --- a pure function of seed and position


def test_the_same_seed_gives_the_same_pixels_and_another_seed_or_scene_others() -> None:
    window = Window(row_off=100, col_off=50, height=40, width=60)
    first = scene_window(0, 0, window, size=SIZE)
    for pixels, again in zip(first, scene_window(0, 0, window, size=SIZE), strict=True):
        np.testing.assert_array_equal(pixels, again)
    for seed, index in ((1, 0), (0, 1)):
        assert (scene_window(seed, index, window, size=SIZE)[0] != first[0]).mean() > 0.9


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_window_holds_the_pixels_of_the_whole_scene(
    data: st.DataObject, scene: SyntheticScene, whole: tuple[np.ndarray, np.ndarray]
) -> None:
    row = data.draw(st.integers(0, SIZE.height - 1))
    col = data.draw(st.integers(0, SIZE.width - 1))
    window = Window(
        row_off=row,
        col_off=col,
        height=data.draw(st.integers(1, min(300, SIZE.height - row))),
        width=data.draw(st.integers(1, min(300, SIZE.width - col))),
    )
    pixels, labels = scene.window(window)
    np.testing.assert_array_equal(pixels, whole[0][:, window.rows, window.cols])
    np.testing.assert_array_equal(labels, whole[1][window.rows, window.cols])


@pytest.mark.parametrize("rows", [1, 37, 256, 500])
def test_strips_of_any_height_make_the_same_scene(
    rows: int, scene: SyntheticScene, whole: tuple[np.ndarray, np.ndarray]
) -> None:
    for start in itertools.chain(range(200, min(200 + 3 * rows, 620), rows), [SIZE.height - rows]):
        strip = Window(row_off=start, col_off=0, height=min(rows, SIZE.height - start), width=1100)
        pixels, labels = scene.window(strip)
        np.testing.assert_array_equal(pixels, whole[0][:, strip.rows])
        np.testing.assert_array_equal(labels, whole[1][strip.rows])


def test_blocks_meet_without_a_seam(monkeypatch: pytest.MonkeyPatch, scene: SyntheticScene) -> None:
    window = Window(row_off=150, col_off=900, height=250, width=200)
    pixels, labels = scene.window(window)
    monkeypatch.setattr("wholescene.datasets.synthetic.scene.BLOCK", Size(160, 328))
    other_pixels, other_labels = scene.window(window)
    assert BLOCK.width == 1024  # the first cut ran through the window, at other places
    # Single pixels may flip: a position is rounded to float32 in other neighbourhoods.
    assert (labels != other_labels).mean() < 1e-3
    assert (pixels != other_pixels).mean() < 1e-3


def test_neighbouring_blocks_agree_on_every_quarter_and_house() -> None:
    land = Landscape(11, Size(2048, 2048))
    x, y = np.meshgrid(np.arange(500.0, 700, 8), np.arange(500.0, 700, 8))
    here = survey(land, *land.grid_position(x, y))
    there = survey(land, *land.grid_position(x + 90, y + 70))
    shift = np.subtract(there.quarters.first, here.quarters.first)
    shape = np.minimum(here.quarters.urban.shape - shift, there.quarters.urban.shape)
    ours = tuple(slice(max(s, 0), max(s, 0) + n) for s, n in zip(shift, shape, strict=True))
    theirs = tuple(slice(max(-s, 0), max(-s, 0) + n) for s, n in zip(shift, shape, strict=True))
    assert here.quarters.urban[ours].size > 4
    np.testing.assert_array_equal(here.quarters.urban[ours], there.quarters.urban[theirs])
    np.testing.assert_array_equal(here.streets.bridge[ours], there.streets.bridge[theirs])
    np.testing.assert_array_equal(here.lots.half[:, *ours], there.lots.half[:, *theirs])


def test_a_window_beyond_the_scene_is_refused(scene: SyntheticScene) -> None:
    with pytest.raises(InputError, match=r"reaches beyond the scene of 700 x 1100 px"):
        scene.window(Window(row_off=690, col_off=0, height=20, width=5))


# --- noise


def test_value_noise_passes_through_its_lattice_and_stays_within_bounds() -> None:
    x, y = np.meshgrid(np.arange(-50.0, 50, 0.5), np.arange(-50.0, 50, 0.5))
    noise = value_noise(7, x, y, 10.0)
    np.testing.assert_allclose(
        value_noise(7, np.array([30.0]), np.array([-20.0]), 10.0), 2 * uniform(7, [3], [-2]) - 1
    )
    assert -1 <= noise.min() < -0.8
    assert 0.8 < noise.max() <= 1
    # Eased steps: at most 1.875 times the whole range within one lattice cell.
    assert np.abs(np.diff(noise, axis=1)).max() <= 1.875 * 2 * 0.05 + 1e-9


def test_pixel_grain_is_uniform_and_uncorrelated() -> None:
    grain = pixel_grain(5, 1000, 2000, (400, 500))
    np.testing.assert_array_equal(pixel_grain(5, 1010, 2020, (3, 4)), grain[10:13, 20:24])
    for byte in range(4):
        counts = np.bincount(((grain >> np.uint32(8 * byte)) & np.uint32(255)).ravel())
        # Chi square with 255 degrees of freedom: standard deviation 22.6.
        assert abs(((counts - counts.mean()) ** 2 / counts.mean()).sum() - 255) < 5 * 22.6
    values = grain / 2.0**32 - 0.5
    for step in ((0, 1), (1, 0), (1, 1)):
        shifted = np.roll(values, step, axis=(0, 1))
        assert abs(np.corrcoef(values.ravel(), shifted.ravel())[0, 1]) < 0.01


def test_grid_coordinates_are_inverted_to_about_a_pixel() -> None:
    land = Landscape(2, Size(40_000, 40_000))
    x, y = np.meshgrid(np.linspace(0, 40_000, 50), np.linspace(0, 40_000, 50))
    back_x, back_y = land.locate(*land.grid_position(x, y))
    error_px = np.hypot(back_x - x, back_y - y)
    assert error_px.max() < 2
    assert np.median(error_px) < 0.01


# --- classes


@pytest.mark.parametrize("side", [512, 1024])
@pytest.mark.parametrize("seed", range(4))
def test_every_class_occurs_with_useful_frequency_and_strong_imbalance(
    seed: int, side: int
) -> None:
    _, labels = SyntheticScene(seed, 1, Size(side, side), bands=1).window(
        Window.whole(Size(side, side))
    )
    counts = np.bincount(labels[labels != IGNORE_ID], minlength=len(Label))
    share = counts / counts.sum()
    assert counts.size == len(Label)
    assert share[[Label.RIVER, Label.LAKE]].min() > 0.02
    assert share[[Label.ROAD, Label.BUILDING]].min() > 0.01
    assert 0.0005 < share[Label.VEHICLE] < 0.005
    assert share.max() / share.min() >= 100
    assert share.max() < 0.6


def test_no_class_takes_more_than_two_fifths_of_a_dataset() -> None:
    counts = np.zeros(len(Label), int)
    for index in range(4):
        _, labels = SyntheticScene(0, index, Size(1024, 1024), bands=1).window(
            Window.whole(Size(1024, 1024))
        )
        counts += np.bincount(labels[labels != IGNORE_ID], minlength=len(Label))
    assert counts.max() / counts.sum() < 0.4


def test_rivers_and_lakes_are_the_same_water() -> None:
    """The means differ by less than water differs from place to place, the spreads are alike."""
    river, lake = [], []
    for index in range(4):
        scene = SyntheticScene(1, index, Size(1024, 1024))
        pixels, labels = scene.window(Window.whole(scene.size))
        scaled = pixels / scene.gain
        for label, into in ((Label.RIVER, river), (Label.LAKE, lake)):
            into.append(scaled[:, _eroded(labels == label, 6)])
    rivers, lakes = np.concatenate(river, axis=1), np.concatenate(lake, axis=1)
    spread = np.sqrt((rivers.var(axis=1) + lakes.var(axis=1)) / 2)
    assert (np.abs(rivers.mean(axis=1) - lakes.mean(axis=1)) < 0.5 * spread).all()
    assert (np.abs(np.log(rivers.std(axis=1) / lakes.std(axis=1))) < np.log(1.6)).all()


def test_rivers_are_long_bands_and_lakes_are_blobs() -> None:
    """Only shape tells them apart: rivers cross the scene, lakes fill a good part of a disc."""
    side = 640
    for index in range(3):
        _, labels = SyntheticScene(2, index, Size(side, side), bands=1).window(
            Window.whole(Size(side, side))
        )
        rivers = [p for p in _components(labels == Label.RIVER) if len(p) > 2000]
        lakes = [p for p in _components(labels == Label.LAKE) if len(p) > 2000]
        assert rivers
        assert lakes
        # Bridges cut rivers, so all parts together must cross.
        assert np.ptp(np.concatenate(rivers), axis=0).max() > 0.7 * side
        for part in lakes:
            reach = np.ptp(part, axis=0).max()
            assert 50 < reach < 320
            assert len(part) > 0.3 * reach**2


def test_rivers_and_lakes_never_touch(whole: tuple[np.ndarray, np.ndarray]) -> None:
    river, lake = whole[1] == Label.RIVER, whole[1] == Label.LAKE
    for step in range(1, 6):
        for axis in (0, 1):
            assert not (np.roll(river, step, axis) & lake).any()
            assert not (np.roll(lake, step, axis) & river).any()


def test_most_roofs_have_the_colour_of_roads() -> None:
    scene = SyntheticScene(0, 0, Size(1024, 1024))
    pixels, labels = scene.window(Window.whole(scene.size))
    roads = pixels[:, _eroded(labels == Label.ROAD, 1)].astype(float)
    roofs = pixels[:, _eroded(labels == Label.BUILDING, 1)].astype(float)
    low, high = np.percentile(roads, [1, 99], axis=1)[..., None]
    inside = ((roofs > low * 0.9) & (roofs < high * 1.1)).all(axis=0).mean()
    assert inside > 0.75


def test_cropland_has_several_states() -> None:
    scene = SyntheticScene(0, 0, Size(1024, 1024))
    pixels, labels = scene.window(Window.whole(scene.size))
    red, nir = pixels[2:4, _eroded(labels == Label.CROPLAND, 3)].astype(float)
    greenness = (nir - red) / (nir + red)
    assert (greenness > 0.5).mean() > 0.1
    assert (greenness < 0.25).mean() > 0.1


def test_vehicles_are_two_by_four_pixels_on_roads() -> None:
    _, labels = SyntheticScene(4, 0, Size(512, 1024), bands=1).window(Window.whole(Size(512, 1024)))
    parts = _components(labels == Label.VEHICLE)
    areas = np.array([len(p) for p in parts])
    assert len(parts) > 60
    assert 6 <= np.median(areas) <= 12
    padded = np.pad(labels, 1, constant_values=IGNORE_ID)
    beside = [
        {
            int(padded[r + 1 + a, c + 1 + b])
            for r, c in p
            for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))
        }
        for p in parts
    ]
    assert np.mean([Label.ROAD in near for near in beside]) > 0.98


def test_roads_span_rivers_from_bank_to_bank_or_not_at_all() -> None:
    """Corners from two before the first place to two after the last; 1 is dry."""
    dry = np.array(
        [
            [1, 1, 1, 0, 0, 1, 1, 1, 1],  # two wet corners: three quarters from bank to bank
            [1, 1, 1, 0, 0, 0, 1, 1, 1],  # three: along the river rather than across
            [0, 0, 0, 0, 0, 0, 1, 0, 1],  # one dry corner is no other bank
        ],
        bool,
    )
    expected = [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(spanned_places(dry, 4), np.array(expected, bool))


# --- sensor


def test_the_held_out_gain_lies_outside_those_of_other_scenes() -> None:
    for index in range(20):
        inside, outside = (
            SyntheticScene(0, index, SIZE, held_out=flag).gain for flag in (False, True)
        )
        assert 0.88 <= inside <= 1.12
        assert not 0.85 <= outside <= 1.15


def test_the_gain_scales_the_imagery_and_leaves_the_labels() -> None:
    window = Window(row_off=100, col_off=100, height=200, width=200)
    known, held_out = (SyntheticScene(0, 0, SIZE, held_out=flag) for flag in (False, True))
    (pixels, labels), (other, same) = known.window(window), held_out.window(window)
    np.testing.assert_array_equal(labels, same)
    ratio = held_out.gain / known.gain
    np.testing.assert_allclose(other.mean() / pixels.mean(), ratio, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 4, 7])
def test_the_collar_has_no_data_and_no_labels(dtype: str, bands: int) -> None:
    scene = SyntheticScene(0, 0, Size(300, 260), bands, dtype)
    pixels, labels = scene.window(Window.whole(scene.size))
    assert pixels.dtype == dtype
    assert pixels.shape == (bands, 300, 260)
    missing = np.isnan(pixels) if np.isnan(scene.nodata) else pixels == scene.nodata
    assert (missing.all(axis=0) == missing.any(axis=0)).all()
    assert (labels[missing[0]] == IGNORE_ID).all()
    assert missing[0, [0, -1]][:, [0, -1]].any()
    assert 0.02 < missing[0].mean() < 0.15
    assert missing[0].any(axis=1).mean() > 0.9  # the sides of the swath are slanted


def test_some_labels_are_missing_where_there_is_data(
    scene: SyntheticScene, whole: tuple[np.ndarray, np.ndarray]
) -> None:
    unlabelled = (whole[1] == IGNORE_ID) & (whole[0][0] != scene.nodata)
    assert 0 < unlabelled.mean() < 0.01
    for part in _components(unlabelled):
        assert len(part) < np.pi * 19**2


def test_noise_is_white_and_two_per_cent() -> None:
    """Neighbouring differences in the middle of a lake: nothing else changes there."""
    scene = SyntheticScene(1, 0, Size(1024, 1024), 4, "float32")
    pixels, labels = scene.window(Window.whole(scene.size))
    inner = _eroded(labels == Label.LAKE, 8)
    pairs = inner[:, :-1] & inner[:, 1:]
    for band in pixels:
        change = (band[:, 1:] - band[:, :-1])[pairs] / band[inner].mean()
        assert 0.02 * np.sqrt(2) < change.std() < 0.035 * np.sqrt(2)


# --- spectra


def test_bands_are_named_and_spread() -> None:
    assert [b.name for b in band_specs(4)] == ["blue", "green", "red", "nir"]
    assert [b.name for b in band_specs(3)] == ["red", "green", "blue"]
    many = band_specs(204)
    assert (many[0].name, many[-1].name) == ("b1", "b204")
    assert (many[0].wavelength_nm, many[-1].wavelength_nm) == (400.0, 2400.0)


def test_reflectance_is_smooth_and_physical() -> None:
    start, change = mixtures(np.arange(400.0, 2401.0))
    for spectra in (start, start + change):
        assert spectra.min() > 0
        assert spectra.max() < 0.7
        assert np.abs(np.diff(spectra, axis=0)).max() < 0.012  # per nanometre
        assert np.abs(np.diff(spectra, n=2, axis=0)).max() < 0.0012  # no kinks


# --- written


def test_the_dataset_is_read_back_as_it_was_computed(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    path = synthesize(
        tmp_path / "set",
        scenes=4,
        height=300,
        width=280,
        seed=9,
        progress=lambda done, total: calls.append((done, total)),
    )
    dataset = load_dataset(path)
    assert [s.split for s in dataset.scenes] == ["train", "train", "val", "test"]
    assert dataset.classes.names == tuple(label.name.lower() for label in Label)
    assert dataset.spec.licence == "CC0-1.0"
    assert calls[-1] == (4 * 300 * 280, 4 * 300 * 280)
    assert calls == sorted(calls)
    window = Window(row_off=20, col_off=30, height=200, width=150)
    for index, record in enumerate(dataset.scenes):
        expected = SyntheticScene(9, index, Size(300, 280), held_out=record.split == "test")
        pixels, labels = expected.window(window)
        assert record.group == f"gain-{expected.gain:.3f}"
        with dataset.reader(record) as reader:
            assert reader.size == Size(300, 280)
            assert reader.gsd_m == 1.0
            assert reader.crs.to_epsg() == 32633
            assert reader.band_names == ("blue", "green", "red", "nir")
            read = reader.read(window)
        np.testing.assert_array_equal(read.valid, pixels[0] != 0)
        np.testing.assert_array_equal(read.values, pixels.astype(np.float32))
        with dataset.label_reader(record) as reader:
            found = reader.read(window)
        np.testing.assert_array_equal(found, np.where(labels == IGNORE_ID, -1, labels))


def test_scenes_do_not_overlap_on_the_ground(tmp_path: Path) -> None:
    dataset = load_dataset(synthesize(tmp_path, scenes=5, height=64, width=90, bands=1))
    boxes = []
    for record in dataset.scenes:
        with dataset.reader(record) as reader:
            left, top = reader.transform @ (0, 0)
            right, bottom = reader.transform @ (reader.size.width, reader.size.height)
        boxes.append((left, bottom, right, top))
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_nodata_is_declared_in_the_file(tmp_path: Path, dtype: str) -> None:
    dataset = load_dataset(
        synthesize(tmp_path, scenes=1, height=200, width=200, bands=5, dtype=dtype)
    )
    record = dataset.scenes[0]
    whole = Window.whole(Size(200, 200))
    with SceneReader(record.files["image"][0]) as reader:
        assert reader.dtype == dtype
        image_valid = reader.valid(whole)
    with LabelReader(record.labels["label"], dataset.classes) as reader:
        labels = reader.read(whole)
    assert 0 < (~image_valid).mean() < 0.2
    assert (labels[~image_valid] == -1).all()


@pytest.mark.parametrize(
    ("scenes", "expected"),
    [
        (1, ["train"]),
        (2, ["train", "test"]),
        (3, ["train", "val", "test"]),
        (6, ["train"] * 4 + ["val", "test"]),
        (9, ["train"] * 5 + ["val"] * 2 + ["test"] * 2),
    ],
)
def test_scenes_are_split_four_to_one_to_one(
    tmp_path: Path, scenes: int, expected: list[str]
) -> None:
    dataset = load_dataset(synthesize(tmp_path, scenes=scenes, height=16, width=16, bands=1))
    assert [s.split for s in dataset.scenes] == expected


def test_own_splits_must_add_up(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"do not add up to 4 scenes"):
        synthesize(tmp_path, scenes=4, splits={"train": 2, "test": 1})
    path = synthesize(
        tmp_path, scenes=2, height=16, width=16, bands=1, splits={"pool": 1, "test": 1}
    )
    assert load_dataset(path).splits == ("pool", "test")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scenes": 0}, "cannot make 0 scenes"),
        ({"height": 0}, r"scene of 0 x 2048 px"),
        ({"bands": 0}, r"and 0 bands"),
        ({"dtype": "float64"}, r"dtype 'float64'; use uint8, uint16, int16, float32"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        synthesize(tmp_path / "new", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_memory_does_not_grow_with_height(tmp_path: Path) -> None:
    peaks = []
    for height in (1024, 4096):
        synthesize(tmp_path / "warm", scenes=1, height=64, width=300, bands=2)
        tracemalloc.start()
        synthesize(tmp_path / str(height), scenes=1, height=height, width=300, bands=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
