"""What cannot be mapped is refused before any work, in words that say what would work."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_models import ToyModel, constant_model, make_spec, noise, pixel_model, read, write_scene

from wholescene.errors import (
    InputError,
    ModelFileError,
    OutputError,
    RasterError,
    WholesceneError,
)
from wholescene.prediction import plan_prediction, predict

MakeScene = Callable[..., Path]


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"engine": "sharded"}, InputError, r"several processes: say how many with --ranks"),
        ({"engine": "sharded", "ranks": 0}, InputError, r"ranks 0 is not at least 1"),
        ({"engine": "sharded", "ranks": 99}, InputError, r"99 ranks are more than the scene's 96"),
        ({"engine": "streamed", "ranks": 2}, InputError, r"--ranks 2 does not apply .*streamed"),
        (
            {"engine": "tiled"},
            InputError,
            r"'tiled' is unknown; use auto, whole, streamed, sharded, windowed",
        ),
        (
            {"engine": "windowed", "block": 32, "overlap": 32},
            InputError,
            r"overlap 32 px .* block of 32 px; lower",
        ),
        ({"engine": "windowed", "block": 32, "overlap": -1}, InputError, r"overlap -1 px"),
        ({"block": 0}, InputError, r"block 0 px"),
        ({"engine": "windowed", "batch": 0}, InputError, r"batch 0"),
        ({"precision": "float8"}, InputError, r"'float8' is unknown; use float32, bfloat16"),
        ({"device": "abacus"}, InputError, r"'abacus' is unknown; use auto, cpu, cuda"),
        ({"device": "mps"}, InputError, r"'mps' is not supported; use auto, cpu, cuda"),
        ({"device": "cuda:99"}, InputError, r"'cuda:99' is not there: this machine has"),
        ({"tta": "mirror"}, InputError, r"'mirror' is unknown"),
        ({"probabilities": "uint9"}, InputError, r"'uint9'"),
        ({"overlap": 0}, InputError, r"--overlap 0 does not apply to engine auto; .* windowed"),
        ({"engine": "streamed", "batch": 4}, InputError, r"--batch 4 does not apply .*streamed"),
        ({"engine": "streamed", "tta": "flips"}, InputError, r"--tta flips .*auto or whole or wi"),
        ({"engine": "whole", "block": 32}, InputError, r"--block 32 does not apply .*whole"),
        ({"engine": "whole", "strict": True}, InputError, r"--strict does not apply .*whole"),
        ({"engine": "windowed", "memory": "1GiB"}, InputError, r"--memory 1GiB does not apply"),
        ({"memory": "plenty"}, InputError, r"'plenty' is not a size"),
        ({"bands": (1, 2)}, (ModelFileError, RasterError), r"2 bands"),
        ({"bands": ("red", "b1", "b2")}, RasterError, r"red"),
        ({"bands": (1, 2, 9)}, RasterError, r"9"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_predict_and_plan(
    make_scene: MakeScene,
    tmp_path: Path,
    settings: dict[str, Any],
    kind: type[Exception],
    said: str,
) -> None:
    scene, model = make_scene(), pixel_model()
    with pytest.raises(kind, match=said):
        predict(scene, model, tmp_path / "out" / "map.tif", **settings)
    with pytest.raises(kind, match=said):
        plan_prediction(scene, model, **settings)
    assert model.windows_seen == 0
    assert not (tmp_path / "out").exists()


def test_an_unknown_setting_is_refused(make_scene: MakeScene, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="windw"):
        predict(make_scene(), pixel_model(), tmp_path / "map.tif", windw=3)


def test_too_few_bands_are_named(make_scene: MakeScene, tmp_path: Path) -> None:
    scene = make_scene(bands=2)
    with pytest.raises((ModelFileError, RasterError), match=r"b2|2 .*3|3 .*2") as caught:
        predict(scene, pixel_model(), tmp_path / "map.tif")
    assert "scene.tif" in str(caught.value)


@pytest.mark.parametrize("name", ["map", "map.png", "map.jp2"])
def test_a_map_that_is_no_geotiff_is_refused(
    make_scene: MakeScene, tmp_path: Path, name: str
) -> None:
    with pytest.raises(InputError, match=r"does not end in \.tif"):
        predict(make_scene(), pixel_model(), tmp_path / name)


def test_a_folder_under_the_name_of_the_map_is_refused(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    (tmp_path / "map.tif").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        predict(make_scene(), pixel_model(), tmp_path / "map.tif")


def test_a_file_in_place_of_the_folder_is_refused(make_scene: MakeScene, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    model = pixel_model()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        predict(make_scene(), model, tmp_path / "out" / "map.tif")
    assert model.windows_seen == 0


def test_the_scene_itself_is_never_overwritten(make_scene: MakeScene) -> None:
    scene, model = make_scene(), pixel_model()
    before = scene.read_bytes()
    with pytest.raises((InputError, OutputError), match="scene"):
        predict(scene, model, scene)
    assert scene.read_bytes() == before
    assert model.windows_seen == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(make_scene: MakeScene, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="permission"):
        predict(make_scene(), pixel_model(), folder / "map.tif")


def test_a_disk_without_room_is_noticed_before_work(make_scene: MakeScene, tmp_path: Path) -> None:
    """A limit on file sizes stands in for the full disk."""
    scene, model = make_scene(1200, 1000), pixel_model()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(OutputError, match="ulimit"):
            predict(scene, model, tmp_path / "map.tif", probabilities=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert model.windows_seen == 0


def test_rows_that_are_there_count_as_disk_that_is_taken(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map whose rows are nearly done resumes on a disk that only its end fits on."""
    scene, model, out = make_scene(400, 3000), pixel_model(), tmp_path / "map.tif"
    settings: dict[str, Any] = {
        "engine": "windowed",
        "block": 100,
        "overlap": 0,
        "probabilities": True,
    }
    calls = 0

    def stop_late(done: int, total: int, /) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(scene, model, out, progress=stop_late, **settings)
    all_of_it = plan_prediction(scene, model, **settings).disk_bytes
    usage = shutil.disk_usage(tmp_path)
    # Three quarters of four raw bands are on the disk.
    free = all_of_it - 3_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
    predict(scene, model, out, resume=True, **settings)
    with pytest.raises(OutputError, match="needs up to"):
        predict(scene, model, out, **settings)


