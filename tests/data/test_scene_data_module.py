import gc
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_scenes import CLASS_IDS, MakeDataset, coordinate_image, coordinate_label

from wholescene.data import DataSettings, SceneDataModule
from wholescene.data.cache import cache_mb_per_process
from wholescene.data.loader import _start_worker
from wholescene.datasets import Dataset
from wholescene.datasets.fraction import draw_fraction, write_fraction
from wholescene.errors import ConfigError, DatasetError
from wholescene.labels import IGNORE_INDEX

CHANGES: dict[str, Any] = {
    "scale_jitter": (0.7, 1.5),
    "gain": 0.1,
    "band_gain": 0.1,
    "noise": 0.1,
    "channel_dropout": 0.2,
}


def module_of(dataset: Dataset, *, seed: int = 0, **changes: Any) -> SceneDataModule:
    options = {"patch_px": 32, "batch_size": 3, "num_workers": 0, "patches_per_epoch": 12}
    settings = DataSettings(dataset=dataset.path, **{**options, **changes})
    num = dataset.reader(dataset.scenes[0]).num_bands
    return SceneDataModule(settings, dataset, mean=[1.0] * num, std=[2.0] * num, seed=seed)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in ("image", "label", "valid", "scene"))


class FakeTrainer:
    """As much of a trainer as the loaders ask about."""

    def __init__(self, rank: int, world: int) -> None:
        self.global_rank, self.world_size, self.num_devices = rank, world, world


@pytest.mark.parametrize("sampling", ["random", "grid", "balanced"])
@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_for_any_number_of_workers(
    coordinates: Dataset, sampling: str, workers: int
) -> None:
    alone = module_of(coordinates, sampling=sampling, **CHANGES).train_dataloader()
    shared = module_of(coordinates, sampling=sampling, num_workers=workers, **CHANGES)
    loader = shared.train_dataloader()
    for _ in range(2):
        pairs = list(zip(alone, loader, strict=True))
        assert len(pairs) == 4
        assert all(same(*pair) for pair in pairs)


def test_published_changes_are_the_same_in_a_worker(make_dataset: MakeDataset) -> None:
    rows, cols = coordinate_image(90, 80)
    scene = np.stack([rows, cols, rows]), coordinate_label(90, 80)
    dataset = make_dataset(train=[scene])
    changes: dict[str, Any] = {
        "flips": "left-right",
        "turns": False,
        "zooms": (0.25, 1.0, 2.0),  # at 0.25 the window reaches beyond the scene
        "color_distortion": {"chance": 1.0},
        "val_split": None,
    }
    alone = list(module_of(dataset, **changes).train_dataloader())
    shared = module_of(dataset, num_workers=1, **changes).train_dataloader()
    assert all(same(*pair) for pair in zip(alone, shared, strict=True))
    for batch in alone:
        beyond = ~batch["valid"]
        assert not batch["image"].movedim(1, -1)[beyond].any()
        assert (batch["label"][beyond] == IGNORE_INDEX).all()
    assert any(not batch["valid"].all() for batch in alone)


def test_colours_of_two_bands_are_refused_before_any_work(coordinates: Dataset) -> None:
    with pytest.raises(ConfigError, match="the run has 2"):
        module_of(coordinates, color_distortion={})


@pytest.mark.parametrize("start", [1, 4, 6])
def test_a_resumed_run_takes_the_very_batches_it_missed(coordinates: Dataset, start: int) -> None:
    loader = module_of(coordinates, sampling="balanced", **CHANGES).train_dataloader()
    whole = [batch for _ in range(3) for batch in loader]
    resumed = module_of(coordinates, sampling="balanced", num_workers=1, **CHANGES)
    resumed.set_start(start)
    loader = resumed.train_dataloader()
    found = [*loader, *loader][: len(whole) - start]
    assert all(same(*pair) for pair in zip(found, whole[start:], strict=False))
    assert len(found) >= 4


def test_seeds_give_other_patches(coordinates: Dataset) -> None:
    first = next(iter(module_of(coordinates).train_dataloader()))
    assert not same(first, next(iter(module_of(coordinates, seed=1).train_dataloader())))


