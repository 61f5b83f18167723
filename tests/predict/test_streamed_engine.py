"""The streamed engine maps a scene as one plain forward would, in pieces."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_models import (
    ToyModel,
    context_model,
    make_spec,
    noise,
    pooled_model,
    read,
    softmax_of,
    write_scene,
)

from wholescene.errors import InputError, UnsupportedError
from wholescene.geometry import Window
from wholescene.models import Architecture, Segmenter, build_segmenter
from wholescene.prediction import Options, Views, plan_prediction, predict
from wholescene.prediction.choice import choose_engine
from wholescene.prediction.engine import Band, Forward
from wholescene.prediction.streamed import StreamedEngine
from wholescene.raster import SceneReader
from wholescene.spatial import Checkpoint

MakeScene = Callable[..., Path]
CPU = torch.device("cpu")


def segmenter(decoder: str) -> Segmenter:
    """A small network of the package, its batch norms not the identity."""
    torch.manual_seed(0)
    made = Architecture(encoder="test_resnet", decoder=decoder)
    model = build_segmenter(make_spec(classes=4).model_copy(update={"architecture": made})).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def prepared(model: ToyModel, scene: Path, **settings: Any) -> StreamedEngine:
    with SceneReader(scene) as reader:
        choice = choose_engine(Options(engine="streamed", **settings), model, reader.size, CPU)
    assert isinstance(choice.engine, StreamedEngine)
    return choice.engine


@pytest.mark.parametrize("decoder", ["unet", "upernet"])
@pytest.mark.parametrize("size", [(203, 171), (97, 130)])
def test_a_streamed_map_is_that_of_one_plain_forward(
    tmp_path: Path, decoder: str, size: tuple[int, int]
) -> None:
    """Sizes that the network pads inside, holes in the scene, a corner without data."""
    valid = np.random.default_rng(0).random(size) > 0.05
    valid[:60, :50] = False
    scene = write_scene(tmp_path / "scene.tif", noise(*size, smooth_px=5) * valid, nodata=0)
    model = segmenter(decoder)
    found = {}
    for engine in ("whole", "streamed"):
        block = 64 if engine == "streamed" else None
        out = tmp_path / f"{engine}.tif"
        predict(scene, model, out, engine=engine, block=block, probabilities="float32")
        found[engine] = read(out)[0], read(tmp_path / f"{engine}_probabilities.tif")
    (map_, shares), (exact_map, exact_shares) = found["streamed"], found["whole"]
    np.testing.assert_array_equal(map_, exact_map)
    np.testing.assert_allclose(shares, exact_shares, atol=1e-5)
    np.testing.assert_array_equal(map_ == 0, ~valid)
    assert np.nanstd(exact_shares, (1, 2)).max() > 1e-3, "the network must tell pixels apart"


@pytest.mark.parametrize("model", [context_model(), pooled_model()])
@pytest.mark.parametrize("block", [16, 40, 4096])
def test_shares_are_the_softmax_of_the_network_over_the_scene(
    make_scene: MakeScene, tmp_path: Path, model: ToyModel, block: int
) -> None:
    pixels = noise(90, 75, smooth_px=4)
    out = tmp_path / "map.tif"
    settings = {"engine": "streamed", "block": block, "probabilities": "float32"}
    predict(make_scene(pixels=pixels), model, out, **settings)
    found = read(tmp_path / "map_probabilities.tif")
    np.testing.assert_allclose(found, softmax_of(model, pixels), atol=1e-5)


@pytest.mark.parametrize("make", [context_model, pooled_model])
def test_progress_moves_in_every_sweep(
    make_scene: MakeScene, tmp_path: Path, make: Callable[[], ToyModel]
) -> None:
    scene, calls = make_scene(120, 90, smooth_px=3), []
    settings = {"engine": "streamed", "block": 24}
    plan = plan_prediction(scene, make(), **settings)
    predict(
        scene,
        make(),
        tmp_path / "map.tif",
        progress=lambda done, total: calls.append(done / total),
        **settings,
    )
    assert plan.sweeps == (1 if make is context_model else 2)
    assert len(calls) >= 5 * plan.sweeps
    assert calls == sorted(set(calls))
    assert calls[-1] == 1


def test_every_pixel_is_read_once_in_a_sweep(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[Window] = []
    look = SceneReader.read

    def remember(self: SceneReader, window: Window) -> Any:
        windows.append(window)
        return look(self, window)

    monkeypatch.setattr(SceneReader, "read", remember)
    scene = make_scene(133, 90, smooth_px=3)
    predict(scene, context_model(), tmp_path / "map.tif", engine="streamed", block=32)
    assert sum(window.size.area for window in windows) == 133 * 90
    assert max(window.size.area for window in windows) < 133 * 90 / 2


def bands_of(engine: StreamedEngine, reader: SceneReader, model: ToyModel, folder: Path) -> Any:
    forward = Forward(model, CPU, "float32", Views.parse(None))
    return closing(engine.bands(reader, forward, 0, folder))


def test_a_position_never_runs_ahead_of_rows_that_are_safe(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    """Rows given but not yet taken as safe must come again from the position that is on disk."""
    scene, model = make_scene(160, 60, smooth_px=3), context_model()
    engine = prepared(model, scene, block=20)
    with SceneReader(scene) as reader, bands_of(engine, reader, model, tmp_path) as bands:
        safe = 0
        for number, band in enumerate(bands):
            time.sleep(0.1)  # the next rows are computed meanwhile
            position = Checkpoint(tmp_path).load()
            assert (position.level, position.row) <= (0, number), "this band is not safe yet"
            assert band.row_off == safe
            safe = band.row_stop
    assert safe == 160


def test_the_next_rows_are_computed_while_the_last_are_written(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene, model = make_scene(120, 60), context_model()
    engine = prepared(model, scene, block=20)
    reads: list[Window] = []

    class Watched(SceneReader):
        def read(self, window: Window, **options: Any) -> Any:
            reads.append(window)
            return super().read(window, **options)

    with Watched(scene) as reader, bands_of(engine, reader, model, tmp_path) as bands:
        next(bands)
        seen = len(reads)
        deadline = time.monotonic() + 10
        while len(reads) <= seen and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(reads) > seen


def test_no_thread_is_left_when_the_rows_are_no_longer_wanted(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene, model = make_scene(120, 60), pooled_model()
    engine = prepared(model, scene, block=20)
    before = threading.active_count()
    with SceneReader(scene) as reader, bands_of(engine, reader, model, tmp_path) as bands:
        assert isinstance(next(bands), Band)
        assert threading.active_count() > before
    assert threading.active_count() == before


class Spoils(nn.Module):
    """Divides by zero where the image is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image) / (image[:, :1] > -1.5)


