"""Windows of a pool and what is measured on labelled ones."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from tiny_pool import MakeConfig

from wholescene.datasets import Dataset, SceneRecord
from wholescene.errors import ConfigError, DatasetError
from wholescene.pretrain.packed import PackedRecords
from wholescene.pretrain.pool import PoolDataModule
from wholescene.pretrain.probe import (
    LabelledWindows,
    ProbeData,
    color_histogram,
    embedding_spread,
    knn_accuracy,
)
from wholescene.pretrain.setup import prepare_pretraining

MEAN, STD = (120.0,) * 4, (35.0,) * 4


def test_windows_are_the_normalised_pixels_of_the_scene(
    make_pretrain_config: MakeConfig, pool: Dataset
) -> None:
    settings = make_pretrain_config().data
    data = PoolDataModule(settings, pool, mean=MEAN, std=STD, seed=3)
    assert [scene.split for scene in data.scenes] == ["pool"] * 3
    for number in (0, 7):
        patch = data.windows.sampler.draw(number)
        with pool.reader(data.scenes[patch.scene]) as reader:
            pixels = reader.read(patch.window)
        expected = (torch.from_numpy(pixels.values).float() - 120) / 35
        torch.testing.assert_close(data.windows.read(number), expected)


def test_packed_records_are_the_records(pool: Dataset, tmp_path: Path) -> None:
    odd = SceneRecord(
        id="Ünïcode 1",
        split="pool",
        files={"red": (tmp_path / "a b.tif",), "nir": (Path("c"),) * 2},
    )
    packed = PackedRecords([*pool.scenes, odd])
    assert len(packed) == len(pool.scenes) + 1
    assert packed[len(packed) - 1] == odd
    assert [packed[i].files for i in range(len(pool.scenes))] == [s.files for s in pool.scenes]
    with pytest.raises(IndexError, match="scene 99 of"):
        packed[99]


def test_workers_are_sent_no_list_of_scenes(
    make_pretrain_config: MakeConfig, pool: Dataset
) -> None:
    settings = make_pretrain_config(data={"draw": "scene"}).data
    many = replace(pool, scenes=pool.scenes * 5000)
    few, lots = (
        len(ForkingPickler.dumps(PoolDataModule(settings, given, mean=MEAN, std=STD).windows))
        for given in (pool, many)
    )
    assert lots < few + 1000


def test_batches_go_on_where_a_run_was_resumed(
    make_pretrain_config: MakeConfig, pool: Dataset
) -> None:
    settings = make_pretrain_config().data

    def batches(start: int, count: int) -> list[torch.Tensor]:
        data = PoolDataModule(settings, pool, mean=MEAN, std=STD, seed=3)
        data.set_start(start)
        loader = iter(data.train_dataloader())
        return [next(loader)["image"] for _ in range(count)]

    for later, again in zip(batches(0, 4)[2:], batches(2, 2), strict=True):
        assert torch.equal(later, again)


def test_probe_windows_are_never_trained_on(
    make_pretrain_config: MakeConfig, pool: Dataset
) -> None:
    data = PoolDataModule(make_pretrain_config().data, pool, mean=MEAN, std=STD, seed=3)
    kept = data.probe_windows(4)
    assert torch.equal(kept, data.probe_windows(4))
    trained = torch.stack([data.windows.read(number) for number in range(16)])
    assert not any(torch.equal(a, b) for a in kept for b in trained)


def test_wrong_splits_and_bands_are_refused(
    make_pretrain_config: MakeConfig, pool: Dataset
) -> None:
    with pytest.raises(DatasetError, match="no split 'pools'"):
        prepare_pretraining(make_pretrain_config(data={"split": "pools"}), pool)
    data = make_pretrain_config().data
    with pytest.raises(DatasetError, match="has 4 bands, but mean and std are of 3"):
        PoolDataModule(data, pool, mean=MEAN[:3], std=STD[:3])
    settings = make_pretrain_config(probe={"bank_split": "pool", "windows": 8})
    with pytest.raises(DatasetError, match="none of the 3 scenes"):
        prepare_pretraining(settings, pool)


def test_bands_can_be_chosen(make_pretrain_config: MakeConfig, pool: Dataset) -> None:
    config = make_pretrain_config(data={"bands": ["nir", "red"]}, probe={"windows": 8})
    parts = prepare_pretraining(config, pool)
    assert parts.spec.band_names == ("nir", "red")
    assert parts.data.probe_windows(2).shape == (2, 2, 40, 40)
    assert parts.probe is not None and parts.probe.query.images.shape[1:] == (2, 40, 40)


def test_neighbours_by_hand() -> None:
    # Rows on a circle around their mean; classes 0 right, 1 left.
    bank = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
    query = torch.tensor([[0.9, 0.0], [-0.9, 0.0], [0.8, 0.0]])
    data = ProbeData(
        bank=LabelledWindows(images=bank, classes=torch.tensor([0, 0, 1, 1])),
        query=LabelledWindows(images=query, classes=torch.tensor([0, 1, 1])),
    )
    assert knn_accuracy(lambda rows: rows, data, neighbours=2) == pytest.approx(2 / 3)
    shifted = knn_accuracy(lambda rows: rows + 100, data, neighbours=2)
    assert shifted == pytest.approx(2 / 3)  # a common offset tells nothing


def test_spread_is_one_everywhere_and_zero_in_one_place() -> None:
    torch.manual_seed(0)
    assert embedding_spread(torch.randn(2000, 64)) == pytest.approx(1, abs=0.02)
    assert embedding_spread(torch.ones(10, 8) * torch.arange(1, 11)[:, None]) < 1e-6


def test_histogram_by_hand() -> None:
    image = torch.zeros(1, 1, 2, 2)
    image[0, 0, 0, 0] = 100.0
    rows = color_histogram(image)[0]
    assert rows[8].item() == pytest.approx(0.75**0.5)  # 0 lies in the ninth of 16 steps
    assert rows[15].item() == pytest.approx(0.25**0.5)


def test_a_probe_of_one_class_is_refused(make_pretrain_config: MakeConfig, pool: Dataset) -> None:
    one = replace(pool, scenes=tuple(s for s in pool.scenes if s.id in ("train0", "val0")))
    config = make_pretrain_config(data={"window_px": 96, "split": "train"}, probe={"windows": 8})
    with pytest.raises(ConfigError, match=r"lower data\.window_px"):
        prepare_pretraining(config, one)