def test_the_ranks_share_the_samples_of_one_process(coordinates: Dataset) -> None:
    alone = module_of(coordinates, batch_size=6, **CHANGES).train_dataloader()
    loaders = []
    for rank in range(2):
        part = module_of(coordinates, **CHANGES)
        part.trainer = FakeTrainer(rank, 2)  # type: ignore[assignment]
        assert part.batches_per_epoch() == 2
        loaders.append(part.train_dataloader())
    for whole, *parts in zip(alone, *loaders, strict=True):
        for rank, part in enumerate(parts):
            assert same(part, {key: value[rank::2] for key, value in whole.items()})


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_sees_each_pixel_once(coordinates: Dataset, world: int) -> None:
    hits = np.zeros((100, 70), int)
    lengths = set()
    for rank in range(world):
        part = module_of(coordinates)
        part.trainer = FakeTrainer(rank, world)  # type: ignore[assignment]
        batches = list(part.val_dataloader())
        lengths.add(len(batches))
        for batch in batches:
            # The image names its own pixels: (coordinate + 0.5 - mean) / std.
            rows, cols = (batch["image"].movedim(1, 0) * 2 + 1 - 0.5).round().long()
            valid = batch["valid"]
            np.add.at(hits, (rows[valid].numpy(), cols[valid].numpy()), 1)
            assert torch.equal(batch["label"] >= 0, valid)
            assert torch.equal(rows[valid] // 16 % 3, batch["label"][valid])
    assert (hits == 1).all()
    assert len(lengths) == 1


def test_whole_scene_validation_lists_the_scenes_of_a_rank(make_dataset: MakeDataset) -> None:
    scene = (coordinate_image(40, 40), coordinate_label(40, 40))
    dataset = make_dataset(train=[scene], val=[scene] * 3)
    found = []
    for rank in range(2):
        part = module_of(dataset, val_mode="scenes")
        part.trainer = FakeTrainer(rank, 2)  # type: ignore[assignment]
        found.append([int(batch["scene"]) for batch in part.val_dataloader()])
    assert found == [[0, 2], [1, -1]]
    assert [scene.id for scene in part.val_scenes] == ["val0", "val1", "val2"]
    assert module_of(dataset, val_split=None).val_dataloader() == []


def test_balanced_sampling_raises_the_share_of_a_rare_class(make_dataset: MakeDataset) -> None:
    label = np.full((256, 256), CLASS_IDS[0], np.uint8)
    label[200:206, 30:36] = CLASS_IDS[2]  # 36 of 65,536 pixels
    dataset = make_dataset(train=[(np.zeros((1, 256, 256), np.uint8), label)])
    settings = {"val_split": None, "patches_per_epoch": 60}

    def share(sampling: str) -> float:
        module = module_of(dataset, sampling=sampling, **settings)
        seen = [(b["label"] == 2).flatten(1).any(1) for b in module.train_dataloader()]
        return float(torch.cat(seen).float().mean())

    assert share("random") < 0.15
    assert share("balanced") > 0.4
    assert any((dataset.root / ".wholescene").iterdir())


def test_an_epoch_covers_the_training_area_once(coordinates: Dataset) -> None:
    # 200 x 150 and 96 x 130 px are 41.5 patches of 32 px, in batches of 3.
    assert module_of(coordinates, patches_per_epoch=None).batches_per_epoch() == 14
    grid = module_of(coordinates, patches_per_epoch=None, sampling="grid")
    # 7 x 5 places of 32 px in 200 x 150, 3 x 5 in 96 x 130.
    assert grid.batches_per_epoch() == 17


@pytest.mark.parametrize("by", ["patch", "scene"])
def test_only_the_labels_of_a_fraction_train(coordinates: Dataset, tmp_path: Path, by: str) -> None:
    table = draw_fraction(coordinates, 0.5, seed=4, by=by, patch_px=40)
    file = write_fraction(table, tmp_path / "half.csv")
    allowed = {scene.id: np.zeros((256, 256), bool) for scene in coordinates.scenes}
    for row in table.rows:
        allowed[row.scene][row.window.rows, row.window.cols] = True
    for sampling in ("random", "grid", "balanced"):
        module = module_of(
            coordinates,
            fraction=file,
            sampling=sampling,
            patches_per_epoch=60,
            flips=False,
            turns=False,
        )
        for batch in module.train_dataloader():
            rows, cols = (batch["image"].movedim(1, 0) * 2 + 1 - 0.5).round().long()
            for i, number in enumerate(batch["scene"].tolist()):
                trains = batch["label"][i] != IGNORE_INDEX
                assert trains.any()
                of_scene = allowed[module.train_scenes[number].id]
                assert of_scene[rows[i][trains], cols[i][trains]].all()


def test_a_fraction_of_other_data_is_refused(
    coordinates: Dataset, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    scene = (coordinate_image(40, 40), coordinate_label(40, 40))
    other = make_dataset(name="other", train=[scene], val=[scene])
    file = write_fraction(draw_fraction(other, 1.0, patch_px=40), tmp_path / "f.csv")
    with pytest.raises(
        DatasetError, match="drawn from dataset 'other', but the run trains on 'toy'"
    ):
        module_of(coordinates, fraction=file)
    with pytest.raises(DatasetError, match="drawn from split 'train', but the run trains on 'val'"):
        module_of(other, fraction=file, train_split="val")
    table = draw_fraction(coordinates, 1.0, patch_px=40)
    row = table.rows[0]
    gone = table.model_copy(update={"rows": (row.model_copy(update={"scene": "gone"}),)})
    with pytest.raises(DatasetError, match="scene 'gone' is no labelled scene of split 'train'"):
        module_of(coordinates, fraction=write_fraction(gone, tmp_path / "g.csv"))
    far = table.model_copy(update={"rows": (row.model_copy(update={"row_off": 190}),)})
    with pytest.raises(DatasetError, match="beyond scene 'train0' of 200 x 150 px"):
        module_of(coordinates, fraction=write_fraction(far, tmp_path / "h.csv"))


def test_what_cannot_train_is_said_before_any_work(make_dataset: MakeDataset) -> None:
    image, label = coordinate_image(40, 40), coordinate_label(40, 40)
    dataset = make_dataset(
        train=[(image, label)], pool=[(image, None)], odd=[(image, label[:, :30])]
    )
    with pytest.raises(DatasetError, match="no split 'trian'; the scene table knows train, pool"):
        module_of(dataset, train_split="trian", val_split=None)
    with pytest.raises(DatasetError, match="none of the 1 scenes of split 'pool' has a 'label'"):
        module_of(dataset, train_split="pool", val_split=None)
    with pytest.raises(DatasetError, match="none of the 1 scenes of split 'pool' has a 'label'"):
        module_of(dataset, val_split="pool")
    with pytest.raises(DatasetError, match=r"image is 40 x 40 px, its labels .* are 40 x 30 px"):
        module_of(dataset, train_split="odd", val_split=None)
    settings = DataSettings(dataset=dataset.path, val_split=None)
    with pytest.raises(DatasetError, match=r"has 2 bands .* mean and std are of 3"):
        SceneDataModule(settings, dataset, mean=[0] * 3, std=[1] * 3)
    with pytest.warns(UserWarning, match="1 of the 2 scenes of split 'train.pool' have no 'label'"):
        module_of(dataset, train_split="train+pool", val_split=None)


def test_bands_can_be_chosen(coordinates: Dataset) -> None:
    settings = DataSettings(
        dataset=coordinates.path, patch_px=8, num_workers=0, bands=(2,), flips=False, turns=False
    )
    module = SceneDataModule(settings, coordinates, mean=[0.0], std=[1.0])
    image = next(iter(module.train_dataloader()))["image"]
    assert image.shape[1] == 1
    # Band 2 is the column: constant down the rows.
    assert torch.equal(image, image[:, :, :1].expand_as(image))


def test_workers_leave_ctrl_c_and_old_objects_to_the_trainer() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        _start_worker(0, cache_mb=64)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert gc.get_freeze_count() > 0
    finally:
        signal.signal(signal.SIGINT, before)
        gc.unfreeze()


def test_the_cache_is_shared_by_the_readers_of_a_machine() -> None:
    assert cache_mb_per_process(1000, num_readers=4) == 250
    assert 64 <= cache_mb_per_process(None, num_readers=2) <= 1024


def test_loaders_can_be_sent_to_spawned_workers(coordinates: Dataset) -> None:
    loader = module_of(
        coordinates, sampling="balanced", num_workers=2, **CHANGES
    ).train_dataloader()
    expected = next(iter(module_of(coordinates, sampling="balanced", **CHANGES).train_dataloader()))
    pickle.dumps(loader.worker_init_fn)
    batches = pickle.loads(pickle.dumps(loader.dataset))
    assert same(batches[range(3)], expected)
