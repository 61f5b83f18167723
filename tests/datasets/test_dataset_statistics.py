from __future__ import annotations

import numpy as np
import pytest

from wholescene.datasets import (
    Dataset,
    DatasetSpec,
    SceneRecord,
    compute_statistics,
    dataset_overview,
    load_dataset,
    store_statistics,
)
from wholescene.errors import DatasetError
from wholescene.raster.source import SourceSpec

GENERATOR = np.random.default_rng(5)
IMAGES = GENERATOR.integers(0, 1000, (3, 2, 16, 12)).astype(np.uint16)
IMAGES[0, :, :2] = 0  # nodata
LABELS = GENERATOR.choice(np.array([0, 1, 10], np.uint8), (3, 16, 12))


@pytest.fixture
def dataset(make) -> Dataset:
    spec = DatasetSpec(
        name="toy",
        classes=({"id": 1, "name": "land"}, {"id": 10, "name": "water"}),
        ignore_id=0,
        sources=(SourceSpec(scale=0.5, nodata=0.0),),
        licence="CC0",
        description="kept",
    )
    image = make.raster("pool.tif", IMAGES[1] + 5000, col=90)
    return make.dataset(
        make.scene("a", "train", image=IMAGES[0], label=LABELS[0]),
        make.scene("b", "train", image=IMAGES[1], label=LABELS[1], col=30),
        make.scene("c", "val", image=IMAGES[2], label=LABELS[2], col=60),
        SceneRecord(id="p", split="pool", files={"image": (image,)}),
        spec=spec,
    )


def pixels(*scenes: int) -> np.ndarray:
    """Physical values of valid pixels, (2, N)."""
    stored = np.concatenate([IMAGES[i].reshape(2, -1) for i in scenes], axis=1)
    return 0.5 * stored[:, stored.any(axis=0)].astype(float)


def test_statistics_are_those_of_the_train_split(dataset: Dataset) -> None:
    calls: list[tuple[int, int]] = []
    found = compute_statistics(dataset, progress=lambda done, total: calls.append((done, total)))
    np.testing.assert_allclose(found.mean, pixels(0, 1).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.std, pixels(0, 1).std(axis=1), rtol=1e-6)
    assert found.class_counts == tuple((LABELS[:2] == i).sum() for i in (1, 10))
    assert found.ignored_pixels == (LABELS[:2] == 0).sum()
    assert found.bands is not None
    assert len(found.bands) == 2
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_another_split_can_be_asked_for(dataset: Dataset) -> None:
    found = compute_statistics(dataset, "val")
    np.testing.assert_allclose(found.mean, pixels(2).mean(axis=1), rtol=1e-6)
    assert found.split == "val"
    assert compute_statistics(dataset, "pool").class_counts is None
    with pytest.raises(DatasetError, match="no split 'dev'"):
        compute_statistics(dataset, "dev")


def test_storing_keeps_the_rest_of_the_file(dataset: Dataset) -> None:
    stored = store_statistics(dataset)
    again = load_dataset(dataset.path)
    assert again.spec == stored.spec
    assert again.spec.statistics == compute_statistics(dataset)
    assert again.spec.model_copy(update={"statistics": None}) == dataset.spec
    assert again.scenes == dataset.scenes


def test_a_split_without_pixels_has_no_statistics(make) -> None:
    empty = make.raster("a.tif", np.zeros((2, 8, 8), np.uint8), nodata=0)
    scene = SceneRecord(id="a", split="train", files={"image": (empty,)})
    with pytest.raises(DatasetError, match=r"split 'train' of .* has no valid pixel"):
        compute_statistics(make.dataset(scene))


def test_scenes_that_differ_in_bands_are_refused(make) -> None:
    scenes = (
        make.scene("a", "train"),
        make.scene("b", "train", image=np.ones((3, 8, 8), np.uint8), col=20),
    )
    with pytest.raises(DatasetError, match="scene 'b' has 3 bands, scene 'a' has 2; list"):
        compute_statistics(make.dataset(*scenes))


def test_the_overview_counts_scenes_bands_and_classes(dataset: Dataset) -> None:
    before = dataset_overview(dataset)
    assert before["splits"] == {
        "train": {"scenes": 2, "labelled": 2, "pixels": 2 * 16 * 12},
        "val": {"scenes": 1, "labelled": 1, "pixels": 16 * 12},
        "pool": {"scenes": 1, "labelled": 0, "pixels": 16 * 12},
    }
    assert before["licence"] == "CC0"
    assert "mean" not in before["bands"][0]
    after = dataset_overview(store_statistics(dataset))
    land, water = after["classes"]
    assert (land["id"], water["name"]) == (1, "water")
    assert land["pixels"] == (LABELS[:2] == 1).sum()
    assert land["share"] == pytest.approx((LABELS[:2] == 1).sum() / (LABELS[:2] > 0).sum())
    assert land["share"] + water["share"] == pytest.approx(1)
    assert after["bands"][1]["mean"] == pytest.approx(pixels(0, 1).mean(axis=1)[1])
    assert after["statistics_split"] == "train"
