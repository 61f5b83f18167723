"""A map that was interrupted ends as if it never had been."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from toy_models import ToyModel, context_model, noise, pixel_model, pooled_model, write_scene

from wholescene.errors import ResumeError
from wholescene.prediction import predict

MakeScene = Callable[..., Path]
PRODUCTS: dict[str, Any] = {"probabilities": True, "uncertainty": True}
SETTINGS: dict[str, Any] = {
    "engine": "windowed",
    "block": 32,
    "overlap": 8,
    "batch": 3,
    **PRODUCTS,
}
STREAMED: dict[str, Any] = {"engine": "streamed", "block": 40, **PRODUCTS}
WAYS: dict[str, tuple[Callable[..., ToyModel], dict[str, Any]]] = {
    "windowed": (context_model, SETTINGS),
    "streamed": (context_model, STREAMED),
    "streamed in two sweeps": (pooled_model, STREAMED),
}
FILES = ("map.tif", "map.qml", "map.tif.aux.xml", "map_probabilities.tif", "map_uncertainty.tif")


def write(path: Path, *, height: int = 200, width: int = 110) -> Path:
    valid = np.random.default_rng(0).random((height, width)) > 0.05
    valid[:40, :40] = False
    return write_scene(path, noise(height, width, smooth_px=3) * valid, nodata=0)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


class StopAfter:
    """Presses Ctrl-C once so many row bands are done."""

    def __init__(self, bands: int) -> None:
        self.left = bands

    def __call__(self, done: int, total: int, /) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class Counter:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int, /) -> None:
        self.calls.append((done, total))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write(tmp_path / "scene.tif")


@pytest.fixture
def reference(scene: Path) -> tuple[dict[str, bytes], int, int]:
    """Files of an undisturbed run, its row bands, the windows its network saw."""
    folder = scene.parent / "reference"
    folder.mkdir()
    model, counter = context_model(), Counter()
    predict(scene, model, folder / "map.tif", progress=counter, **SETTINGS)
    return contents(folder), len(counter.calls), model.windows_seen


def mapped(scene: Path, out: Path, way: str, **more: Any) -> Path:
    """Map a scene one of the ways; give the folder."""
    out.parent.mkdir(exist_ok=True)
    make, settings = WAYS[way]
    predict(scene, make(), out, **more, **settings)
    return out.parent


def interrupt(scene: Path, out: Path, bands: int, **changes: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(scene, context_model(), out, progress=StopAfter(bands), **{**SETTINGS, **changes})


@pytest.mark.parametrize("way", WAYS)
def test_interruption_after_any_row_band_leaves_no_trace(
    scene: Path, tmp_path: Path, way: str
) -> None:
    counter = Counter()
    expected = contents(mapped(scene, tmp_path / "straight" / "map.tif", way, progress=counter))
    assert len(counter.calls) >= 5
    for stop in range(1, len(counter.calls) + 1):
        out = tmp_path / str(stop) / "map.tif"
        with pytest.raises(KeyboardInterrupt):
            mapped(scene, out, way, progress=StopAfter(stop))
        assert not out.exists()
        assert contents(mapped(scene, out, way, resume=True)) == expected, f"after band {stop}"
        assert sorted(p.name for p in out.parent.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("way", WAYS)
def test_a_map_interrupted_again_and_again_ends_the_same(
    scene: Path, tmp_path: Path, way: str
) -> None:
    counter, out = Counter(), tmp_path / "work" / "map.tif"
    expected = contents(mapped(scene, tmp_path / "straight" / "map.tif", way, progress=counter))
    for _ in range(2 * len(counter.calls)):
        try:
            mapped(scene, out, way, resume=True, progress=StopAfter(2))
        except KeyboardInterrupt:
            continue
        break
    assert contents(out.parent) == expected


def test_once_all_rows_are_done_only_the_writing_is_left(
    scene: Path, tmp_path: Path, reference: tuple[dict[str, bytes], int, int]
) -> None:
    expected, bands, _ = reference
    out, model = tmp_path / "work" / "map.tif", context_model()
    out.parent.mkdir()
    interrupt(scene, out, bands)
    predict(scene, model, out, resume=True, **SETTINGS)
    assert model.windows_seen == 0
    assert contents(out.parent) == expected


def test_what_a_finished_sweep_kept_is_not_computed_again(scene: Path, tmp_path: Path) -> None:
    counter, out = Counter(), tmp_path / "work" / "map.tif"
    mapped(scene, tmp_path / "straight" / "map.tif", "streamed in two sweeps", progress=counter)
    steps, again = len(counter.calls), Counter()
    with pytest.raises(KeyboardInterrupt):
        mapped(scene, out, "streamed in two sweeps", progress=StopAfter(steps - 1))
    mapped(scene, out, "streamed in two sweeps", resume=True, progress=again)
    assert len(again.calls) <= 2
    assert again.calls[-1] == counter.calls[-1]


def test_started_afresh_nothing_of_the_last_execution_is_taken_over(
    scene: Path, tmp_path: Path
) -> None:
    """Sums and kept values of another network would spoil the map without a word."""
    out = tmp_path / "work" / "map.tif"
    expected = contents(mapped(scene, tmp_path / "straight" / "map.tif", "streamed in two sweeps"))
    make, settings = WAYS["streamed in two sweeps"]
    other = make()
    torch.nn.init.zeros_(other.net.first[0].weight)
    out.parent.mkdir()
    with pytest.raises(KeyboardInterrupt):
        predict(scene, other, out, progress=StopAfter(7), **settings)
    assert (out.parent / "map.tif.part" / "stream").is_dir()
    assert contents(mapped(scene, out, "streamed in two sweeps")) == expected


def test_resuming_repeats_at_most_one_row_of_windows(
    scene: Path, tmp_path: Path, reference: tuple[dict[str, bytes], int, int]
) -> None:
    _, bands, all_windows = reference
    out = tmp_path / "work" / "map.tif"
    out.parent.mkdir()
    first, second = context_model(), context_model()
    with pytest.raises(KeyboardInterrupt):
        predict(scene, first, out, progress=StopAfter(4), **SETTINGS)
    counter = Counter()
    predict(scene, second, out, resume=True, progress=counter, **SETTINGS)
    assert len(counter.calls) == bands - 4
    windows_per_row = -(-all_windows // bands)
    # Reading ahead may have shown the first network one more batch.
    assert second.windows_seen <= all_windows - 4 * windows_per_row + 2 * windows_per_row


def test_an_interrupted_batch_size_of_one_does_not_matter_for_pixels(
    scene: Path, tmp_path: Path
) -> None:
    """Batches never span rows of windows: the same windows meet in one batch after a resume."""
    shapes = []
    for name, stop in (("straight", None), ("resumed", 2)):
        out, model = tmp_path / f"{name}.tif", context_model()
        if stop:
            interrupt(scene, out, stop)
        predict(scene, model, out, resume=bool(stop), **SETTINGS)
        shapes.append([shape[0] for shape in model.shapes])
    assert shapes[1] == shapes[0][-len(shapes[1]) :]
    assert len(shapes[1]) < len(shapes[0])


def test_without_an_unfinished_map_resume_simply_starts(
    scene: Path, tmp_path: Path, reference: tuple[dict[str, bytes], int, int]
) -> None:
    out = tmp_path / "new" / "map.tif"
    out.parent.mkdir()
    predict(scene, context_model(), out, resume=True, **SETTINGS)
    assert contents(out.parent) == reference[0]


def test_a_finished_map_is_kept_without_running_the_network(scene: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "map.tif", context_model()
    predict(scene, model, out, **SETTINGS)
    before, seen = out.stat().st_mtime_ns, model.windows_seen
    result = predict(scene, model, out, resume=True, **SETTINGS)
    assert model.windows_seen == seen
    assert out.stat().st_mtime_ns == before
    assert result.output == out


def test_a_finished_map_of_another_making_is_made_anew(scene: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "map.tif", context_model()
    predict(scene, model, out, **SETTINGS)
    seen = model.windows_seen
    predict(scene, model, out, resume=True, **{**SETTINGS, "overlap": 4})
    assert model.windows_seen > seen


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"block": 40}, r"'block' was 32 and is now 40"),
        ({"overlap": 10}, r"'overlap' was 8 and is now 10"),
        ({"batch": 4}, r"'batch' was 3 and is now 4"),
        ({"engine": "whole", "block": None, "overlap": None, "batch": None}, r"'batch' was 3"),
        ({"tta": "flips"}, r"'tta' was .* and is now 'flips'"),
        ({"precision": "bfloat16"}, r"'precision' was 'float32' and is now"),
        ({"uncertainty": False}, r"uncertainty"),
        ({"probabilities": "float32"}, r"probabilities"),
    ],
)
def test_resuming_under_another_plan_says_what_differs(
    scene: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    out = tmp_path / "map.tif"
    interrupt(scene, out, 2)
    with pytest.raises(ResumeError, match=said):
        predict(scene, context_model(), out, resume=True, **{**SETTINGS, **change})
    # Nothing was lost by asking.
    predict(scene, context_model(), out, resume=True, **SETTINGS)


def test_resuming_with_another_network_is_refused(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    interrupt(scene, out, 2)
    with pytest.raises(ResumeError, match="model"):
        predict(scene, pixel_model(), out, resume=True, **SETTINGS)


def test_resuming_with_a_changed_scene_is_refused(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    interrupt(scene, out, 2)
    write(scene)
    os.utime(scene, ns=(1, 1))
    with pytest.raises(ResumeError, match="scene"):
        predict(scene, context_model(), out, resume=True, **SETTINGS)


def test_another_number_of_threads_is_another_plan(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    interrupt(scene, out, 2)
    torch.set_num_threads(2)
    try:
        with pytest.raises(ResumeError, match="threads"):
            predict(scene, context_model(), out, resume=True, **SETTINGS)
    finally:
        torch.set_num_threads(1)


def test_without_resume_an_unfinished_map_is_started_afresh(
    scene: Path, tmp_path: Path, reference: tuple[dict[str, bytes], int, int]
) -> None:
    out, model = tmp_path / "work" / "map.tif", context_model()
    out.parent.mkdir()
    interrupt(scene, out, 3, overlap=4)
    predict(scene, model, out, **SETTINGS)
    assert model.windows_seen == reference[2]
    assert contents(out.parent) == reference[0]


def test_an_old_map_stays_until_the_new_one_is_complete(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    predict(scene, context_model(), out, **SETTINGS)
    before = out.read_bytes()
    interrupt(scene, out, 3, overlap=4)
    assert out.read_bytes() == before


def slowly(done: int, total: int, /) -> None:
    """Spread the row bands over time, so that a kill hits any of them."""
    time.sleep(0.02)


def map_in_child(scene: Path, out: Path, way: str) -> None:
    torch.set_num_threads(1)
    mapped(scene, out, way, resume=True, progress=slowly)


def kill_and_resume(
    folder: Path, monkeypatch: pytest.MonkeyPatch, way: str, *, kills: int, seed: int
) -> None:
    # Children fork from a server that has imported torch, so that each one starts at once.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wholescene.prediction", "toy_models"])
    scene = write(folder / "scene.tif", height=400, width=200)
    straight, killed = folder / "straight" / "map.tif", folder / "killed" / "map.tif"
    for path in (straight, killed):
        path.parent.mkdir()

    def start(out: Path) -> BaseProcess:
        process = context.Process(target=map_in_child, args=(scene, out, way))
        process.start()
        return process

    def finish(process: BaseProcess) -> None:
        process.join(120)
        assert process.exitcode == 0

    finish(start(killed))  # the server is up
    for path in killed.parent.iterdir():
        path.unlink()
    began = time.monotonic()
    finish(start(straight))
    length_s = time.monotonic() - began
    rng, done = random.Random(seed), 0
    while done < kills:
        process = start(killed)
        time.sleep(rng.uniform(0, length_s * 0.7))
        process.kill()
        process.join(60)
        done += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:  # it was faster: begin again
            assert contents(killed.parent) == contents(straight.parent)
            for path in killed.parent.iterdir():
                path.unlink()
    finish(start(killed))
    assert contents(killed.parent) == contents(straight.parent)
    assert sorted(p.name for p in killed.parent.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("way", ["windowed", "streamed in two sweeps"])
def test_killed_at_random_moments_the_map_has_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    kill_and_resume(tmp_path, monkeypatch, way, kills=5, seed=5)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_killed_twenty_times_the_map_has_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    kill_and_resume(tmp_path, monkeypatch, way, kills=20, seed=7)


def test_tags_say_how_the_map_was_made(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    predict(scene, context_model(), out, **SETTINGS)
    with rasterio.open(out) as file:
        tags = file.tags()
    assert tags["TIFFTAG_SOFTWARE"].startswith("wholescene 0.")
    named = " ".join(tags)
    for what in ("MODEL", "ENGINE", "BLOCK", "OVERLAP", "SCENE"):
        assert f"WHOLESCENE_{what}" in named


def test_toy_network_makes_windows_matter() -> None:
    """Else the tests above could not fail."""
    model: ToyModel = context_model()
    image = torch.ones(1, 3, 32, 32)
    part = model.net(image[..., :16])
    whole = model.net(image)[..., :16]
    assert (part - whole).abs().max() > 0.01
