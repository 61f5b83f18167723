"""The figures of ``benchmarks/refiner.py``, counted by hand."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from wholescene.datasets import (
    ClassEntry,
    Dataset,
    DatasetSpec,
    SceneRecord,
    load_dataset,
    write_dataset,
)
from wholescene.geometry import Size
from wholescene.raster import BandSpec, SourceSpec, StripWriter

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def write(path: Path, ids: np.ndarray) -> Path:
    grid = {"size": Size(*ids.shape), "transform": Affine(1, 0, 0, 0, -1, 0), "crs": "EPSG:32633"}
    with StripWriter(path, bands=1, dtype="uint8", **grid) as writer:
        writer.write(0, ids[None].astype(np.uint8))
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Objects of 1, 4 and 16 px in each of two scenes."""
    scenes = []
    for number in range(2):
        label = np.zeros((12, 12), np.uint8)
        label[0, number] = label[3:5, 3:5] = label[7:11, 7:11] = 1
        image = write(tmp_path / f"{number}.tif", label)
        labels = {"label": write(tmp_path / f"{number}_label.tif", label)}
        scenes.append(
            SceneRecord(id=str(number), split="test", files={"image": (image,)}, labels=labels)
        )
    spec = DatasetSpec(
        name="toy",
        classes=(ClassEntry(id=0, name="land"), ClassEntry(id=1, name="building")),
        sources=(SourceSpec(bands=(BandSpec(name="grey"),)),),
    )
    return load_dataset(write_dataset(spec, scenes, tmp_path))


def test_scores_are_those_of_all_scenes(dataset: Dataset, tmp_path: Path, script: Any) -> None:
    study = script("refiner_data").Study("toy", dataset, "test", "building", (4,))
    maps = {}
    for number in range(2):
        found = np.zeros((12, 12), np.uint8)
        found[3, 3:5] = found[7:11, 7:11] = 1
        found[11, 0] = number  # one false pixel in one scene
        maps[str(number)] = write(tmp_path / f"map{number}.tif", found)
    scores = study.score(maps)
    assert scores["class_recall"] == 36 / 42
    assert scores["class_iou"] == 36 / 43
    assert scores["small_recall"] == 4 / 10
    assert scores["small_iou"] == 4 / 11
    assert scores["small_found"] == 2 / 4
    assert [group["objects"] for group in scores["groups"]] == [4, 2]


def test_the_smallest_third_is_that_of_the_scored_scenes(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, script: Any
) -> None:
    module = script("refiner_data")
    monkeypatch.setattr(Dataset, "split", lambda self, name: self.scenes)
    assert module.kampala(dataset.path).edges == (1, 4)


def test_differences_are_paired_by_seed(script: Any) -> None:
    module = script("refiner")
    ours = [dict.fromkeys(module.METRICS, share) for share in (0.5, 0.7)]
    theirs = [dict.fromkeys(module.METRICS, share) for share in (0.4, 0.8)]
    found = module.differences(ours, theirs)["small_iou"]
    assert found == {"each": [10.0, -10.0], "mean": 0.0, "spread": 14.14}


@pytest.mark.parametrize("name", ["vehicles", "kampala"])
def test_ways_cost_the_same_training_and_begin_alike(
    name: str, dataset: Dataset, tmp_path: Path, script: Any
) -> None:
    module, study = script("refiner"), script("refiner_data").Study
    args = argparse.Namespace(work=tmp_path, seconds=90.0, fine_seconds=30.0, seeds=[0, 1])
    bench, made = module.Bench(args), study(name, dataset, "test", "building", ())
    pace = bench.work / name / "pace.json"
    pace.parent.mkdir()
    pace.write_text('{"plain": 0.5, "refined": 1.5}')
    steps = {way: bench.steps(made, way) for way in module.WAYS[:4]}
    assert steps == {"coarse": 180, "refined": 20, "refined warm": 20, "longer": 240}
    seconds = steps["coarse"] * 0.5 + steps["refined"] * 1.5
    assert seconds == steps["longer"] * 0.5
    coarse, warm = (bench.config(made, way, 1, 20) for way in ("coarse", "refined warm"))
    assert coarse.model.refine is None
    assert coarse.train.init_from is None
    assert warm.train.init_from == bench.folder(made, "coarse", 1).resolve() / "run"
    assert warm.model.refine is not None
    assert warm.model.refine.weights == str(warm.train.init_from)
    assert (warm.train.init_part, warm.train.seed, warm.train.device) == ("all", 1, "cpu")
    plain = bench.config(made, "refined", 1, 20).model
    assert (plain.encoder, plain.decoder_options) == (
        coarse.model.encoder,
        coarse.model.decoder_options,
    )