def test_numbers_that_are_none_name_their_region(make_scene: MakeScene, tmp_path: Path) -> None:
    pixels = noise(64, 80).clip(100, 255)
    pixels[:, 40, 70] = 1
    model = ToyModel(Spoils(), make_spec(classes=2)).eval()
    settings = {"engine": "streamed", "block": 32}
    with pytest.raises(
        UnsupportedError, match=r"rows 32\.\.63, columns \d\d\.\.79; use --precision"
    ):
        predict(make_scene(pixels=pixels), model, tmp_path / "map.tif", **settings)
    assert not (tmp_path / "map.tif").exists()


class Sums(nn.Module):
    """An operator without a rule in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.first(image).cumsum(2) / 50


class Decides(nn.Module):
    """Control flow that depends on pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image) if image.mean() > 0 else -self.conv(image)


@pytest.fixture
def sums() -> ToyModel:
    torch.manual_seed(4)
    return ToyModel(Sums(), make_spec(classes=2)).eval()


def test_a_layer_without_a_rule_is_exact_and_named_in_the_plan(
    make_scene: MakeScene, tmp_path: Path, sums: ToyModel
) -> None:
    pixels = noise(70, 50)
    scene = make_scene(pixels=pixels)
    settings = {"engine": "streamed", "block": 24}
    text = plan_prediction(scene, sums, **settings).describe()
    assert "layers without a rule, whose inputs are held whole: 1\n" in text
    assert "cumsum" in text
    predict(scene, sums, tmp_path / "map.tif", probabilities="float32", **settings)
    found = read(tmp_path / "map_probabilities.tif")
    np.testing.assert_allclose(found, softmax_of(sums, pixels), atol=1e-5)


