"""``evaluate`` under a protocol, through the command line."""

import json
from pathlib import Path

import pytest
import yaml
from toy_study import make_dataset, make_model

from wholescene.cli import app
from wholescene.datasets import Dataset
from wholescene.datasets.public.recipe import load_recipe
from wholescene.errors import InputError
from wholescene.evaluate import read_scores
from wholescene.evaluate.objects import object_table, score_sizes
from wholescene.evaluate.protocol import load_protocol
from wholescene.models import save_model
from wholescene.study.evaluation import evaluate_split

SCENES = {"2_10": ("train", (64, 64)), "2_13": ("val", (70, 64)), "2_14": ("val", (64, 90))}


def potsdam(root: Path, **changes: object) -> Dataset:
    recipe = load_recipe("potsdam")
    return make_dataset(
        root,
        **{
            "name": "potsdam",
            "classes": {entry.id: entry.name for entry in recipe.classes},
            "scenes": SCENES,
            "targets": ("eroded", "full"),
            **changes,
        },
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    found = potsdam(tmp_path_factory.mktemp("potsdam"))
    save_model(make_model(found), found.root / "model")
    return found


def run(capsys: pytest.CaptureFixture, dataset: Dataset, *command: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``evaluate``."""
    given = ("--dataset", dataset.path, "--model", dataset.root / "model", "--device", "cpu")
    with pytest.raises(SystemExit) as stop:
        app(["evaluate", *map(str, (*given, *command))])
    return stop.value.code, *capsys.readouterr()


def test_protocol_of_whole_scenes(dataset: Dataset, capsys, tmp_path: Path) -> None:
    code, text, _ = run(capsys, dataset, "--protocol", "geoseg-potsdam", "--out", tmp_path)
    assert code == 0
    document = json.loads((tmp_path / "scores.json").read_text())
    assert [scene["id"] for scene in document["scenes"]] == ["2_13", "2_14"]
    protocol = load_protocol("geoseg-potsdam")
    figures = protocol.figures(read_scores(tmp_path).table)
    assert document["protocol"]["value"] == figures["miou"]
    note, first, *rest = text.splitlines()
    assert note.startswith("note: 2 of the 14 scenes")
    assert first.startswith(f"protocol geoseg-potsdam: mIoU {100 * figures['miou']:.2f} (published")
    assert "UNetFormer 86.52" in first
    shown = [line.split(" ")[0] for line in rest]
    assert {*document["conventions"]} <= {*shown}
    assert shown[shown.index("convention") + 1] == "protocol_geoseg-potsdam"
    assert (tmp_path / "maps" / "2_13.tif").exists()
    assert "protocol_geoseg-potsdam" in (tmp_path / "report.html").read_text()
    # The eroded labels are scored, not the full ones, which are other random squares here.
    plain, _ = evaluate_split(
        dataset.path, dataset.root / "model", tmp_path / "plain", split="val", device="cpu"
    )
    assert plain["confusion"] == document["confusion"]
    assert "protocol" not in plain


def test_objects_by_size_of_whole_scenes(dataset: Dataset, capsys, tmp_path: Path) -> None:
    """The model knows nothing, so what matters is which labels and maps are compared."""
    sizes = ("--object-sizes", "25,60")
    code, text, _ = run(
        capsys, dataset, "--protocol", "geoseg-potsdam", *sizes, "--out", tmp_path / "out"
    )
    assert code == 0
    document = json.loads((tmp_path / "out" / "scores.json").read_text())
    protocol = load_protocol("geoseg-potsdam")
    for name, groups in document["objects"]["per_class"].items():
        tables = [
            object_table(
                scene.labels[protocol.target],
                tmp_path / "out" / "maps" / f"{scene.id}.tif",
                dataset.classes,
                name,
            )
            for scene in dataset.split("val")
        ]
        wanted = score_sizes(tables[0] + tables[1], (25, 60))
        assert [group["objects"] for group in groups] == [each.objects for each in wanted]
        assert [group["iou"] for group in groups] == [each.iou for each in wanted]
    assert sum(g["objects"] for g in document["objects"]["per_class"]["car"]) > 10
    line = next(line for line in text.splitlines() if line.startswith("car") and " 26-60 " in line)
    assert int(line.split()[2]) == document["objects"]["per_class"]["car"][1]["objects"]
    assert "Objects by size" in (tmp_path / "out" / "report.html").read_text()


def test_sizes_are_refused_before_anything_is_mapped(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="object sizes 5, 5 do not rise"):
        evaluate_split(
            dataset.path, dataset.root / "model", tmp_path / "out", split="val", object_sizes=(5, 5)
        )
    assert not (tmp_path / "out").exists()


def test_protocol_takes_the_target_it_names(dataset: Dataset, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    rules = {"name": "own", "dataset": "potsdam", "about": "-", "source": "-"}
    rules |= {"split": "val", "select_on": "train", "erode_px": 2}
    tables = {}
    for target in ("eroded", "full"):
        own.write_text(yaml.safe_dump({**rules, "target": target}))
        document, _ = evaluate_split(
            dataset.path, dataset.root / "model", tmp_path / target, protocol=own, device="cpu"
        )
        assert document["erode_px"] == 2
        tables[target] = document["confusion"]
    assert tables["eroded"] != tables["full"]


def test_protocol_of_patches(dataset: Dataset, capsys, tmp_path: Path) -> None:
    code, text, _ = run(
        capsys, dataset, "--protocol", "rsseg-potsdam", "--out", tmp_path, "--batch", 1, "--json"
    )
    assert code == 0
    document = json.loads(text)
    assert document["protocol"]["patches"]["size"] == 512
    assert (
        document["protocol"]["value"] == document["conventions"]["protocol_rsseg-potsdam"]["miou"]
    )
    # Each scene is smaller than one patch.
    counted = document["scored_pixels"] + document["ignored_pixels"]
    assert counted == 2 * 512 * 512
    assert not (tmp_path / "maps").exists()
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--erode", 0), "--erode does not go with --protocol rsseg-potsdam"),
        (("--exclude", "clutter"), "--exclude does not go with --protocol rsseg-potsdam"),
        (("--split", "val"), "--split does not go with --protocol rsseg-potsdam"),
        (("--engine", "streamed"), "--engine does not apply where patches of 512 px"),
        (("--boundary", 3), "--boundary does not apply where patches of 512 px"),
        (("--object-sizes", "9"), "--object-sizes does not apply where patches of 512 px"),
        (("--object-sizes", "9,4"), "object sizes 9, 4 do not rise"),
        (("--resume",), "--resume does not apply where patches of 512 px"),
        (("--submission",), "--protocol does not go with --submission"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_flags_that_contradict_the_protocol_are_named(
    dataset: Dataset, capsys, tmp_path: Path, flags: tuple, said: str
) -> None:
    command = ("--protocol", "rsseg-potsdam", "--out", tmp_path / "out", *flags)
    code, _, error = run(capsys, dataset, *command)
    assert code == 2
    assert said in error
    assert not (tmp_path / "out").exists()


def test_scenes_that_are_missing_are_said(tmp_path: Path) -> None:
    partly = potsdam(tmp_path / "partly", unlabelled=("2_14",))
    document, text = evaluate_split(
        partly.path, make_model(partly), tmp_path / "out", protocol="rsseg-potsdam"
    )
    assert [scene["id"] for scene in document["scenes"]] == ["2_13"]
    assert "note: 1 of the 14 scenes of split 'val' were scored" in text


def test_protocol_refuses_a_split_without_labels(tmp_path: Path) -> None:
    dataset = potsdam(tmp_path, unlabelled=("2_13", "2_14"))
    with pytest.raises(InputError, match=r"split 'val', but none of its 2 scenes .* 'eroded'"):
        evaluate_split(
            dataset.path, make_model(dataset), tmp_path / "out", protocol="rsseg-potsdam"
        )


def test_other_dataset_is_refused(dataset: Dataset, capsys, tmp_path: Path) -> None:
    code, _, error = run(capsys, dataset, "--protocol", "rsseg-isaid", "--out", tmp_path)
    assert code == 2
    assert "is for dataset 'isaid'" in error
    code, _, error = run(capsys, dataset, "--protocol", "strict-potsdam", "--out", tmp_path)
    assert code == 2
    assert "--split strict" in error
