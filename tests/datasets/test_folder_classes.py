"""Classes of one's own labels, from class files and from the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folder_world import image, label_ids, mask, prepared, write
from numpy.typing import NDArray

from wholescene.errors import DatasetError


def _pair(source: Path, pixels: NDArray[Any], **settings: Any) -> None:
    write(source / "images" / "a.tif", image(size=pixels.shape[-1]))
    write(source / "masks" / "a.png", pixels, **settings)


CLASS_FILES = {
    "c.yaml": "- land\n- water\n",
    "ids.yaml": "# ours\n0: land\n1: water\n",
    "entries.yaml": "classes:\n  - {id: 0, name: land, color: [1, 2, 3]}\n  - {id: 1, name: water}",
    "start.yaml": "---\n- name: land\n- name: water\n",
    "c.json": '{"0": "land", "1": "water"}',
    "list.json": '[{"id": 0, "name": "land"}, {"id": 1, "name": "water"}]',
    "c.csv": "id,name\n0,land\n1,water\n",
    "bare.csv": "0,land\n1,water\n",
    "color.csv": 'id,name,color\n0,land,"1,2,3"\n1,water,#0000ff\n',
    "class_dict.csv": "name,r,g,b\nland,1,2,3\nwater,0,0,255\n",
    "c.txt": "land\nwater\n",
}


@pytest.mark.parametrize("name", CLASS_FILES)
def test_class_files(tmp_path: Path, name: str) -> None:
    _pair(tmp_path / "mine", mask(values=(0, 1)))
    file = tmp_path / name
    file.write_text(CLASS_FILES[name])
    dataset, _ = prepared(tmp_path / "mine", classes=file)
    assert dataset.classes.names == ("land", "water")
    assert dataset.classes.ids == (0, 1)
    if "1, 2, 3" in CLASS_FILES[name] or "1,2,3" in CLASS_FILES[name]:
        assert dataset.classes.colors[0] == (1, 2, 3)
    if "#0000ff" in CLASS_FILES[name]:
        assert dataset.classes.colors[1] == (0, 0, 255)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.yaml", "- {id: 0, name: land}\n- {id: x, name: water}\n", ("class 2", "id")),
        ("c.yaml", "- land\n- {id: 1, name: water}\n", ("all or none",)),
        ("c.yaml", "a: [b\n", ("line 1",)),
        ("c.yaml", "", ("no class",)),
        ("c.yaml", "- {name: a, color: [1, 2]}", ("color",)),
        ("c.xls", "land", (".xls",)),
    ],
)
def test_bad_class_files(tmp_path: Path, name: str, text: str, words: tuple[str, ...]) -> None:
    _pair(tmp_path / "mine", mask(values=(0, 1)))
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError) as error:
        prepared(tmp_path / "mine", classes=tmp_path / name)
    for word in (*words, name):
        assert word in str(error.value)


def test_zero_and_255(tmp_path: Path) -> None:
    pixels = mask(values=(0, 255))
    _pair(tmp_path / "mine", pixels)
    dataset, notes = prepared(tmp_path / "mine")
    assert dataset.classes.names == ("background", "foreground")
    assert np.array_equal(label_ids(dataset, "a"), pixels == 255)
    assert "255 is foreground" in notes


def test_ignored_255(tmp_path: Path) -> None:
    pixels = mask(values=(0, 1, 255))
    _pair(tmp_path / "mine", pixels)
    dataset, _ = prepared(tmp_path / "mine", ignore_id=255)
    assert dataset.classes.ids == (0, 1)
    assert np.array_equal(label_ids(dataset, "a"), pixels)
    assert "--ignore-id 255" in prepared(tmp_path / "mine", tmp_path / "again")[1]


def test_grey_in_three_bands(tmp_path: Path) -> None:
    pixels = mask(values=(0, 255))
    _pair(tmp_path / "mine", np.stack([pixels] * 3))
    dataset, notes = prepared(tmp_path / "mine")
    assert np.array_equal(label_ids(dataset, "a"), pixels == 255)
    assert "three equal bands" in notes


def test_palette_gives_colors(tmp_path: Path) -> None:
    palette = {0: (9, 8, 7), 1: (10, 20, 30), 2: (200, 0, 0)}
    _pair(tmp_path / "mine", mask(), palette=palette)
    assert prepared(tmp_path / "mine")[0].classes.colors == tuple(palette.values())


COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 0]], np.uint8)


def test_colors_need_names(tmp_path: Path) -> None:
    ids = mask()
    _pair(tmp_path / "mine", COLORS[ids].transpose(2, 0, 1))
    with pytest.raises(DatasetError) as error:
        prepared(tmp_path / "mine")
    text = str(error.value)
    assert f"(255, 0, 0) ({(ids == 0).sum()} px)" in text
    # What the error shows works as a class file.
    (tmp_path / "classes.yaml").write_text(text[text.index("- {id") :])
    dataset, _ = prepared(tmp_path / "mine", classes=tmp_path / "classes.yaml")
    order = [dataset.classes.colors.index(tuple(color)) for color in COLORS.tolist()]
    assert np.array_equal(label_ids(dataset, "a"), np.array(order)[ids])


def test_ignored_color(tmp_path: Path) -> None:
    ids = mask()
    _pair(tmp_path / "mine", COLORS[ids].transpose(2, 0, 1))
    (tmp_path / "mine" / "class_dict.csv").write_text(
        "id,name,r,g,b\n0,roof,255,0,0\n1,tree,0,255,0\n255,void,0,0,0\n"
    )
    dataset, notes = prepared(tmp_path / "mine", ignore_id=255)
    assert dataset.classes.names == ("roof", "tree")
    assert np.array_equal(label_ids(dataset, "a"), np.array([0, 1, 255])[ids])
    assert "class_dict.csv" in notes
