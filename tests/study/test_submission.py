"""What is written for servers that keep the labels, and what is refused."""

import zipfile
from pathlib import Path
from string import Formatter

import numpy as np
import pytest
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from toy_study import make_dataset, make_model

from wholescene.datasets import Dataset
from wholescene.datasets.public.recipe import Recipe, Submission, load_recipe, recipe_names
from wholescene.errors import DatasetError, InputError
from wholescene.study import submission
from wholescene.study.evaluation import evaluate_split
from wholescene.study.submission import write_submission


def loveda(root: Path, **changes: object) -> Dataset:
    """Two test scenes without labels and one to validate on, laid out as published."""
    recipe = load_recipe("loveda")
    scenes = {"3": ("val", (32, 32)), "1": ("test", (40, 33)), "2": ("test", (32, 48))}
    return make_dataset(
        root,
        **{
            "name": "loveda",
            "classes": {entry.id: entry.name for entry in recipe.classes},
            "scenes": scenes,
            "ignore_id": 0,
            "unlabelled": ("1", "2"),
            "image": "Test/Rural/images_png/{id}.png",
            **changes,
        },
    )


def complete(monkeypatch: pytest.MonkeyPatch, name: str, **changes: object) -> Recipe:
    """Take a few scenes for the whole split."""
    recipe = load_recipe(name).model_copy(update={"counts": {"test": 2}, **changes})
    monkeypatch.setattr(submission, "official_recipe", lambda dataset: recipe)
    return recipe


def pixels(data: bytes) -> np.ndarray:
    with pytest.warns(NotGeoreferencedWarning), MemoryFile(data) as file, file.open() as raster:
        return raster.read()


def test_archive_holds_every_scene_as_the_server_takes_it(tmp_path: Path, monkeypatch) -> None:
    dataset = loveda(tmp_path / "data")
    complete(monkeypatch, "loveda")
    facts, text = write_submission(
        dataset.path, make_model(dataset), tmp_path / "out", device="cpu"
    )
    archive = tmp_path / "out" / "loveda_test.zip"
    assert facts["submission"] == str(archive)
    assert facts["scenes"] == 2
    assert facts["url"] in text
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == ["1.png", "2.png"]
        for scene in ("1", "2"):
            data = packed.read(f"{scene}.png")
            assert data.startswith(b"\x89PNG")
            ids = pixels((tmp_path / "out" / "maps" / f"{scene}.tif").read_bytes())
            # The server counts classes from 0, the dataset from 1.
            np.testing.assert_array_equal(pixels(data), ids - 1)
    assert not list((tmp_path / "out").glob("*.part*"))


def test_colours_go_into_the_folders_of_the_template(tmp_path: Path, monkeypatch) -> None:
    recipe = complete(monkeypatch, "uavid")
    dataset = make_dataset(
        tmp_path / "data",
        name="uavid",
        classes={entry.id: entry.name for entry in recipe.classes},
        scenes={"seq21_000000": ("test", (32, 40)), "seq22_000000": ("test", (32, 40))},
        ignore_id=None,
        unlabelled=("seq21_000000", "seq22_000000"),
        image="{id}.png",
    )
    for scene in dataset.scenes:
        sequence, frame = scene.id.split("_")
        place = tmp_path / "data" / "uavid_test" / sequence / "Images" / f"{frame}.png"
        place.parent.mkdir(parents=True)
        scene.files["image"][0].rename(place)
    table = dataset.root / "scenes.csv"
    text = table.read_text()
    for scene in dataset.scenes:
        sequence, frame = scene.id.split("_")
        text = text.replace(f",{scene.id}.png", f",uavid_test/{sequence}/Images/{frame}.png")
    table.write_text(text)
    model = make_model(dataset)
    write_submission(dataset.path, model, tmp_path / "out", device="cpu")
    with zipfile.ZipFile(tmp_path / "out" / "uavid_test.zip") as packed:
        assert packed.namelist() == [f"seq{n}/Labels/000000.png" for n in (21, 22)]
        found = pixels(packed.read("seq21/Labels/000000.png"))
    ids = pixels((tmp_path / "out" / "maps" / "seq21_000000.tif").read_bytes())[0]
    colors = np.array(dataset.classes.colors, np.uint8)
    np.testing.assert_array_equal(found, np.moveaxis(colors[ids], -1, 0))


