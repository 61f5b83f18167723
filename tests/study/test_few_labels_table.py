"""Means, spreads, pairs and the plot of a few-label study, by hand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from wholescene.config import StudyConfig
from wholescene.study.few_labels_plot import draw_study
from wholescene.study.few_labels_results import CellResult, PretrainingResult, StudyResult
from wholescene.study.few_labels_table import summarise_study, write_tables

STUDY = StudyConfig.model_validate(
    {
        "dataset": "d",
        "finetune": "f",
        "methods": {"moco": {"pretrain": "m"}},
        "pool": "train+test",
        "about": "<Budget> & more.",
    }
)
MOCO = PretrainingResult(
    name="moco", method="moco", folder="moco-1", config_hash="1", steps=9, seconds=60.0
)


def cell(method: str, draw: int, miou: float | None, *, by: str = "patch", fraction: float = 0.1):
    return CellResult(
        method=method,
        baseline=None if method == "random" else "random",
        encoder="resnet18",
        by=by,
        fraction=fraction,
        draw=draw,
        repeat=0,
        labels=7,
        seed=draw,
        config_hash="",
        folder=f"{method}-{draw}",
        pretraining=None if method == "random" else "moco-1",
        steps=5,
        miou=miou,
        overall_accuracy=miou,
        val_miou=miou,
        seconds=None if miou is None else 10.0 + draw,
        failure="diverged" if miou is None else None,
    )


def result(*cells: CellResult, superseded: tuple[CellResult, ...] = ()) -> StudyResult:
    return StudyResult(study=STUDY, pretrainings={"moco": MOCO}, cells=cells, superseded=superseded)


CELLS = (
    *(cell("random", draw, score) for draw, score in enumerate((0.2, 0.5, 0.8))),
    *(cell("moco", draw, score) for draw, score in enumerate((0.3, 0.7, 0.8))),
)


def test_differences_are_of_pairs() -> None:
    random, moco = summarise_study(result(*CELLS))
    assert (random["method"], random["difference"], random["pairs"]) == ("random", None, 0)
    assert random["miou"] == pytest.approx(50)
    assert random["spread"] == pytest.approx(30)
    # Differences 10, 20, 0: their spread is not that of the scores.
    assert moco["difference"] == pytest.approx(10)
    assert moco["difference_spread"] == pytest.approx(10)
    assert (moco["pairs"], moco["runs"], moco["failed"]) == (3, 3, 0)
    assert (moco["pretraining_seconds"], moco["finetuning_seconds"]) == (60.0, 11.0)
    assert random["pretraining_seconds"] is None


def test_a_failed_run_is_counted_and_makes_no_pair() -> None:
    found = (*CELLS[:5], cell("moco", 2, None))
    moco = summarise_study(result(*found))[1]
    assert (moco["runs"], moco["failed"], moco["pairs"]) == (3, 1, 2)
    assert moco["miou"] == pytest.approx(50)
    assert moco["difference"] == pytest.approx(15)
    early = summarise_study(result(cell("moco", 0, None)))[0]
    assert (early["miou"], early["spread"], early["difference"]) == (None, None, None)


def test_kinds_and_fractions_are_not_mixed() -> None:
    cells = (
        cell("random", 0, 0.1, by="scene"),
        cell("random", 0, 0.3, fraction=1.0),
        cell("moco", 0, 0.5),
    )
    rows = summarise_study(result(*cells))
    assert [(row["by"], row["fraction"], row["miou"]) for row in rows] == [
        ("patch", 0.1, 50.0),
        ("patch", 1.0, 30.0),
        ("scene", 0.1, 10.0),
    ]
    assert rows[0]["difference"] is None  # no partner there


def test_tables_say_what_was_done(tmp_path: Path) -> None:
    old = cell("moco", 9, 0.9)
    text = write_tables(tmp_path, result(*CELLS, superseded=(old,)))
    assert [line.split()[0] for line in text.splitlines()] == ["method", "random", "moco"]
    page = (tmp_path / "few-labels.html").read_text()
    assert "&lt;Budget&gt; &amp; more." in page
    assert "holds the scored scenes" in page  # the pool has the test split in it
    assert "moco-9" in page and "superseded" in page
    assert len((tmp_path / "few-labels-attempts.csv").read_text().splitlines()) == 1 + 7


def test_the_plot_shows_means_and_spreads() -> None:
    rows = summarise_study(result(*CELLS, cell("random", 0, 0.9, fraction=1.0)))
    root = ET.fromstring(draw_study(rows))
    name = "{http://www.w3.org/2000/svg}"
    dots = root.findall(f"{name}circle")
    assert len(dots) == 3 + 1  # scores above, the one row with pairs below
    bars = [bar for bar in root.findall(f"{name}line") if bar.get("class") == "bar"]
    assert len(bars) == 3  # a single run has no spread
    texts = [text.text for text in root.findall(f"{name}text")]
    assert {"10 %", "100 %", "random", "moco"} <= set(texts)
    # The scale is linear: 0 and 50 lie as far apart as 50 and 100.
    first = [t for t in root.findall(f"{name}text") if re.fullmatch(r"\d+", t.text or "")]
    height = {t.text: float(str(t.get("y"))) for t in first if float(str(t.get("y"))) < 280}
    assert height["0"] - height["40"] == pytest.approx(height["40"] - height["80"], abs=0.2)
    middle = next(
        dot for dot in dots if (dot.find(f"{name}title").text or "").startswith("random: 50")
    )
    assert float(str(middle.get("cy"))) + 4 == pytest.approx(
        (height["40"] + height["60"]) / 2, abs=0.2
    )
