"""Patches as files: same pixels, same meaning, and a dataset that verifies."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from wholescene.datasets import (
    ClassEntry,
    Dataset,
    DatasetSpec,
    SceneRecord,
    Statistics,
    load_dataset,
    verify,
)
from wholescene.datasets.contract import TargetSpec
from wholescene.datasets.prepare.tiles import expected_tiles, write_tiles
from wholescene.errors import DatasetError, InputError, OutputError
from wholescene.geometry import Size, Window
from wholescene.raster import open_info
from wholescene.raster.patch_file import StoredPixels, StoredReader
from wholescene.raster.source import BandSpec, SourceSpec

CLASSES = (ClassEntry(id=0, name="road"), ClassEntry(id=3, name="roof"))
STATISTICS = Statistics(mean=(90.0,) * 3, std=(40.0,) * 3, class_counts=(5, 6))
SPEC = DatasetSpec(name="toy", classes=CLASSES, ignore_id=255, statistics=STATISTICS)
GREY = 0  # colour type in the header of a PNG; 3 would be a palette


def rgb(seed: int, height: int, width: int, *, bands: int = 3, dtype: str = "uint8") -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(1, np.iinfo(dtype).max, (bands, height, width), dtype)


def mask(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0, 3, 255], np.uint8), (height, width))


def pixels_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


@pytest.fixture
def two(make) -> Dataset:
    """Two scenes of 20 x 26 and 16 x 11 px, apart on the ground."""
    train = make.scene("a", "train", image=rgb(1, 20, 26), label=mask(2, 20, 26))
    val = make.scene("b", "val", image=rgb(3, 16, 11), label=mask(4, 16, 11), row=900)
    return make.dataset(train, val, spec=SPEC)


@pytest.fixture(autouse=True)
def _no_georeferencing_is_fine(recwarn) -> None:
    """PNG files have no place, of which rasterio warns whoever opens them."""
    import warnings

    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)


def test_patches_hold_the_pixels_of_their_windows(two: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    path = write_tiles(two, out, size=8, stride=6)
    image, label = pixels_of(tmp_path / "a.tif"), pixels_of(tmp_path / "a_label.tif")[0]
    found = sorted(p.name for p in (out / "img_dir" / "train").iterdir())
    wanted = [(r, c) for r in (0, 6, 12) for c in (0, 6, 12, 18)]
    assert found == sorted(f"a_{r}_{c}_{r + 8}_{c + 8}.png" for r, c in wanted)
    for r, c in wanted:
        name = f"a_{r}_{c}_{r + 8}_{c + 8}.png"
        part = np.s_[r : r + 8, c : c + 8]
        assert (pixels_of(out / "img_dir" / "train" / name) == image[:, *part]).all()
        assert (pixels_of(out / "ann_dir" / "train" / name)[0] == label[part]).all()
    assert path == out / "dataset.yaml"


def test_labels_are_grey_and_keep_every_id(two: Dataset, tmp_path: Path) -> None:
    write_tiles(two, tmp_path / "tiles", size=8, stride=8)
    files = [*(tmp_path / "tiles" / "ann_dir").rglob("*")]
    files = [file for file in files if file.is_file()]
    assert len(files) == 12 + 4
    for file in files:
        bits, color_type = struct.unpack(">BB", file.read_bytes()[24:26])
        assert (bits, color_type) == (8, GREY)
        assert set(np.unique(pixels_of(file)).tolist()) == {0, 3, 255}


def test_the_patches_are_a_dataset(two: Dataset, tmp_path: Path) -> None:
    patches = load_dataset(write_tiles(two, tmp_path / "tiles", size=8, stride=8))
    assert verify(patches) == []
    assert patches.spec.statistics == STATISTICS
    assert {(s.group, s.split) for s in patches.scenes} == {("a", "train"), ("b", "val")}
    record = patches.scene("a_8_18_16_26")
    with patches.reader(record) as patch, two.reader(two.scene("a")) as scene:
        window = Window(row_off=8, col_off=18, height=8, width=8)
        expected = scene.read(window)
        assert (patch.read(Window.whole(patch.size)).values == expected.values).all()
        assert patch.band_names == scene.band_names


def test_a_small_scene_is_filled_right_and_below(two: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    write_tiles(two, out, size=13, stride=13, splits=["val"])
    assert sorted(p.name for p in (out / "img_dir" / "val").iterdir()) == [
        "b_0_0_13_13.png",
        "b_3_0_16_13.png",
    ]
    image = pixels_of(out / "img_dir" / "val" / "b_3_0_16_13.png")
    label = pixels_of(out / "ann_dir" / "val" / "b_3_0_16_13.png")[0]
    assert (image[:, :, :11] == pixels_of(tmp_path / "b.tif")[:, 3:16]).all()
    assert (image[:, :, 11:] == 0).all()
    assert (label[:, 11:] == 255).all()
    assert not (out / "img_dir" / "train").exists()


def test_a_small_scene_needs_an_ignore_id(make, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"ignore_id": None})
    scene = make.scene("a", "train", image=rgb(1, 20, 10), label=np.full((20, 10), 3, np.uint8))
    dataset = make.dataset(scene, spec=spec)
    with pytest.raises(DatasetError, match=r"scene 'a' has 20 x 10 px, .* set 'ignore_id'"):
        write_tiles(dataset, tmp_path / "tiles", size=12, stride=12)
    assert not (tmp_path / "tiles").exists()
    write_tiles(dataset, tmp_path / "tiles", size=10, stride=10)


def test_a_scene_without_labels_gets_images_only(make, tmp_path: Path) -> None:
    scene = make.scene("a", "test", image=rgb(1, 5, 5))
    bare = SceneRecord(id="a", split="test", files=scene.files)
    dataset = make.dataset(bare, spec=SPEC.model_copy(update={"ignore_id": None}))
    patches = load_dataset(write_tiles(dataset, tmp_path / "tiles", size=8, stride=8))
    assert [s.labels for s in patches.scenes] == [{}]
    assert not (tmp_path / "tiles" / "ann_dir").exists()


def test_other_rasters_become_geotiff_with_all_they_mean(make, tmp_path: Path) -> None:
    image = rgb(1, 12, 12, bands=4, dtype="uint16")
    image[:, :3, :3] = 7
    path = make.raster("a.tif", image, nodata=7, band_names=["blue", "green", "red", "nir"])
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = [0.5] * 4, [1.0, 2.0, 3.0, 4.0]
    labels = {"label": make.raster("a_label.tif", mask(2, 12, 12))}
    record = SceneRecord(id="a", split="train", files={"image": (path,)}, labels=labels)
    spec = DatasetSpec(name="toy", classes=CLASSES, ignore_id=255)
    dataset = make.dataset(record, spec=spec)
    patches = load_dataset(write_tiles(dataset, tmp_path / "tiles", size=8, stride=8))
    patch = tmp_path / "tiles" / "img_dir" / "train" / "a_4_4_12_12.tif"
    assert (pixels_of(patch) == image[:, 4:, 4:]).all()
    with rasterio.open(patch) as file, rasterio.open(path) as scene:
        assert file.crs == scene.crs
        assert file.transform.almost_equals(scene.transform @ Affine.translation(4, 4))
        assert file.nodata == 7
    window = Window(row_off=0, col_off=0, height=8, width=8)
    with patches.reader(patches.scenes[0]) as one, dataset.reader(record) as whole:
        found, expected = one.read(window), whole.read(window)
        assert (found.values == expected.values).all()
        assert (found.valid == expected.valid).all()
        assert one.band_names == whole.band_names == ("blue", "green", "red", "nir")
    assert not expected.valid.all()


def test_hidden_pixels_stay_hidden(make, tmp_path: Path) -> None:
    """Opacity and the edge of a coarser source become the mask of the patch."""
    first = make.raster("a.tif", rgb(1, 12, 12))
    alpha = np.full((1, 12, 12), 255, np.uint8)
    alpha[0, :2] = 0
    with rasterio.open(first) as file:
        profile = {**file.profile, "count": 4, "photometric": "RGB", "alpha": "YES"}
    four = tmp_path / "four.tif"
    with rasterio.open(four, "w", **profile) as file:
        file.write(np.concatenate([pixels_of(first), alpha]))
    height = make.raster("height.tif", rgb(2, 5, 5, bands=1, dtype="int16"), pixel_m=20)
    spec = DatasetSpec(
        name="toy", targets=(), sources=(SourceSpec(), SourceSpec(name="height", nodata=-9999))
    )
    record = SceneRecord(id="a", split="train", files={"image": (four,), "height": (height,)})
    dataset = make.dataset(record, spec=spec)
    patches = load_dataset(write_tiles(dataset, tmp_path / "tiles", size=8, stride=8))
    assert (tmp_path / "tiles" / "img_dir_height" / "train" / "a_4_4_12_12.tif").is_file()
    for patch, (r, c) in zip(patches.scenes, [(0, 0), (0, 4), (4, 0), (4, 4)], strict=True):
        window = Window(row_off=r, col_off=c, height=8, width=8)
        with patches.reader(patch) as one, dataset.reader(record) as whole:
            found, expected = one.read(Window.whole(Size(8, 8))), whole.read(window)
        assert (found.valid == expected.valid).all()
        assert 0 < found.valid.mean() < 1
        assert (found.values[:3] == expected.values[:3]).all()
        assert np.abs(found.values[3] - expected.values[3]).max() <= 0.5


def test_further_targets_and_chosen_bands(make, tmp_path: Path) -> None:
    sources = (SourceSpec(bands=(BandSpec(name="nir", index=4),)),)
    targets = (
        TargetSpec(name="eroded"),
        TargetSpec(name="full"),
        TargetSpec(name="box", kind="boxes"),
    )
    spec = DatasetSpec(name="toy", classes=CLASSES, ignore_id=255, sources=sources, targets=targets)
    image = rgb(1, 8, 8, bands=4)
    labels = {
        name: make.raster(f"{name}.tif", mask(i, 8, 8)) for i, name in enumerate(["eroded", "full"])
    }
    files = {"image": (make.raster("a.tif", image),)}
    dataset = make.dataset(
        SceneRecord(id="a", split="train", files=files, labels=labels), spec=spec
    )
    out = tmp_path / "tiles"
    patches = load_dataset(write_tiles(dataset, out, size=8, stride=8))
    assert (pixels_of(out / "img_dir" / "train" / "a_0_0_8_8.png")[0] == image[3]).all()
    for folder, seed in (("ann_dir", 0), ("ann_dir_full", 1)):
        assert (pixels_of(out / folder / "train" / "a_0_0_8_8.png")[0] == mask(seed, 8, 8)).all()
    assert patches.spec.target_names == ("eroded", "full")
    with patches.reader(patches.scenes[0]) as reader:
        assert reader.band_names == ("nir",)


def test_wide_scenes_are_read_in_pieces(two: Dataset, tmp_path: Path, monkeypatch) -> None:
    whole = write_tiles(two, tmp_path / "one", size=8, stride=6).parent
    monkeypatch.setattr("wholescene.datasets.prepare.tiles._VALUES_AT_ONCE", 1)
    widths: list[int] = []
    read = StoredReader.stored

    def watched(reader: StoredReader, window: Window) -> tuple[StoredPixels, ...]:
        widths.append(window.width)
        return read(reader, window)

    monkeypatch.setattr(StoredReader, "stored", watched)
    pieces = write_tiles(two, tmp_path / "other", size=8, stride=6).parent
    assert set(widths) == {8}
    files = [f.relative_to(whole) for f in whole.rglob("*.png")]
    assert files
    assert all((whole / f).read_bytes() == (pieces / f).read_bytes() for f in files)


def test_a_second_run_does_only_what_is_missing(two: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    write_tiles(two, out, size=8, stride=8)
    kept = out / "img_dir" / "train" / "a_0_0_8_8.png"
    gone = out / "img_dir" / "val" / "b_0_0_8_8.png"
    before = kept.stat().st_mtime_ns, gone.read_bytes()
    gone.unlink()
    told: list[tuple[int, int]] = []
    write_tiles(two, out, size=8, stride=8, progress=lambda *done: told.append(done))
    assert (kept.stat().st_mtime_ns, gone.read_bytes()) == before
    assert told[0] == (12 * 64, 16 * 64)
    assert told[-1] == (16 * 64, 16 * 64)


def test_changed_labels_are_cut_again(two: Dataset, make, tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    write_tiles(two, out, size=8, stride=8)
    make.raster("b_label.tif", np.full((16, 11), 3, np.uint16), row=900)
    write_tiles(two, out, size=8, stride=8)
    assert (pixels_of(out / "ann_dir" / "val" / "b_0_0_8_8.png") == 3).all()


def test_no_file_appears_before_it_is_complete(two: Dataset, tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OutputError("the disk is full")

    out = tmp_path / "tiles"
    monkeypatch.setattr("wholescene.raster.patch_file._compare", fail)
    with pytest.raises(OutputError, match="disk is full"):
        write_tiles(two, out, size=8, stride=8)
    assert not [*out.rglob("*.png")]
    monkeypatch.undo()
    assert verify(load_dataset(write_tiles(two, out, size=8, stride=8))) == []


@pytest.mark.parametrize(
    ("size", "stride", "what"),
    [(0, 1, "--tiles"), (8, 0, "--stride 1..8"), (8, 9, "gaps .* --stride 1..8")],
)
def test_numbers_out_of_range(
    two: Dataset, tmp_path: Path, size: int, stride: int, what: str
) -> None:
    with pytest.raises(InputError, match=what):
        write_tiles(two, tmp_path / "tiles", size=size, stride=stride)
    with pytest.raises(InputError, match=what):
        expected_tiles(two, size, stride)


def test_a_folder_holds_patches_of_one_rule(two: Dataset, tmp_path: Path) -> None:
    write_tiles(two, tmp_path / "tiles", size=8, stride=8)
    with pytest.raises(OutputError, match="patches of another rule"):
        write_tiles(two, tmp_path / "tiles", size=8, stride=4)
    with pytest.raises(OutputError, match="holds the dataset itself"):
        write_tiles(two, two.root, size=8, stride=8)


def test_too_little_room_is_told_before_work(two: Dataset, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(OutputError, match="needs up to"):
        write_tiles(two, tmp_path / "tiles", size=8, stride=8)
    assert not (tmp_path / "tiles" / "img_dir").exists()


def test_unlabelled_pixels_need_an_ignore_id(make, tmp_path: Path) -> None:
    scene = make.scene("a", "train", image=rgb(1, 8, 8))
    label = np.full((8, 8), 3, np.uint8)
    label[5, 5] = 9
    labels = {"label": make.raster("a_label.tif", label, nodata=9)}
    record = SceneRecord(id="a", split="train", files=scene.files, labels=labels)
    dataset = make.dataset(record, spec=SPEC.model_copy(update={"ignore_id": None}))
    with pytest.raises(DatasetError, match=r"in rows 0 to 7 has no label"):
        write_tiles(dataset, tmp_path / "tiles", size=8, stride=8)


def test_scenes_must_agree_in_their_bands(make, tmp_path: Path) -> None:
    scenes = [make.scene(f"s{n}", "train", image=rgb(n, 8, 8, bands=n)) for n in (2, 3)]
    dataset = make.dataset(*scenes, spec=DatasetSpec(name="toy", classes=CLASSES))
    with pytest.raises(DatasetError, match="has 2 bands in scene 's2' and 3 in 's3'"):
        write_tiles(dataset, tmp_path / "tiles", size=8, stride=8)


@pytest.mark.parametrize(
    ("ignored", "counts"), [(False, {"train": 12, "val": 6}), (True, {"train": 12, "val": 4})]
)
def test_expected_totals_match_what_is_written(
    two: Dataset, tmp_path: Path, ignored: bool, counts: dict[str, int]
) -> None:
    assert expected_tiles(two, 8, 6, ignored) == counts
    path = write_tiles(two, tmp_path / "tiles", size=8, stride=6, stride_ignored=ignored)
    patches = load_dataset(path)
    assert {split: len(patches.split(split)) for split in patches.splits} == counts


def test_patches_do_not_carry_side_files(two: Dataset, tmp_path: Path) -> None:
    write_tiles(two, tmp_path / "tiles", size=8, stride=8)
    assert {p.suffix for p in (tmp_path / "tiles" / "img_dir").rglob("*") if p.is_file()} == {
        ".png"
    }
    info = open_info(tmp_path / "tiles" / "img_dir" / "train" / "a_0_0_8_8.png")
    assert not info.has_mask
    assert all(band.nodata is None for band in info.bands)
