import pickle
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from toy_scenes import CLASS_IDS, MakeDataset, coordinate_image, coordinate_label

from wholescene.data.patches import PatchBatches, PatchDataset
from wholescene.data.regions import Patch, SceneArea
from wholescene.data.sampler import RandomSampler, WindowSize
from wholescene.data.scenes import ScenePool
from wholescene.datasets import Dataset
from wholescene.geometry import Size, Window
from wholescene.labels import IGNORE_INDEX


class Fixed:
    """Gives listed windows of one scene; one try after the other for sample 0."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = windows
        self.patches_per_cover = len(windows)

    def draw(self, index: int, attempt: int = 0) -> Patch:
        return Patch(0, self.windows[index + attempt])


def square(row: int, col: int, side: int) -> Window:
    return Window(row_off=row, col_off=col, height=side, width=side)


def patches_of(
    dataset: Dataset, windows: Sequence[Window], px: int, **options: int
) -> PatchDataset:
    pool = ScenePool(dataset, dataset.split("train"))
    areas = [SceneArea(pool.get(i)[0].size) for i in range(len(pool.records))]
    num = pool.get(0)[0].num_bands
    zeros, ones = [0.0] * num, [1.0] * num
    return PatchDataset(pool, areas, Fixed(windows), patch_px=px, mean=zeros, std=ones, **options)


def test_a_patch_is_the_window_of_the_scene(coordinates: Dataset) -> None:
    sample = patches_of(coordinates, [square(30, 40, 32)], 32)[0]
    expected = coordinate_image(200, 150)[:, 30:62, 40:72]
    np.testing.assert_array_equal(sample["image"], expected)
    ids = coordinate_label(200, 150)[30:62, 40:72]
    np.testing.assert_array_equal(np.array(CLASS_IDS)[sample["label"]], ids)
    assert sample["valid"].all()
    assert (sample["image"].dtype, sample["label"].dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("side", [16, 24, 32, 45, 64, 100])
def test_a_scaled_patch_shows_the_coordinates_of_its_window(
    coordinates: Dataset, side: int
) -> None:
    row, col, px = 50, 20, 32
    sample = patches_of(coordinates, [square(row, col, side)], px)[0]
    centres = (np.arange(px) + 0.5) * side / px
    if side < px:  # linear, up to the middle of the outermost pixels of the window
        seen = np.clip(centres, 0.5, side - 0.5)
    else:  # the mean over the ground a pixel covers: cut each source pixel in px equal pieces
        seen = np.repeat(np.arange(side) + 0.5, px).reshape(px, side).mean(1)
    rows, cols = np.meshgrid(row + seen, col + seen, indexing="ij")
    np.testing.assert_allclose(sample["image"], np.stack([rows, cols]), atol=2e-5)
    # The label is that of the pixel under the centre: 16 px stripes by row.
    stripes = (row + np.floor(centres)).astype(int) // 16 % 3
    np.testing.assert_array_equal(sample["label"], np.repeat(stripes[:, None], px, 1))


def test_beyond_the_scene_is_zero_and_ignored(coordinates: Dataset) -> None:
    sample = patches_of(coordinates, [square(-8, 134, 32)], 32)[0]
    inside = np.zeros((32, 32), bool)
    inside[8:, :16] = True
    np.testing.assert_array_equal(sample["valid"], inside)
    assert (sample["image"].numpy()[:, ~inside] == 0).all()
    assert (sample["label"].numpy()[~inside] == IGNORE_INDEX).all()
    assert (sample["label"].numpy()[inside] >= 0).all()


def test_a_patch_larger_than_its_scene_holds_all_of_it(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(train=[(coordinate_image(5, 9), coordinate_label(5, 9))])
    pool = ScenePool(dataset, dataset.split("train"))
    areas = [SceneArea(Size(5, 9))]
    sampler = RandomSampler(areas, WindowSize(16), seed=0)
    patches = PatchDataset(pool, areas, sampler, patch_px=16, mean=[0, 0], std=[1, 1])
    for index in range(20):
        sample = patches[index]
        assert int(sample["valid"].sum()) == 45
        assert int((sample["label"] >= 0).sum()) == 45
        assert float(sample["image"][0].max()) == 4.5


def test_windows_without_data_or_labels_are_drawn_again(make_dataset: MakeDataset) -> None:
    image = np.full((1, 64, 96), 7, np.uint16)
    image[:, :, :32] = 0  # nodata
    label = np.full((64, 96), CLASS_IDS[1], np.uint8)
    label[:, 32:64] = 0  # ignored
    dataset = make_dataset(train=[(image, label)], nodata=0)
    windows = [square(0, 0, 32), square(5, 32, 32), square(8, 64, 32), square(9, 64, 32)]
    sample = patches_of(dataset, windows, 32)[0]
    assert sample["valid"].all()
    assert (sample["label"] == 1).all()
    # Half nodata, half ignored: nothing to learn from either.
    mixed = patches_of(dataset, [square(0, 16, 32), square(8, 64, 32)], 32)[0]
    assert (mixed["label"] == 1).all()
    given_up = patches_of(dataset, windows, 32, max_tries=2)[0]
    assert (given_up["label"] == IGNORE_INDEX).all()


def test_invalid_pixels_are_zero_after_normalising_and_do_not_train(
    make_dataset: MakeDataset,
) -> None:
    image = np.array([[[4, 0, 10]]], np.uint16).repeat(3, axis=1)
    dataset = make_dataset(train=[(image, np.full((3, 3), 10, np.uint8))], nodata=0)
    pool = ScenePool(dataset, dataset.split("train"))
    patches = PatchDataset(
        pool, [SceneArea(Size(3, 3))], Fixed([square(0, 0, 3)]), patch_px=3, mean=[6.0], std=[2.0]
    )
    sample = patches[0]
    assert sample["image"][0].tolist() == [[-1.0, 0.0, 2.0]] * 3
    assert sample["label"].tolist() == [[1, IGNORE_INDEX, 1]] * 3


def test_scaled_labels_hold_only_ids_of_the_file(make_dataset: MakeDataset) -> None:
    # Ids 1 and 11 only: any mixing of the two would show the class between them.
    checks = np.indices((80, 80)).sum(0) % 2
    label = np.where(checks, CLASS_IDS[0], CLASS_IDS[2]).astype(np.uint8)
    dataset = make_dataset(train=[(np.zeros((1, 80, 80), np.uint8), label)])
    pool = ScenePool(dataset, dataset.split("train"))
    areas = [SceneArea(Size(80, 80))]
    sampler = RandomSampler(areas, WindowSize(24, (0.4, 2.5)), seed=0)
    patches = PatchDataset(pool, areas, sampler, patch_px=24, mean=[0.0], std=[1.0])
    found = {int(v) for i in range(60) for v in patches[i]["label"].unique()}
    assert found == {0, 2}


def test_padding_of_a_finite_list_scores_nowhere(coordinates: Dataset) -> None:
    patches = patches_of(coordinates, [square(0, 0, 8)], 8, max_tries=1)
    batch = PatchBatches(patches, length=1)[[0, 1]]
    assert batch["scene"].tolist() == [0, -1]
    assert (batch["label"][0] >= 0).all()
    assert (batch["label"][1] == IGNORE_INDEX).all()
    assert not batch["valid"][1].any()
    assert not batch["image"][1].any()


def test_open_scenes_are_bounded_and_workers_open_their_own(make_dataset: MakeDataset) -> None:
    scenes = [(np.full((1, 8, 8), i, np.uint8), np.ones((8, 8), np.uint8)) for i in range(4)]
    dataset = make_dataset(train=scenes)
    pool = ScenePool(dataset, dataset.split("train"), max_open=2)
    whole = Window.whole(Size(8, 8))
    for i in (0, 1, 2, 3, 0, 2, 1):
        assert pool.get(i)[0].read(whole).values[0, 0, 0] == i
        assert len(pool._open) <= 2
    copy = pickle.loads(pickle.dumps(pool))
    assert not copy._open
    assert copy.get(3)[0].read(whole).values[0, 0, 0] == 3
