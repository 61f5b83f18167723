"""Real files in the layouts of MMSegmentation and GLCNet; skipped without ``WHOLESCENE_DATA``."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from public_fixtures.common import read, real

from wholescene.datasets import Dataset, load_dataset, verify
from wholescene.datasets.prepare.run import prepare_dataset
from wholescene.datasets.public.recipe import load_recipe
from wholescene.errors import DatasetError


def counts_of(dataset: Dataset, scene: str, target: str) -> dict[int, int]:
    values, pixels_of = np.unique(read(dataset.scene(scene).labels[target]), return_counts=True)
    return dict(zip(values.tolist(), pixels_of.tolist(), strict=True))


@pytest.mark.parametrize(
    ("name", "scene", "bands"),
    [
        ("potsdam", "2_10_0_0_512_512", ("red", "green", "blue")),
        ("vaihingen", "area1_0_0_512_512", ("nir", "red", "green")),
    ],
)
def test_real_patches_of_a_benchmark_tool(
    tmp_path: Path, name: str, scene: str, bands: tuple[str, ...]
) -> None:
    source = real("published-layouts") / f"pseudo_{name}_dataset"
    made = prepare_dataset(load_recipe(name), source, tmp_path)
    dataset = load_dataset(made.path)
    assert (made.layout, made.splits) == ("mmseg", {"train": 1})
    stored = np.array(Image.open(source / f"ann_dir/{scene}.png"))
    expected = Counter(255 if v == 0 else v - 1 for v in stored.ravel().tolist())
    assert counts_of(dataset, scene, "eroded") == expected
    assert dataset.spec.statistics is not None
    assert dataset.spec.statistics.bands == bands
    image = np.array(Image.open(source / f"img_dir/{scene}.png"), np.float64)
    assert np.allclose(dataset.spec.statistics.mean, image.mean((0, 1)), rtol=1e-6)


def test_real_crops_of_glcnet(tmp_path: Path) -> None:
    source = real("glcnet-potsdam")
    made = prepare_dataset(load_recipe("potsdam"), source, tmp_path)
    dataset = load_dataset(made.path)
    assert (made.layout, made.variant) == ("glcnet", "rgbir")
    assert made.splits == {"train": 1, "val": 1}
    # Of low vegetation, impervious surface, tree and clutter, as counted for the publication.
    assert counts_of(dataset, "2_10__36", "full") == {2: 34083, 0: 26613, 3: 4840}
    assert counts_of(dataset, "2_13__26", "full") == {2: 26600, 0: 17614, 3: 20843, 5: 479}
    stored = read(source / "val_lbl/top_potsdam_2_13_RGBIR__26.tif").reshape(3, -1).T.tolist()
    assert Counter(map(tuple, stored)) == {
        (0, 255, 255): 26600,
        (255, 255, 255): 17614,
        (0, 255, 0): 20843,
        (255, 0, 0): 479,
    }
    # The near infrared is marked as alpha in the file and is a band all the same.
    image = read(source / "train_RGBIR/top_potsdam_2_10_RGBIR__36.tif")
    with dataset.reader(dataset.scene("2_10__36")) as reader:
        assert reader.band_names == ("red", "green", "blue", "nir")
    assert dataset.spec.statistics is not None
    assert np.allclose(dataset.spec.statistics.mean, image.mean((1, 2)), rtol=1e-6)
    assert [f for f in verify(dataset) if f.severity == "error"] == []


def test_lists_of_glcnet_choose_crops(tmp_path: Path) -> None:
    published, source = real("glcnet-potsdam"), tmp_path / "source"
    with pytest.raises(DatasetError, match="none of 2 scenes of potsdam is in a split of 'R1'"):
        prepare_dataset(load_recipe("potsdam"), published, tmp_path / "out", split="R1")
    shutil.copytree(published, source, copy_function=shutil.copyfile)
    chosen = {}
    for split, name, count in (("train", "trainR1", 138), ("val", "valR1500", 1500)):
        listed = (published / f"{name}_RGBIR.txt").read_text().split()
        assert len({*listed}) == count
        chosen[listed[0].replace("top_potsdam_", "").replace("_RGBIR", "")[:-4]] = split
        for folder in (source / f"{split}_RGBIR", source / f"{split}_lbl"):
            folder.chmod(0o755)
            crop = next(folder.iterdir())
            assert crop.name not in listed
            shutil.copyfile(crop, folder / listed[0])
    made = prepare_dataset(load_recipe("potsdam"), source, tmp_path / "out", split="R1")
    assert {s.id: s.split for s in load_dataset(made.path).scenes} == chosen
    official = prepare_dataset(load_recipe("potsdam"), source, tmp_path / "all")
    assert official.splits == {"train": 2, "val": 2}