def test_single_geotiffs_and_no_archive(tmp_path: Path, monkeypatch) -> None:
    dataset = loveda(tmp_path / "data")
    form = load_recipe("loveda").submission[0]
    form = form.model_copy(update={"name": "{id}.tif", "archive": None, "offset": 10})
    complete(monkeypatch, "loveda", submission=(form,))
    out = tmp_path / "out"
    write_submission(dataset.path, make_model(dataset), out, device="cpu")
    found = pixels((out / "submission" / "1.tif").read_bytes())
    ids = pixels((out / "maps" / "1.tif").read_bytes())
    np.testing.assert_array_equal(found, ids + 10)
    assert sorted(path.name for path in (out / "submission").iterdir()) == ["1.tif", "2.tif"]


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_pixels_without_a_class_get_the_nodata_value(tmp_path: Path, ending: str) -> None:
    dataset = loveda(tmp_path)
    label_map = dataset.scene("3").labels["label"]
    ids = pixels(label_map.read_bytes())
    assert (ids == dataset.classes.ignore_id).any()
    form = Submission(split="test", url="-", offset=-1, nodata=99)
    out = tmp_path / f"out{ending}"
    submission._Coding(form, dataset.classes).write(label_map, out)
    np.testing.assert_array_equal(pixels(out.read_bytes()), np.where(ids == 0, 99, ids - 1))


def test_missing_scenes_are_counted(tmp_path: Path) -> None:
    dataset = loveda(tmp_path)
    with pytest.raises(DatasetError, match="2 of the 1796 scenes of split 'test'"):
        write_submission(dataset.path, make_model(dataset), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "split", "said"),
    [
        ({"name": "mine"}, None, "'mine'.*prepare"),
        ({"split_way": "other"}, None, "split_way 'other'"),
        ({}, "val", "no server scores split 'val' of loveda; splits that one scores: test"),
    ],
)
def test_what_no_server_takes_is_refused(
    tmp_path: Path, changes: dict, split: str | None, said: str
) -> None:
    dataset = loveda(tmp_path, **changes)
    with pytest.raises(InputError, match=said):
        write_submission(dataset.path, make_model(dataset), tmp_path / "out", split=split)


def test_scoring_a_split_without_public_labels_is_refused_by_name(tmp_path: Path) -> None:
    dataset = loveda(tmp_path)
    with pytest.raises(InputError, match=r"'test' of loveda are not public: .*--submission"):
        evaluate_split(dataset.path, make_model(dataset), tmp_path / "out")
    with pytest.raises(InputError, match="'test' of loveda are not public"):
        evaluate_split(dataset.path, make_model(dataset), tmp_path / "out", split="val+test")
    assert not (tmp_path / "out").exists()


def test_own_dataset_without_labels_is_mapped(tmp_path: Path) -> None:
    dataset = loveda(tmp_path, name="mine", split_way=None)
    document, text = evaluate_split(dataset.path, make_model(dataset), tmp_path / "out")
    assert document == {}
    assert "2 scenes mapped" in text


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_ask_for_what_can_be_written(name: str) -> None:
    recipe = load_recipe(name)
    for form in recipe.submission:
        assert form.split in recipe.unlabelled
        assert Path(form.name).suffix in (".png", ".tif")
        values = [entry.id + form.offset for entry in recipe.classes]
        assert form.coding == "colors" or (min(values) >= 0 and max(values) < 256)
        wanted = {key for _, key, *_ in Formatter().parse(form.name) if key} - {"id"}
        layout = next(iter(recipe.layouts.values()))
        for pattern in layout.patterns:
            assert all(f"(?P<{key}>" in pattern for key in wanted)
