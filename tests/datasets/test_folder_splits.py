"""Splits of one's own scenes: lists, tables, and the ones that are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from folder_world import by_split, image, mask, prepared, write

from wholescene.errors import DatasetError


def _flat(source: Path, names: list[str], *, step: float | None = None) -> None:
    for i, name in enumerate(names):
        x = None if step is None else step * i
        write(source / "images" / f"{name}.tif", image(i), x=x)
        write(source / "masks" / f"{name}.tif", mask(i), x=x)


def test_lists(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    _flat(source, ["a b", "c", "d", "e.1", "f"])
    (source / "lists").mkdir()
    (source / "lists" / "train.txt").write_bytes(b"\xef\xbb\xbfa b.tif\r\nimages\\c.tif\r\n\r\n")
    (source / "lists" / "val.txt").write_text("images/d.tif masks/d.tif\n")
    (source / "lists" / "test.txt").write_text("e.1\nunknown\n")
    dataset, notes = prepared(source)
    assert by_split(dataset) == {"train": ["a b", "c"], "val": ["d"], "test": ["e.1"]}
    assert "1 images in no list are left out (f)" in notes
    assert "1 listed names have no image (unknown)" in notes
    assert dataset.spec.split_way == "lists"


def test_table(tmp_path: Path) -> None:
    source, table = tmp_path / "mine", tmp_path / "splits.csv"
    _flat(source, ["a", "b", "c"])
    table.write_text("scene,split\na,Fold1\nb.tif,fold2\nc,\nz,Fold1\n")
    dataset, notes = prepared(source, split=str(table))
    assert by_split(dataset) == {"Fold1": ["a"], "fold2": ["b"]}
    assert "left out (c)" in notes and "no image (z)" in notes
    again, _ = prepared(source, tmp_path / "again", split=str(dataset.root / dataset.spec.scenes))
    assert by_split(again) == by_split(dataset)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,part\na,train\n", ("name, part", "scene")),
        ("scene,split\nz,train\n", ("none of the 3",)),
        ("scene,split\na,train\na,val\n", ("'train' and 'val'",)),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    _flat(tmp_path / "mine", ["a", "b", "c"])
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DatasetError) as error:
        prepared(tmp_path / "mine", split=str(tmp_path / "t.csv"))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("count", "held_out"), [(3, 1), (5, 1), (20, 3)])
def test_drawn_splits(tmp_path: Path, count: int, held_out: int) -> None:
    _flat(tmp_path / "mine", [f"s{i}" for i in range(count)])
    found = by_split(prepared(tmp_path / "mine")[0])
    assert len(found["val"]) == len(found["test"]) == held_out
    assert len(found["train"]) == count - 2 * held_out
    assert by_split(prepared(tmp_path / "mine", tmp_path / "again")[0]) == found


def test_scenes_that_share_ground_stay_together(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range(9)]
    for i, name in enumerate(names):
        x = 30.0 * (i // 3) + 8 * (i % 3)  # three chains of three; neighbours share 4 m
        write(tmp_path / "mine" / "images" / f"{name}.tif", image(i), x=x)
        write(tmp_path / "mine" / "masks" / f"{name}.tif", mask(i), x=x)
    dataset, notes = prepared(tmp_path / "mine")
    split = {scene.id: scene.split for scene in dataset.scenes}
    for first in (0, 3, 6):
        assert len({split[name] for name in names[first : first + 3]}) == 1
    assert set(split.values()) == {"train", "val", "test"}
    assert {scene.group for scene in dataset.scenes} == {"s0", "s3", "s6"}
    assert "share ground" in notes


def test_unlabelled_scenes_train(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    _flat(source, [f"s{i}" for i in range(10)])
    for i in range(4, 10):
        (source / "masks" / f"s{i}.tif").unlink()
    dataset, _ = prepared(source, partial=True)
    assert {scene.split for scene in dataset.scenes if not scene.labels} == {"train"}
    assert set(dataset.splits) == {"train", "val", "test"}


def test_edge_to_edge_scenes_share_no_ground(tmp_path: Path) -> None:
    _flat(tmp_path / "mine", [f"s{i}" for i in range(6)], step=12)
    dataset, _ = prepared(tmp_path / "mine")
    assert all(scene.group is None for scene in dataset.scenes)
