from __future__ import annotations

from pathlib import Path

import pytest

from wholescene.errors import ResumeError
from wholescene.labels import ClassTable
from wholescene.train.metrics import MetricsFile, metric_columns, read_metrics

COLUMNS = ("step", "loss", "val_miou")


def test_rows_read_back_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path, COLUMNS, keep_until=0)
    file.write({"step": 5, "loss": 0.1 + 0.2})
    file.write({"step": 10, "loss": 1e-300, "val_miou": 0.5})
    assert read_metrics(path) == [
        {"step": 5, "loss": 0.1 + 0.2},
        {"step": 10, "loss": 1e-300, "val_miou": 0.5},
    ]


def test_resume_drops_rows_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path, COLUMNS, keep_until=0)
    for step in (1, 2, 3):
        first.write({"step": step, "loss": 1.0})
    second = MetricsFile(path, COLUMNS, keep_until=2)
    second.write({"step": 3, "loss": 2.0})
    assert [(row["step"], row["loss"]) for row in read_metrics(path)] == [(1, 1), (2, 1), (3, 2)]


def test_line_cut_by_a_kill_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss,val_miou\n1,0.5,\n12,0.2")
    assert [row["step"] for row in read_metrics(path)] == [1]
    MetricsFile(path, COLUMNS, keep_until=12).write({"step": 2, "loss": 0.25})
    assert [row["step"] for row in read_metrics(path)] == [1, 2]


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    MetricsFile(path, COLUMNS, keep_until=0)
    with pytest.raises(ResumeError, match="val_iou_water"):
        MetricsFile(path, (*COLUMNS, "val_iou_water"), keep_until=0)


def test_every_class_has_a_column() -> None:
    columns = metric_columns(ClassTable.from_names(["land, dry", "water"]))
    assert columns[0] == "step"
    assert columns[-2:] == ("val_iou_land, dry", "val_iou_water")