@pytest.mark.parametrize("engine", ["auto", "streamed"])
def test_strict_refuses_it_before_a_pixel_is_read(
    make_scene: MakeScene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sums: ToyModel,
    engine: str,
) -> None:
    monkeypatch.setattr(SceneReader, "read", None)
    settings = {"engine": engine, "strict": True}
    for call in (
        lambda: predict(make_scene(), sums, tmp_path / "out" / "map.tif", **settings),
        lambda: plan_prediction(make_scene(), sums, **settings),
    ):
        with pytest.raises(UnsupportedError, match=r"--strict refuses .*cumsum.*leave out"):
            call()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ["auto", "streamed"])
def test_a_network_that_cannot_be_traced_is_refused_with_advice(
    make_scene: MakeScene, tmp_path: Path, engine: str
) -> None:
    model = ToyModel(Decides(), make_spec(classes=2)).eval()
    with pytest.raises(UnsupportedError, match=r"cannot be traced.*--engine windowed does not"):
        predict(make_scene(), model, tmp_path / "map.tif", engine=engine)
    predict(make_scene(), model, tmp_path / "map.tif", engine="windowed")
    assert plan_prediction(make_scene(), model, engine="windowed").seconds is None


def test_without_a_folder_nothing_is_written(make_scene: MakeScene, tmp_path: Path) -> None:
    scene, model = make_scene(60, 60), pooled_model()
    engine = prepared(model, scene, block=20)
    before = sorted(tmp_path.rglob("*"))
    with SceneReader(scene) as reader:
        forward = Forward(model, CPU, "float32", Views.parse(None))
        rows = sum(band.probabilities.shape[1] for band in engine.bands(reader, forward, 0))
    assert rows == 60
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("rows_done", [0, 19, 20, 43, 59])
def test_rows_that_are_safe_already_are_not_given_again(
    make_scene: MakeScene, rows_done: int
) -> None:
    scene, model = make_scene(60, 60), pooled_model()
    engine = prepared(model, scene, block=20)
    with SceneReader(scene) as reader:
        forward = Forward(model, CPU, "float32", Views.parse(None))
        bands = [band for band in engine.bands(reader, forward, rows_done) if band.has_rows]
    assert [band.row_off for band in bands] == [rows_done, *(b.row_stop for b in bands[:-1])]
    assert bands[-1].row_stop == 60


def test_memory_that_not_even_small_blocks_fit_into_is_refused(make_scene: MakeScene) -> None:
    scene = make_scene(400, 400)
    with pytest.raises(InputError, match=r"raise --memory"):
        plan_prediction(scene, context_model(), engine="streamed", memory="300KiB")
    with pytest.raises(InputError, match=r"400 px take about .* smaller --block, or leave"):
        plan_prediction(scene, context_model(), engine="streamed", memory="8MiB", block=400)


def test_a_finished_streamed_map_is_kept_on_resume(make_scene: MakeScene, tmp_path: Path) -> None:
    out, scene = tmp_path / "map.tif", make_scene(300, 250)
    settings = {"memory": "3MiB"}
    assert predict(scene, context_model(), out, **settings).engine == "streamed"
    before = out.stat().st_mtime_ns
    assert predict(scene, context_model(), out, resume=True, **settings).pixels == 0
    assert out.stat().st_mtime_ns == before
