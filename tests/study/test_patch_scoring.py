"""Patch scoring against a plain loop over patches."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from toy_study import MEAN, STD, make_dataset, make_model

from wholescene.datasets import Dataset
from wholescene.errors import InputError
from wholescene.evaluate import erode_labels
from wholescene.evaluate.protocol import PatchRule
from wholescene.models import Segmenter
from wholescene.study.patch_scoring import score_patches

CLASSES = {3: "road", 7: "water", 9: "tree"}
SCENES = {"wide": ("val", (70, 97)), "small": ("val", (20, 50))}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("patches")
    return make_dataset(root, name="any", classes=CLASSES, scenes=SCENES)


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> Segmenter:
    return make_model(dataset)


def starts(side: int, rule: PatchRule) -> list[int]:
    step = rule.size if rule.stride_ignored else rule.stride
    found, start = [], 0
    while start + rule.size <= side:
        found.append(start)
        start += step
    if side < rule.size:
        return [0]
    if found[-1] + rule.size < side and not rule.drop_remainder:
        found.append(side - rule.size)
    return found


def read(path: Path) -> np.ndarray:
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(path) as file:
        return file.read()


def plain_loop(
    dataset: Dataset, scene_id: str, model: Segmenter, rule: PatchRule, erode_px: int
) -> tuple[np.ndarray, int]:
    """Counts (K, K) and ignored pixels; one patch at a time, one pixel at a time."""
    scene = dataset.scene(scene_id)
    image, ids = read(scene.files["image"][0]), read(scene.labels["label"])[0]
    truth = np.array([[[*CLASSES].index(i) if i in CLASSES else -1 for i in row] for row in ids])
    truth = erode_labels(truth.astype(np.int16), erode_px)
    counts, ignored = np.zeros((3, 3), np.int64), 0
    height, width = truth.shape
    for top in starts(height, rule):
        for left in starts(width, rule):
            seen = torch.zeros(1, 3, rule.size, rule.size)
            part = image[:, top : top + rule.size, left : left + rule.size].astype(np.float32)
            seen[0, :, : part.shape[1], : part.shape[2]] = torch.from_numpy((part - MEAN) / STD)
            with torch.no_grad():
                guess = model(seen)[0].argmax(0)
            for row in range(rule.size):
                for col in range(rule.size):
                    is_inside = top + row < height and left + col < width
                    true = truth[top + row, left + col] if is_inside else -1
                    if true < 0:
                        ignored += 1
                    else:
                        counts[true, guess[row, col]] += 1
    return counts, ignored


@pytest.mark.parametrize(
    ("rule", "erode_px"),
    [
        (PatchRule(size=32, stride=16), 0),
        (PatchRule(size=32, stride=16, stride_ignored=True), 0),
        (PatchRule(size=32, stride=24, drop_remainder=True), 0),
        (PatchRule(size=32, stride=32), 1),
    ],
    ids=["overlapping", "edge to edge", "remainder dropped", "eroded"],
)
def test_counts_are_those_of_a_plain_loop(
    dataset: Dataset, model: Segmenter, rule: PatchRule, erode_px: int
) -> None:
    found = score_patches(
        dataset, dataset.split("val"), model, rule, erode_px=erode_px, batch=3, device="cpu"
    )
    assert [score.scene for score in found] == ["wide", "small"]
    for score in found:
        counts, ignored = plain_loop(dataset, score.scene, model, rule, erode_px)
        np.testing.assert_array_equal(score.table.table, counts)
        assert score.table.ignored_pixels == ignored
        assert score.erode_px == erode_px


def test_pixels_count_as_often_as_patches_cover_them(dataset: Dataset, model: Segmenter) -> None:
    whole = score_patches(dataset, dataset.split("val")[:1], model, PatchRule(size=97, stride=97))
    often = score_patches(dataset, dataset.split("val")[:1], model, PatchRule(size=32, stride=16))

    def pixels(score):
        return score.table.scored_pixels + score.table.ignored_pixels

    assert pixels(whole[0]) == 97 * 97
    assert pixels(often[0]) == len(starts(70, PatchRule(size=32, stride=16))) * 6 * 32 * 32


@pytest.mark.parametrize(
    "setting",
    [{"engine": "streamed"}, {"block": 64}, {"resume": True}, {"boundary": 3}, {"memory": "1GiB"}],
    ids=str,
)
def test_settings_that_mean_nothing_to_a_patch_are_refused(
    dataset: Dataset, model: Segmenter, setting: dict
) -> None:
    rule = PatchRule(size=32, stride=32)
    with pytest.raises(InputError, match=f"--{next(iter(setting))} does not apply"):
        score_patches(dataset, dataset.split("val"), model, rule, **setting)


def test_settings_that_say_nothing_are_allowed(dataset: Dataset, model: Segmenter) -> None:
    said = {"engine": "auto", "block": None, "strict": False, "resume": False, "tta": None}
    assert score_patches(
        dataset, dataset.split("val"), model, PatchRule(size=64, stride=64), **said
    )
