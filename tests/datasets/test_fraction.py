from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wholescene.datasets import Dataset, SceneRecord, draw_fraction, read_fraction, write_fraction
from wholescene.errors import DatasetError, InputError, OutputError
from wholescene.geometry import Size, Window, block_windows


@pytest.fixture
def dataset(make) -> Dataset:
    """Two labelled train scenes of 40 x 24 px, one unlabelled, and a val scene."""
    image = np.ones((2, 40, 24), np.uint8)
    label = np.ones((40, 24), np.uint8)
    part = label.copy()
    part[:16] = 0  # the upper 2 x 3 patches of 8 px hold nothing
    return make.dataset(
        make.scene("a", "train", image=image, label=label),
        make.scene("b", "train", image=image, label=part, col=30),
        SceneRecord(id="c", split="train", files={"image": (make.raster("c.tif", image, col=60),)}),
        make.scene("d", "val", image=image, label=label, col=90),
    )


def test_everything_is_drawn_from_labelled_patches_of_the_split(dataset: Dataset) -> None:
    table = draw_fraction(dataset, 1.0, patch_px=8)
    grid = tuple(block_windows(Size(40, 24), Size(8, 8)))
    assert table.windows == {"a": grid, "b": grid[6:]}
    assert table.num_labelled == 24


def test_border_patches_are_cut_off(dataset: Dataset) -> None:
    windows = draw_fraction(dataset, 1.0, patch_px=32).windows["a"]
    assert windows == (
        Window(row_off=0, col_off=0, height=32, width=24),
        Window(row_off=32, col_off=0, height=8, width=24),
    )


@pytest.mark.parametrize(("share", "number"), [(0.001, 1), (0.25, 6), (0.27, 6), (0.28, 7)])
def test_the_share_is_rounded_and_never_empty(dataset: Dataset, share: float, number: int) -> None:
    assert len(draw_fraction(dataset, share, patch_px=8).rows) == number


def test_the_draw_is_the_same_on_every_machine(dataset: Dataset) -> None:
    rows = draw_fraction(dataset, 0.2, seed=7, patch_px=8).rows
    assert [(row.scene, row.row_off, row.col_off) for row in rows] == [
        ("a", 0, 8),
        ("a", 0, 16),
        ("a", 8, 8),
        ("a", 24, 8),
        ("a", 32, 8),
    ]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**40), shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted)
)
def test_a_smaller_share_lies_within_a_larger_one(
    dataset: Dataset, seed: int, shares: list[float]
) -> None:
    small, large = (draw_fraction(dataset, f, seed=seed, patch_px=8) for f in shares)
    assert set(small.rows) <= set(large.rows)
    assert large == draw_fraction(dataset, shares[1], seed=seed, patch_px=8)


def test_seeds_draw_differently_and_evenly(dataset: Dataset) -> None:
    drawn = [frozenset(draw_fraction(dataset, 0.25, seed=s, patch_px=8).rows) for s in range(60)]
    assert len(set(drawn)) > 55
    hits = [
        sum(row in rows for rows in drawn) for row in draw_fraction(dataset, 1, patch_px=8).rows
    ]
    # 60 draws of 6 of 24: each patch 15 times, standard deviation 3.4.
    assert sum(hits) == 360
    assert min(hits) >= 4
    assert max(hits) <= 26


def test_whole_scenes_are_drawn(dataset: Dataset) -> None:
    whole = (Window(row_off=0, col_off=0, height=40, width=24),)
    assert draw_fraction(dataset, 1, by="scene").windows == {"a": whole, "b": whole}
    firsts = {
        next(iter(draw_fraction(dataset, 0.01, seed=s, by="scene").windows)) for s in range(9)
    }
    assert firsts == {"a", "b"}


@pytest.mark.parametrize("name", ["five.csv", "five.yaml", "deep/er/five.csv"])
def test_a_table_is_read_back_as_written(dataset: Dataset, tmp_path: Path, name: str) -> None:
    for by in ("patch", "scene"):
        table = draw_fraction(dataset, 0.3, seed=3, by=by, patch_px=8)
        assert read_fraction(write_fraction(table, tmp_path / name)) == table


def test_requests_out_of_range_are_refused(dataset: Dataset) -> None:
    for share in (0, -0.1, 1.01, float("nan")):
        with pytest.raises(InputError, match=f"fraction {share} is outside"):
            draw_fraction(dataset, share)
    with pytest.raises(InputError, match="seed -1 is negative"):
        draw_fraction(dataset, 0.5, seed=-1)
    with pytest.raises(InputError, match="cannot draw by 'tile'"):
        draw_fraction(dataset, 0.5, by="tile")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="patch_px 0"):
        draw_fraction(dataset, 0.5, patch_px=0)
    with pytest.raises(DatasetError, match="no split 'dev'"):
        draw_fraction(dataset, 0.5, split="dev")


def test_a_split_without_labels_cannot_be_drawn_from(make) -> None:
    empty = make.scene("a", "train", label=np.zeros((8, 8), np.uint8))
    with pytest.raises(DatasetError, match=r"'train' of .* has no labelled pixel"):
        draw_fraction(make.dataset(empty), 0.5)


HEAD = "dataset,split,by,fraction,seed,patch_px,num_labelled,scene,row_off,col_off,height,width\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'dataset' or every row is missing; make it with"),
        (HEAD, "every row is missing"),
        ("scene,row_off\na,1\n", "column 'dataset'"),
        (HEAD + "t,train,patch,2,0,8,9,a,0,0,8,8\n", r"fraction = '2': input should be less"),
        (HEAD + "t,train,patch,0.5,0,8,9,a,0,0,0,8\n", r"rows\[0\]\.height = '0': input should"),
        (
            HEAD + "t,train,patch,0.5,0,8,9,a,0,0,8,8\nt,train,patch,0.5,1,8,9,a,8,0,8,8\n",
            "row 3: belongs to another draw",
        ),
    ],
)
def test_a_file_that_is_no_subset_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_fraction(tmp_path / "t.csv")


def test_other_files_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    table = draw_fraction(dataset, 0.5)
    with pytest.raises(InputError, match=r"is a \.csv or \.yaml file"):
        write_fraction(table, tmp_path / "t.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_fraction(table, tmp_path / "file" / "t.csv")
    with pytest.raises(DatasetError, match="cannot read"):
        read_fraction(tmp_path / "none.csv")
    with pytest.raises(DatasetError, match="no file"):
        read_fraction(tmp_path / "none.yaml")
    (tmp_path / "t.yaml").write_text("by: scenes\n")
    with pytest.raises(DatasetError, match="did you mean 'scene'"):
        read_fraction(tmp_path / "t.yaml")
