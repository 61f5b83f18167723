"""Everything that is wrong is said before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_dataset import MakeConfig, make_dataset

from wholescene.datasets import Dataset, Statistics
from wholescene.errors import ConfigError, DatasetError, WholesceneError
from wholescene.geometry import Window
from wholescene.models import Architecture
from wholescene.raster.source import BandSpec, SourceSpec
from wholescene.train import fit
from wholescene.train.blueprint import choose_bands, describe_model, replace_statistics

BAD: list[tuple[dict[str, Any], type[WholesceneError], str]] = [
    ({"data": {"train_split": "trian"}}, DatasetError, "no split 'trian'.*train, val"),
    ({"data": {"val_split": "test"}}, DatasetError, "no split 'test'"),
    ({"data": {"bands": [3]}}, ConfigError, "no band 3; it has 1 red, 2 nir"),
    ({"data": {"bands": ["red", 1]}}, ConfigError, "name each band once"),
    ({"data": {"bands": ["740nm"]}}, ConfigError, "no band '740nm'"),
    ({"data": {"mean": [0.5]}}, ConfigError, r"data\.mean lists 1 numbers for the 2 bands"),
    ({"data": {"color_distortion": {}}}, ConfigError, "three bands .* the run has 2"),
    ({"data": {"target": "roads"}}, DatasetError, "no target 'roads'"),
    ({"loss": {"class_weights": [1.0, 2.0, 3.0]}}, ConfigError, "3 numbers for the 2 classes"),
    ({"optim": {"warmup_steps": 6}}, ConfigError, r"warmup_steps = 6.*train\.steps"),
    ({"train": {"precision": "float16"}}, ConfigError, "float16.*use bfloat16"),
    ({"train": {"sync_batchnorm": True}}, ConfigError, "sync_batchnorm needs CUDA"),
    (
        {"model": {"weights": "w.pth"}, "train": {"init_from": "run"}},
        ConfigError,
        r"train\.init_from.*keep one",
    ),
]


@pytest.mark.parametrize(("sections", "kind", "match"), BAD)
def test_bad_settings_write_nothing(
    make_config: MakeConfig,
    tiny: Dataset,
    tmp_path: Path,
    sections: dict[str, Any],
    kind: type[WholesceneError],
    match: str,
) -> None:
    with pytest.raises(kind, match=match):
        fit(make_config(**sections), tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unlabelled_training_split_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"train": 1, "val": 1}, unlabelled=("train",))
    with pytest.raises(DatasetError, match="none of the 1 scenes of split 'train'"):
        fit(make_config(), dataset, tmp_path / "run")


def test_missing_statistics_name_the_command(make_config: MakeConfig, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"train": 1, "val": 1}, statistics=None)
    with pytest.raises(DatasetError, match="wholescene data stats"):
        fit(make_config(), dataset, tmp_path / "run")


def test_unavailable_device_lists_what_is_there(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="'cuda' is not available here; this machine has cpu"):
        fit(make_config(train={"device": "cuda"}), tiny, tmp_path / "run")


@pytest.mark.parametrize(
    ("asked", "names", "std"),
    [
        (None, ("red", "nir"), (20.0, 70.0)),
        (["NIR", "red"], ("nir", "red"), (70.0, 20.0)),
        ([2], ("nir",), (70.0,)),
        (["850nm"], ("nir",), (70.0,)),
    ],
)
def test_chosen_bands_bring_their_statistics(
    tmp_path: Path, asked: list[int | str] | None, names: tuple[str, ...], std: tuple[float, ...]
) -> None:
    bands = (BandSpec(name="red", wavelength_nm=665), BandSpec(name="nir", wavelength_nm=842))
    dataset = make_dataset(tmp_path, {"train": 1}, sources=(SourceSpec(bands=bands),))
    chosen = choose_bands(dataset, asked, split="train")
    architecture = Architecture(encoder="test_resnet", decoder="fcn")
    spec = describe_model(architecture, chosen, split="train", target=None)
    assert (spec.band_names, spec.std) == (names, std)
    with chosen.reader(chosen.scenes[0]) as few, dataset.reader(dataset.scenes[0]) as every:
        window = Window(row_off=0, col_off=0, height=4, width=4)
        wanted = [("red", "nir").index(name) for name in names]
        np.testing.assert_array_equal(few.read(window).values, every.read(window).values[wanted])


def test_given_statistics_take_the_place_of_the_measured(tmp_path: Path) -> None:
    chosen = choose_bands(make_dataset(tmp_path, {"train": 1}), None, split="train")
    replaced = replace_statistics(chosen, (127.5, 127.5), None)
    spec = describe_model(
        Architecture(encoder="test_resnet", decoder="fcn"), replaced, split="train", target=None
    )
    measured = chosen.spec.statistics
    assert measured is not None
    assert (spec.mean, spec.std) == ((127.5, 127.5), measured.std)


def test_unnamed_bands_are_found_by_number(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"train": 1}, named=False, sources=(SourceSpec(),))
    chosen = choose_bands(dataset, [2], split="train")
    assert chosen.spec.sources[0].bands == (BandSpec(name="band_2", index=2),)


def test_statistics_of_other_bands_are_refused(tmp_path: Path) -> None:
    statistics = Statistics(mean=(1.0,), std=(1.0,))
    dataset = make_dataset(tmp_path, {"train": 1}, statistics=statistics)
    with pytest.raises(DatasetError, match=r"statistics of 1 bands.*has 2.*data stats"):
        choose_bands(dataset, None, split="train")