def test_a_missing_or_damaged_scene_is_named(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"gone\.tif: no such file"):
        predict(tmp_path / "gone.tif", pixel_model(), tmp_path / "map.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(RasterError, match=r"text\.tif"):
        predict(tmp_path / "text.tif", pixel_model(), tmp_path / "map.tif")


@pytest.mark.parametrize("engine", ["streamed", "windowed"])
def test_damage_inside_a_scene_is_reported_and_leaves_no_map(tmp_path: Path, engine: str) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(200, 200))
    data = scene.read_bytes()
    scene.write_bytes(data[: len(data) // 2])
    with pytest.raises(RasterError, match=r"scene\.tif"):
        predict(scene, pixel_model(), tmp_path / "map.tif", engine=engine, block=32)
    assert not (tmp_path / "map.tif").exists()


def test_a_missing_model_is_named(make_scene: MakeScene, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="nowhere"):
        predict(make_scene(), tmp_path / "nowhere", tmp_path / "map.tif")


class Spoils(nn.Module):
    """Gives NaN for one window."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.calls = value, 0
        self.register_buffer("zero", torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        logits = image[:, :2].clone()
        if self.calls == 3:
            logits[0, 0, 2, 3] = self.value
        return logits


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_stop_the_map_and_name_the_window(
    make_scene: MakeScene, tmp_path: Path, value: float
) -> None:
    model = ToyModel(Spoils(value), make_spec(classes=2)).eval()
    with pytest.raises(WholesceneError, match=r"rows 0\.\.31, columns 48\.\.79"):
        predict(
            make_scene(64, 80),
            model,
            tmp_path / "map.tif",
            engine="windowed",
            block=32,
            overlap=0,
            batch=1,
        )
    assert not (tmp_path / "map.tif").exists()


class Shrinks(nn.Module):
    """Forgets to resize its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :2, ::4, ::4]


@pytest.mark.parametrize("engine", ["auto", "whole", "streamed", "windowed"])
def test_logits_of_another_size_are_refused(
    make_scene: MakeScene, tmp_path: Path, engine: str
) -> None:
    model = ToyModel(Shrinks(), make_spec(classes=2)).eval()
    with pytest.raises(InputError, match=r"64, 80\) into logits of \(1, 2, 16, 20\)"):
        predict(make_scene(64, 80), model, tmp_path / "map.tif", engine=engine)


@pytest.mark.parametrize("engine", ["auto", "whole", "streamed", "windowed"])
def test_another_number_of_classes_than_promised_is_refused(
    make_scene: MakeScene, tmp_path: Path, engine: str
) -> None:
    model = ToyModel(constant_model(0.0, 1.0, 2.0).net, make_spec(classes=2)).eval()
    with pytest.raises(WholesceneError, match=r"3, 64, 80.*2 classes"):
        predict(make_scene(64, 80), model, tmp_path / "map.tif", engine=engine)


@pytest.mark.parametrize(
    ("gsd_m", "warned"), [(10.0, False), (4.9, True), (6.0, False), (25.0, True)]
)
def test_a_scene_at_another_scale_gets_a_note(
    make_scene: MakeScene, tmp_path: Path, gsd_m: float, warned: bool
) -> None:
    scene = make_scene(40, 40)  # 10 m pixels
    model = ToyModel(constant_model(0.0, 1.0).net, make_spec(classes=2, gsd_m=gsd_m)).eval()
    result = predict(scene, model, tmp_path / "map.tif")
    assert any(f"{gsd_m:.3g} m" in note for note in result.notes) == warned
    assert plan_prediction(scene, model).notes == result.notes


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_any_pixel_type_is_mapped(tmp_path: Path, dtype: str) -> None:
    pixels = noise(40, 30).astype(dtype)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    predict(scene, pixel_model(), tmp_path / "map.tif")
    as_bytes = write_scene(tmp_path / "bytes.tif", noise(40, 30))
    predict(as_bytes, pixel_model(), tmp_path / "bytes_map.tif")
    np.testing.assert_array_equal(read(tmp_path / "map.tif"), read(tmp_path / "bytes_map.tif"))


def test_a_scene_without_georeferencing_is_mapped(make_scene: MakeScene, tmp_path: Path) -> None:
    scene = make_scene(40, 30, transform=None, crs=None)
    predict(scene, pixel_model(), tmp_path / "map.tif")
    assert read(tmp_path / "map.tif").any()


def test_bands_are_taken_in_the_order_asked_for(make_scene: MakeScene, tmp_path: Path) -> None:
    pixels = noise(40, 30)
    predict(make_scene(pixels=pixels), pixel_model(), tmp_path / "plain.tif")
    shuffled = make_scene(pixels=pixels[[2, 0, 1]], name="shuffled.tif", names=("x", "y", "z"))
    predict(shuffled, pixel_model(), tmp_path / "map.tif", bands=(2, "z", "x"))
    np.testing.assert_array_equal(read(tmp_path / "map.tif"), read(tmp_path / "plain.tif"))
