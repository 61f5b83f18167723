"""Protocols: the files that come along, what they promise, and the figures they give."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from wholescene.datasets import Dataset, DatasetSpec, SceneRecord
from wholescene.datasets.contract import ClassEntry, TargetSpec
from wholescene.datasets.prepare.splits import split_ways
from wholescene.datasets.public.recipe import Recipe, SplitTable, load_recipe, split_table_text
from wholescene.errors import InputError
from wholescene.evaluate import ConfusionTable, SceneScore, read_scores, write_scores
from wholescene.evaluate.protocol import (
    PatchRule,
    Protocol,
    load_protocol,
    protocol_names,
    store_protocol,
)
from wholescene.geometry import Size
from wholescene.labels import ClassTable
from wholescene.raster import BandSpec, SourceSpec

LABELLED = (
    "isaid",
    "potsdam",
    "vaihingen",
    "glh-water",
    "five-billion-pixels",
    "whu-ohs",
    "uavid",
    "loveda",
    "openearthmap",
    "deepglobe",
)
DOCS = Path(__file__).parents[2] / "docs" / "protocols.md"
TABLE = np.array([[50, 10, 0, 0], [5, 20, 5, 0], [2, 8, 30, 0], [0, 0, 0, 0]])
NAMES = ["road", "tree", "clutter", "car"]


def make(**changes: object) -> Protocol:
    data = {
        "name": "own",
        "dataset": "toy",
        "about": "-",
        "source": "-",
        "split": "test",
        "select_on": "val",
    }
    return Protocol.model_validate({**data, **changes})


def table() -> ConfusionTable:
    return ConfusionTable(ClassTable.from_names(NAMES), TABLE, ignored_pixels=7)


def splits_of(recipe: Recipe, way: str) -> set[str]:
    """Every split that a scene may have under a way to split."""
    table = recipe.splits or SplitTable()
    found: set[str] = set()
    if table.file is not None:
        rows = csv.DictReader(split_table_text(table.file).splitlines())
        found |= {row[way] for row in rows if way in row}
    if table.held_out is not None and table.held_out.way == way:
        official = splits_of(recipe, "official")
        found |= {table.held_out.split, *table.held_out.further}
        found |= {table.held_out.others.get(s, s) for s in official}
    for layout in recipe.layouts.values():
        found |= {*layout.lists.get(way, {})}
    return found | ({*recipe.counts} if way == "official" else set())


@pytest.mark.parametrize("name", protocol_names())
def test_protocol_fits_its_recipe(name: str) -> None:
    protocol = load_protocol(name)
    recipe = load_recipe(protocol.dataset)
    assert protocol.name == name
    assert any(protocol.split_way in split_ways(recipe, layout) for layout in recipe.layouts)
    assert {protocol.split, protocol.select_on} <= splits_of(recipe, protocol.split_way)
    assert protocol.target is None or protocol.target in recipe.targets
    assert {*protocol.named} <= {entry.name for entry in recipe.classes}
    assert protocol.variant is None or protocol.variant in recipe.ways


def test_every_labelled_dataset_has_a_strict_protocol() -> None:
    for dataset in LABELLED:
        protocol = load_protocol(f"strict-{dataset}")
        assert protocol.dataset == dataset
        assert protocol.strict
        assert protocol.scoring == "scenes"
        assert protocol.select_on != protocol.split
    strict = {name for name in protocol_names() if load_protocol(name).strict}
    assert strict == {f"strict-{dataset}" for dataset in LABELLED}


@pytest.mark.parametrize("name", protocol_names())
def test_page_names_every_protocol(name: str) -> None:
    assert f"`{name}`" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "scene", "patches"),
    [
        ("rsseg-potsdam", Size(6000, 6000), 144),
        ("rsseg-vaihingen", Size(2557, 1887), 5 * 4),
        ("rsseg-isaid", Size(2000, 896), 4),
        ("rsseg-isaid", Size(500, 300), 1),
        ("pangaea-potsdam", Size(6000, 6000), 15 * 15),
        ("glcnet-potsdam", Size(6000, 6000), 576),
    ],
)
def test_patches_are_cut_as_published(name: str, scene: Size, patches: int) -> None:
    rule = load_protocol(name).patches
    assert rule is not None
    assert len(list(rule.windows(scene))) == patches


def test_starts_of_published_patches() -> None:
    isaid, pangaea = load_protocol("rsseg-isaid").patches, load_protocol("pangaea-potsdam").patches
    assert isaid is not None
    assert pangaea is not None
    assert [w.row_off for w in isaid.windows(Size(2000, 896))] == [0, 512, 1024, 1104]
    assert max(w.col_stop for w in pangaea.windows(Size(512, 6000))) == 6000 - 112


def test_figures_leave_out_and_ignore_classes() -> None:
    # Per class: hits, true pixels, mapped pixels.
    iou = [50 / (60 + 57 - 50), 20 / (30 + 38 - 20), 30 / (40 + 35 - 30)]
    f1 = [2 * 50 / (60 + 57), 2 * 20 / (30 + 38), 2 * 30 / (40 + 35)]
    plain = make().figures(table())
    assert plain["miou"] == pytest.approx(np.mean(iou))
    assert plain["mf1"] == pytest.approx(np.mean(f1))
    assert plain["overall_accuracy"] == pytest.approx(100 / 130)
    assert make(absent="zero").figures(table())["miou"] == pytest.approx(np.sum(iou) / 4)
    assert make(absent="one").figures(table())["miou"] == pytest.approx((np.sum(iou) + 1) / 4)
    without = make(exclude=["clutter"]).figures(table())
    assert without["miou"] == pytest.approx(np.mean(iou[:2]))
    assert without["overall_accuracy"] == pytest.approx(100 / 130)
    # Without true clutter, road and tree lose the pixels that were clutter mapped as them.
    ignored = make(ignore=["clutter"]).figures(table())
    assert ignored["miou"] == pytest.approx(np.mean([50 / (60 + 55 - 50), 20 / (30 + 30 - 20)]))
    assert ignored["overall_accuracy"] == pytest.approx(70 / 90)


def test_scores_gain_the_protocol_first_and_named(tmp_path: Path) -> None:
    write_scores(tmp_path, [SceneScore(scene="a", table=table())])
    before = read_scores(tmp_path).document
    protocol = make(headline="mf1", exclude=["clutter"])
    document = store_protocol(tmp_path, protocol)
    assert document == json.loads((tmp_path / "scores.json").read_text())
    assert next(iter(document["conventions"])) == "protocol_own"
    figures = protocol.figures(table())
    assert document["protocol"]["value"] == figures["mf1"]
    assert document["protocol"]["exclude"] == ["clutter"]
    assert document["conventions"]["protocol_own"] == figures
    rest = {key: value for key, value in document.items() if key != "protocol"}
    rest["conventions"].pop("protocol_own")
    assert rest == before
    assert read_scores(tmp_path).table == table()


def test_undefined_figures_are_null(tmp_path: Path) -> None:
    empty = ConfusionTable(ClassTable.from_names(NAMES))
    write_scores(tmp_path, [SceneScore(scene="a", table=empty)])
    assert store_protocol(tmp_path, make())["protocol"]["value"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strict": True, "select_on": "test"}, "selects models on scenes that it does not score"),
        ({"strict": True, "select_on": "train+test"}, "'test' is in 'split' and in 'select_on'"),
        (
            {"strict": True, "scoring": "patches", "patches": {"size": 8, "stride": 8}},
            "scores each pixel once",
        ),
        ({"scoring": "patches"}, "belong together"),
        ({"patches": {"size": 8, "stride": 8}}, "belong together"),
        ({"exclude": ["car"], "ignore": ["car"]}, "'car' is in 'exclude' and in 'ignore'"),
    ],
)
def test_contradictions_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**changes)


def test_selecting_on_the_scored_split_is_allowed_unless_strict() -> None:
    assert make(select_on="test").select_on == "test"


def test_unknown_protocol_and_unknown_key_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'rsseg-potsdam'"):
        load_protocol("rseg-potsdam")
    with pytest.raises(InputError, match="no protocol at"):
        load_protocol(tmp_path / "own.yaml")
    own = tmp_path / "own.yaml"
    own.write_text("name: own\ndataset: toy\nabout: x\nsource: x\nsplt: test\nselect_on: val\n")
    with pytest.raises(InputError, match=r"line 5: splt is no key here; did you mean 'split'"):
        load_protocol(own)
    own.write_text(own.read_text().replace("splt", "split"))
    assert load_protocol(own).split == "test"


def dataset(**changes: object) -> Dataset:
    data = {
        "name": "potsdam",
        "classes": [ClassEntry(id=i, name=name) for i, name in enumerate([*NAMES, "building"])],
        "sources": [SourceSpec(bands=tuple(BandSpec(name=n) for n in ("red", "green", "blue")))],
        "targets": [TargetSpec(name="eroded"), TargetSpec(name="full")],
        "split_way": "official",
    }
    scene = SceneRecord(id="2_13", split="val", files={"image": (Path("a.tif"),)})
    return Dataset(DatasetSpec.model_validate({**data, **changes}), Path("data"), (scene,))


def test_dataset_that_fits_is_accepted() -> None:
    load_protocol("rsseg-potsdam").check(dataset())


@pytest.mark.parametrize(
    ("protocol", "changes", "said"),
    [
        ("rsseg-potsdam", {"name": "vaihingen"}, "protocols for it are geoseg-vaihingen, rsseg"),
        ("rsseg-potsdam", {"name": "mine"}, "no protocol is for it"),
        ("strict-potsdam", {}, r"way to split 'strict', but .* 'official'.*--split strict"),
        ("rsseg-potsdam", {"split_way": None}, "split_way None"),
        ("rsseg-potsdam", {"targets": [TargetSpec(name="full")]}, "no target 'eroded'"),
        (
            "rsseg-potsdam",
            {"sources": [SourceSpec(bands=(BandSpec(name="nir"), BandSpec(name="red")))]},
            r"'rgb' of potsdam \(red, green, blue\), but .* has nir, red.*--variant rgb",
        ),
        (
            "geoseg-potsdam",
            {"classes": [ClassEntry(id=0, name="road")]},
            "leaves out class 'clutter', but .* has road",
        ),
    ],
)
def test_dataset_that_does_not_fit_is_refused(protocol: str, changes: dict, said: str) -> None:
    kind = "eroded" if "targets" in changes else None
    error = Exception if kind else InputError
    with pytest.raises(error, match=said):
        load_protocol(protocol).check(dataset(**changes))


def test_patch_rule_of_a_scene_smaller_than_a_patch() -> None:
    rule = PatchRule(size=8, stride=4, drop_remainder=True)
    (window,) = rule.windows(Size(5, 8))
    assert (window.row_off, window.col_off, window.height, window.width) == (0, 0, 8, 8)
