"""The page as a reader's browser sees it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wholescene.errors import InputError
from wholescene.evaluate import (
    EvaluatedScene,
    build_report,
    score_map,
    write_evaluation,
    write_scores,
)
from wholescene.labels import ClassTable

WriteRaster = Callable[..., Path]

METRICS = """step,epoch,loss,lr,seconds,val_miou,val_iou_land
1,0,2.5,1e-3,0.1,,
2,0,1.5,9e-4,0.2,0.25,0.5
3,1,0.75,8e-4,0.3,,
4,1,0.5,7e-4,0.4,0.625,0.75
5,1,0."""


class Page(HTMLParser):
    """Collects text, tags and attributes; fails on tags that do not close in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def values(self, tag: str, name: str) -> list[str]:
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]

    def pictures(self) -> list[np.ndarray]:
        sources = [source.split(",", 1)[1] for source in self.values("img", "src")]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(s)))) for s in sources]


@pytest.fixture
def evaluated(tmp_path: Path, classes: ClassTable, write_raster: WriteRaster) -> Path:
    """An evaluation of two scenes, the second too large for its overview."""
    folder = tmp_path / "evaluation"
    entries, scored = [], []
    for name, height, width in (("small", 40, 60), ("large", 700, 600)):
        truth = np.zeros((height, width), np.uint8)
        truth[:, width // 2 :] = 1
        truth[:4] = 255
        guess = truth.copy()
        guess[guess == 255] = 0
        guess[-10:, :20] = 2
        guess[4:6, :10] = 255
        ramp = np.linspace(0, 4000, height * width).reshape(1, height, width)
        image = np.repeat(ramp, 4, axis=0).astype(np.uint16)
        files = [
            write_raster(f"evaluation/{kind}/{name}.tif", pixels)
            for kind, pixels in (("images", image), ("labels", truth), ("maps", guess))
        ]
        entries.append(EvaluatedScene(id=name, image=(files[0],), label=files[1], map=files[2]))
        scored.append(score_map(files[1], files[2], classes, scene=name, boundary_px=2))
    write_scores(folder, scored, resamples=50)
    write_evaluation(folder, entries, dataset="toy", split="test", classes=classes, model="unet")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("optim:\n  lr: 1e-3  # <fast> & loose\n")
    (folder / "metrics.csv").write_text(METRICS)
    facts = {"seed": 7, "versions": {"torch": "2.10.0"}, "starts": [{"step": 0}, {"step": 3}]}
    (folder / "environment.json").write_text(json.dumps(facts))
    return folder


def test_evaluation_page_shows_every_score(evaluated: Path) -> None:
    page = Page(build_report(evaluated))
    document = json.loads((evaluated / "scores.json").read_text())
    for figure in ("miou", "overall_accuracy", "mf1"):
        assert f" {100 * document[figure]:.1f} " in page.text
    assert f"{document['kappa']:.3f}" in page.text
    for name, row in document["per_class"].items():
        assert name in page.text
        assert f"{row['support']:,}" in page.text
    for scene in document["scenes"]:
        assert f"{scene['scored_pixels']:,} {scene['ignored_pixels']:,} 20" in page.text
    for convention in document["conventions"]:
        assert convention in page.text
    assert f" {100 * document['boundary']['mean_iou']:.1f} mean, bands of 2 px" in page.text


def test_confusion_counts_stand_in_the_tooltips_and_shares_in_the_cells(evaluated: Path) -> None:
    page = Page(build_report(evaluated))
    document = json.loads((evaluated / "scores.json").read_text())
    lost = document["confusion"][0][2]
    support = document["per_class"]["land"]["support"]
    assert lost == 400
    assert f"land mapped as road: 400 of {support:,} px" in page.text
    assert f"land not mapped: 40 of {support:,} px" in page.text
    opacities = page.values("rect", "fill-opacity")
    assert f"{document['confusion'][0][0] / support:.3f}" in opacities
    assert f"{(lost / support) ** 0.5:.3f}" in opacities


def test_page_needs_nothing_from_outside(evaluated: Path, run: Path) -> None:
    for folder in (evaluated, run, evaluated.parent):
        page = Page(build_report(folder))
        assert not re.search(r"https?:|//[a-z]|@import|url\(", page.source)
        assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
        assert not [name for _, name, _ in page.attributes if name.startswith("on")]
        assert all(src.startswith("data:image/png;base64,") for src in page.values("img", "src"))


def test_pictures_show_scene_label_map_and_errors(evaluated: Path, classes: ClassTable) -> None:
    page = Page(build_report(evaluated))
    image, label, label_map, errors = page.pictures()[:4]
    assert image.shape == (40, 60, 3)
    assert image[0, 0].max() < image[20, 30].max() < image[-1, -1].max()
    assert label[0, 0].tolist() == [0, 0, 0, 0]
    assert label[20, 5].tolist() == [*classes.colors[0], 255]
    assert label_map[-1, 0].tolist() == [*classes.colors[2], 255]
    assert label_map[4, 0].tolist() == [0, 0, 0, 0]
    red, amber = [214, 39, 40], [240, 170, 30]
    assert errors[-1, 0].tolist() == red
    assert errors[4, 0].tolist() == amber
    wrong = (errors == red).all(axis=2) | (errors == amber).all(axis=2)
    assert wrong.sum() == 10 * 20 + 2 * 10


def test_large_scene_also_shows_its_most_wrong_window(evaluated: Path) -> None:
    page = Page(build_report(evaluated))
    assert len(page.pictures()) == 4 + 8
    assert "Most wrong 512 px: rows 188 to 699, columns 0 to 511; 0.1 %" in page.text
    assert [picture.shape[:2] for picture in page.pictures()[8:]] == [(512, 512)] * 4
    assert max(page.pictures()[4].shape[:2]) == 420


def test_most_wrong_window_stays_inside_a_thinned_scene(
    tmp_path: Path, classes: ClassTable, write_raster: WriteRaster
) -> None:
    guess = np.zeros((1400, 30), np.uint8)
    guess[888:] = 1
    label = write_raster("label.tif", np.zeros((1400, 30), np.uint8))
    label_map = write_raster("map.tif", guess)
    entry = EvaluatedScene(id="tall", image=(), map=label_map, label=label)
    write_evaluation(tmp_path, [entry], dataset="toy", split="test", classes=classes)
    assert "rows 888 to 1,399, columns 0 to 29; 100.0 %" in Page(build_report(tmp_path)).text


def test_largest_errors_are_listed_without_the_hits(evaluated: Path) -> None:
    text = Page(build_report(evaluated)).text
    support = json.loads((evaluated / "scores.json").read_text())["per_class"]["land"]["support"]
    listed = f"land road 400 {40_000 / support:.1f} land not mapped 40 {4000 / support:.1f} Rows"
    assert f"Largest errors Truth Mapped as Pixels % of truth {listed}" in text


def test_run_page_shows_curves_facts_and_config(run: Path) -> None:
    page = Page(build_report(run))
    assert "best mIoU 62.5 at step 4" in page.text
    assert page.tags["svg"] == 4  # loss, validation, IoU by class, learning rate
    assert "loss: 0.5 at 4" in page.text
    assert "land: 0.75 at 4" in page.text
    assert "versions.torch 2.10.0" in page.text
    assert "starts.2.step 3" in page.text
    assert "lr: 1e-3 # <fast> & loose" in page.text
    assert "Confusion" not in page.text


def test_folder_of_run_and_evaluation_gives_one_page(evaluated: Path, run: Path) -> None:
    page = Page(build_report(evaluated.parent, evaluated.parent / "deep" / "page.html"))
    assert "toy, test split" in page.text
    assert "Training run run" in page.text


def test_text_of_users_is_escaped(tmp_path: Path, write_raster: WriteRaster) -> None:
    evil = '<script>alert("x")</script>'
    table = ClassTable.from_names([evil, "b&w"])
    raster = write_raster("label.tif", np.array([[0, 1]], np.uint8))
    write_scores(tmp_path, [score_map(raster, raster, table, scene=evil)])
    entry = EvaluatedScene(id=evil, image=(tmp_path / "<i>.tif",), map=raster, label=raster)
    write_evaluation(tmp_path, [entry], dataset=evil, split="a&b", classes=table, model=evil)
    page = Page(build_report(tmp_path))
    assert page.tags["script"] == 0
    assert page.text.count(evil) > 5
    assert "b&w" in page.text


def test_missing_image_is_named_and_the_rest_still_shown(evaluated: Path) -> None:
    (evaluated / "images" / "small.tif").unlink()
    page = Page(build_report(evaluated))
    assert re.search(r"No image: .*images/small\.tif", page.text)
    assert len(page.pictures()) == 3 + 8


def test_missing_map_is_named(evaluated: Path) -> None:
    (evaluated / "maps" / "small.tif").unlink()
    assert re.search(r"maps/small\.tif", Page(build_report(evaluated)).text)


def test_split_without_labels_shows_its_maps(
    tmp_path: Path, classes: ClassTable, write_raster: WriteRaster
) -> None:
    raster = write_raster("map.tif", np.zeros((30, 30), np.uint8))
    entry = EvaluatedScene(id="a", image=(raster,), map=raster)
    write_evaluation(tmp_path, [entry], dataset="toy", split="test", classes=classes)
    page = Page(build_report(tmp_path))
    assert page.values("img", "alt") == ["Image", "Map"]


def test_only_the_worst_scenes_of_many_are_shown(
    tmp_path: Path, classes: ClassTable, write_raster: WriteRaster
) -> None:
    label = write_raster("label.tif", np.zeros((10, 10), np.uint8))
    entries, scored = [], []
    for number in range(12):
        guess = np.zeros((10, 10), np.uint8)
        guess[:number] = 1
        path = write_raster(f"map{number}.tif", guess)
        scored.append(score_map(label, path, classes, scene=f"scene {number:02d}"))
        entries.append(EvaluatedScene(id=f"scene {number:02d}", image=(), map=path, label=label))
    write_scores(tmp_path, scored, resamples=10)
    write_evaluation(tmp_path, entries, dataset="toy", split="test", classes=classes)
    page = Page(build_report(tmp_path))
    assert "8 of 12 scenes, lowest mIoU first" in page.text
    assert page.text.count("scene 11") == 2  # table and maps
    assert page.text.count("scene 00") == 1  # table only


def test_same_files_give_the_same_page(evaluated: Path) -> None:
    first = build_report(evaluated).read_bytes()
    assert build_report(evaluated).read_bytes() == first


def test_folder_without_anything_to_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hold no config.yaml, metrics.csv, scores.json"):
        build_report(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        build_report(tmp_path / "nowhere")
