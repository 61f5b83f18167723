from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from wholescene.datasets import SceneRecord, load_dataset
from wholescene.datasets.table import read_table, write_table
from wholescene.errors import DatasetError, OutputError


def read(folder: Path) -> tuple[SceneRecord, ...]:
    return read_table(folder / "scenes.csv", sources=["image"], targets=["label"], root=folder)


def test_every_column_is_read(scene_table: Callable) -> None:
    folder = scene_table(
        "label,id,image,split,group,datetime,gsd_m\n"
        "l/a.tif, a ,b4.tif; b8.tif,train,berlin,2024-05-31T10:20:00Z,0.5\n"
        "\n"
        ',b,"x, y.tif",pool,,,\n'
    )
    first, second = read(folder)
    assert first == SceneRecord(
        id="a",
        split="train",
        group="berlin",
        datetime=dt.datetime(2024, 5, 31, 10, 20, tzinfo=dt.UTC),
        gsd_m=0.5,
        files={"image": (folder / "b4.tif", folder / "b8.tif")},
        labels={"label": folder / "l" / "a.tif"},
    )
    assert second == SceneRecord(id="b", split="pool", files={"image": (folder / "x, y.tif",)})


def test_a_spreadsheet_s_byte_order_mark_is_no_part_of_the_header(scene_table: Callable) -> None:
    assert read(scene_table("\ufeffid,split,image\r\na,s,a.tif\r\n"))[0].id == "a"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", r"scenes\.csv: the file is empty; its first row names the columns"),
        ("id,split,image\n", r"scenes\.csv: no scene in the table"),
        ("id,image\na,a.tif\n", r"no column 'split' \(always needed\); it has id, image"),
        ("id,split\na,s\n", r"no column 'image' \(a source of dataset\.yaml\)"),
        ("id,split,imge\na,s,a.tif\n", r"unknown column 'imge'; did you mean 'image'\?"),
        ("id,split,id,image\na,s,b,a.tif\n", "column 'id' stands twice"),
        ("id,split,image\na,s,a.tif\nb,s,b.tif\na,v,c.tif\n", "row 4: id 'a' .* already in row 2"),
        ("id,split,image\na,,a.tif\n", "row 2: column 'split' is empty"),
        ("id,split,image\n\n\na,s,\n", "row 4: column 'image' is empty"),
        ("id,split,image\na,s,a.tif;;b.tif\n", "row 2: column 'image' has an empty path"),
        ("id,split,image\na,s+t,a.tif\n", r"row 2: split 's\+t' holds a '\+'"),
        ("id,split,image\na,s,a.tif,b.tif\n", "row 2: 4 cells for 3 columns"),
        ("id,split,image,gsd_m\na,s,a.tif,-1\n", r"row 2: gsd_m '-1' is not a number of metres"),
        ("id,split,image,gsd_m\na,s,a.tif,1m\n", "gsd_m '1m' is not a number"),
        ("id,split,image,datetime\na,s,a.tif,31.5.24\n", "datetime '31.5.24' is not ISO 8601"),
        ('id,split,image\na,s,"a"b\n', "row 2: not valid CSV"),
    ],
)
def test_a_wrong_table_is_explained_with_its_row(
    scene_table: Callable, table: str, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        read(scene_table(table))


def test_a_missing_or_unreadable_table_is_named(scene_table: Callable) -> None:
    folder = scene_table("")
    (folder / "scenes.csv").write_bytes(b"id,split,image\na,s,\xff.tif\n")
    with pytest.raises(DatasetError, match=r"cannot read scene table .*scenes\.csv"):
        load_dataset(folder)
    (folder / "scenes.csv").unlink()
    with pytest.raises(DatasetError, match=r"no scene table .*scenes\.csv; 'scenes' in"):
        load_dataset(folder)


def test_a_parquet_table_says_the_same_as_csv(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    when = dt.datetime(2024, 5, 31, tzinfo=dt.UTC)
    columns = {
        "id": ["a", "b"],
        "split": ["train", "pool"],
        "image": ["a.tif", "b.tif;c.tif"],
        "label": ["l.tif", None],
        "gsd_m": [0.5, float("nan")],
        "datetime": [when, None],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "scenes.parquet")
    rows = read_table(
        tmp_path / "scenes.parquet", sources=["image"], targets=["label"], root=tmp_path
    )
    assert rows[0].labels == {"label": tmp_path / "l.tif"}
    assert (rows[0].gsd_m, rows[0].datetime) == (0.5, when)
    assert rows[1] == SceneRecord(
        id="b", split="pool", files={"image": (tmp_path / "b.tif", tmp_path / "c.tif")}
    )
    (tmp_path / "scenes.parquet").write_bytes(b"none")
    with pytest.raises(DatasetError, match="cannot read scene table"):
        read_table(tmp_path / "scenes.parquet", sources=["image"], targets=[], root=tmp_path)


def test_only_legal_tables_are_written(tmp_path: Path) -> None:
    scene = SceneRecord(id="a", split="s", files={"image": (tmp_path / "a.tif",)})
    out = {"sources": ["image"], "targets": ["label"], "root": tmp_path}
    with pytest.raises(DatasetError, match="no scene to write"):
        write_table(tmp_path / "t.csv", [], **out)
    with pytest.raises(DatasetError, match="id 'a' stands twice"):
        write_table(tmp_path / "t.csv", [scene, scene], **out)
    with pytest.raises(DatasetError, match=r"scene 'a' has sources \['image'\]"):
        write_table(tmp_path / "t.csv", [scene], **{**out, "sources": ["optical"]})
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_table(tmp_path / "file" / "t.csv", [scene], **out)
    assert not list(tmp_path.glob("*.csv*"))
