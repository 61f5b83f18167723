from __future__ import annotations

import json
from pathlib import Path

import pytest

from wholescene.errors import InputError
from wholescene.evaluate.index import EvaluatedScene, read_evaluation, write_evaluation
from wholescene.labels import ClassTable


def test_evaluation_reads_back_as_written(tmp_path: Path, classes: ClassTable) -> None:
    inside, outside = tmp_path / "eval" / "maps" / "a.tif", tmp_path / "data" / "a.tif"
    scenes = [
        EvaluatedScene(id="a", image=(outside, tmp_path / "b.tif"), map=inside, label=outside),
        EvaluatedScene(id="b", image=(outside,), map=inside),
    ]
    write_evaluation(tmp_path / "eval", scenes, dataset="toy", split="test", classes=classes)
    found = read_evaluation(tmp_path / "eval")
    assert found.scenes == tuple(scenes)
    assert (found.dataset, found.split, found.classes) == ("toy", "test", classes)


def test_files_inside_the_folder_are_stored_relative_so_that_it_can_move(tmp_path: Path) -> None:
    folder = tmp_path / "eval"
    scene = EvaluatedScene(id="a", image=(tmp_path / "a.tif",), map=folder / "maps" / "a.tif")
    path = write_evaluation(folder, [scene], dataset="toy", split="test")
    stored = json.loads(path.read_text())["scenes"][0]
    assert stored["map"] == "maps/a.tif"
    assert stored["image"] == [(tmp_path / "a.tif").as_posix()]
    assert stored["label"] is None
    folder.rename(tmp_path / "moved")
    moved = read_evaluation(tmp_path / "moved").scenes[0]
    assert moved.map == tmp_path / "moved" / "maps" / "a.tif"


def test_an_image_may_be_one_path(tmp_path: Path) -> None:
    entry = {"id": "a", "image": "a.tif", "map": "m.tif"}
    document = {"dataset": "toy", "split": "test", "scenes": [entry]}
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    (scene,) = read_evaluation(tmp_path).scenes
    assert scene.image == (tmp_path / "a.tif",)
    assert read_evaluation(tmp_path).classes is None


def test_missing_or_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"evaluation\.json does not exist"):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"dataset": "toy", "split": "test"}')
    with pytest.raises(InputError, match="lacks 'scenes'"):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(InputError, match="cannot be read"):
        read_evaluation(tmp_path)
