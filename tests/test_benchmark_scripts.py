import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wholescene.datasets import load_dataset, verify
from wholescene.geometry import Size, Window
from wholescene.raster import SceneReader

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PARTS = "import json, sys; print(json.dumps({'seconds': 1.0, 'run': True}))"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of ``benchmarks``, which belong to no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def data(name: str) -> Path:
    root = os.environ.get("WHOLESCENE_DATA")
    if root is None:
        pytest.skip("WHOLESCENE_DATA is unset")
    if not (Path(root) / name).is_dir():
        pytest.skip(f"no folder {name} in WHOLESCENE_DATA")
    return Path(root) / name


def toy_network() -> nn.Module:
    """Convolutions with norms, a shortcut, and a scale in between."""

    class Toy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
            self.down = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8))
            self.up = nn.Upsample(scale_factor=2, mode="nearest")
            self.last = nn.Conv2d(8, 4, 5, padding=2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            first = self.first(image)
            return self.last(torch.relu(self.up(self.down(first)) + first))

    torch.manual_seed(0)
    network = Toy()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 3, 32, 32))
    return network.eval().to(memory_format=torch.channels_last)


def scene(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 3, height, width, generator=generator)
    return image.contiguous(memory_format=torch.channels_last)


def classes_by(method: str, script: Any, network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    found = torch.full(image.shape[2:], 255, dtype=torch.uint8)
    script("methods").make(method, network, tuple(image.shape))(image, found)
    return found


def test_a_folded_network_is_the_network(script: Any) -> None:
    network, image = toy_network(), scene(48, 64)
    with torch.inference_mode():
        exact = network(image)
    found = script("folded").fold_network(network, tuple(image.shape))
    with torch.inference_mode():
        torch.testing.assert_close(found(image), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["streamed-32", "streamed", "whole"])
def test_an_exact_way_gives_the_classes_of_the_plain_forward(method: str, script: Any) -> None:
    network, image = toy_network(), scene(96, 64)
    with torch.inference_mode():
        exact = network(image).argmax(1)[0]
    assert torch.equal(classes_by(method, script, network, image), exact)


@pytest.mark.parametrize("kind", ["eager", "folded"])
def test_tiles_are_mapped_one_by_one_up_to_the_last_smaller_one(kind: str, script: Any) -> None:
    network, image = toy_network(), scene(80, 64)
    with torch.inference_mode():
        exact = network(image).argmax(1)[0]
        last = network(image[..., 64:, :32]).argmax(1)[0]
    found = classes_by(f"{kind}-32", script, network, image)
    assert torch.equal(found[64:, :32], last)
    assert not torch.equal(found, exact)


def test_one_window_over_the_whole_scene_is_exact(script: Any) -> None:
    network, image = toy_network(), scene(96, 96)
    exact = classes_by("whole", script, network, image)
    assert torch.equal(classes_by("windowed-25", script, network, image), exact)


def test_a_finished_cell_is_not_run_again(tmp_path: Path, script: Any) -> None:
    cells = script("processes").Cells
    file = tmp_path / "cells.jsonl"
    first = cells(file).run({"method": "a", "repeat": 0}, [sys.executable, "-c", PARTS])
    assert first["run"]
    with file.open("a", encoding="utf-8") as lines:
        lines.write('{"method": "b", "rep')  # killed while it was written
    again = cells(file).run(
        {"method": "a", "repeat": 0}, [sys.executable, "-c", "raise SystemExit"]
    )
    assert again == first
    assert cells(file).get({"method": "b"}) is None


def test_a_failed_cell_says_why_and_is_tried_again(tmp_path: Path, script: Any) -> None:
    cells = script("processes").Cells(tmp_path / "cells.jsonl")
    fails = [sys.executable, "-c", "import no_such_peer"]
    assert "no_such_peer" in cells.run({"method": "peer"}, fails)["error"]
    assert cells.run({"method": "peer"}, [sys.executable, "-c", PARTS])["run"]


def cell(method: str, repeat: int, seconds: float) -> dict[str, Any]:
    key = {"network": "n", "side": 2, "dtype": "float32", "method": method, "repeat": repeat}
    numbers = dict.fromkeys(("ready_seconds", "loaded_bytes", "peak_bytes", "working_bytes"), 1)
    return {**key, "seconds": seconds, "threads": 1, **numbers}


def test_ctrl_c_ends_a_script_with_one_line(
    script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        script("processes").interruptible(stopped)()
    assert caught.value.code == 130
    assert capsys.readouterr().err.splitlines() == [
        "interrupted; finished cells are kept, run again to go on"
    ]


def test_ratios_are_medians_within_repeats_to_the_fastest_tiles(
    tmp_path: Path, script: Any
) -> None:
    table = script("scene_table")
    times = {
        "streamed": (2.0, 4.0, 9.0),
        "folded-256": (1.9, 3.9, 7.9),
        "folded-512": (1.0, 2.0, 6.0),
        "whole": (1.0, 1.0, 1.0),
    }
    cells = {m: [cell(m, i, s) for i, s in enumerate(found)] for m, found in times.items()}
    for method, wrong in zip(times, (0, 2, 1, 0), strict=True):
        guess = np.zeros((2, 2), np.uint8)
        guess.flat[:wrong] = 1
        np.save(table.map_path(tmp_path, cells[method][0]), guess)
    cells["monai-25"] = [{**cell("monai-25", 0, 0.0), "error": "No module named 'monai'"}]
    rows = {row["method"]: row for row in table.summarise(cells, tmp_path)}
    assert rows["streamed"]["ratio_to_folded"] == 2.0
    assert rows["folded-512"]["ratio_to_streamed"] == 0.5
    assert rows["streamed"]["median_seconds"] == 4.0
    assert rows["streamed"]["ratio_to_eager"] is None
    assert {m: rows[m]["wrong_share"] for m in times} == {
        "streamed": 0.0,
        "folded-256": 0.5,
        "folded-512": 0.25,
        "whole": 0.0,
    }
    text = table.table(list(rows.values()))
    assert "No module named 'monai'" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


@pytest.mark.slow
def test_the_whole_scene_benchmark_runs_and_resumes(tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    command = [sys.executable, str(BENCHMARKS / "whole_scene.py"), "--quick", "--work", tmp_path]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(x) for x in (tmp_path / "cells.jsonl").read_text().splitlines()]
    assert {"streamed-128", "folded-128", "eager-128", "whole"} <= {x.get("method") for x in lines}
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[1:] == first.stdout.splitlines()[1:]


@pytest.mark.slow
def test_blue_marble_is_cut_without_leaks(tmp_path: Path, script: Any) -> None:
    dataset = load_dataset(script("blue_marble").prepare(data("blue-marble"), tmp_path))
    assert not [found for found in verify(dataset) if found.severity == "error"]
    statistics = dataset.spec.statistics
    assert statistics is not None
    assert statistics.class_counts == (5346127, 1921466, 22407)
    west, val, test = (
        SceneReader(dataset.split(name)[0].files["image"]) for name in ("train", "val", "test")
    )
    ends = [
        (r.transform.c, r.transform.c + r.size.width * r.transform.a) for r in (west, val, test)
    ]
    assert ends == [(-180, 0), pytest.approx((2, 40)), pytest.approx((42, 180))]


@pytest.mark.slow
def test_blue_marble_in_larger_pixels_covers_the_same(tmp_path: Path, script: Any) -> None:
    blue_marble = script("blue_marble")
    dataset = load_dataset(blue_marble.prepare(data("blue-marble"), tmp_path, every=5))
    image = np.arange(75, dtype=np.uint8).reshape(3, 5, 5)
    assert blue_marble.means(image, 5).ravel().tolist() == [12, 37, 62]
    for name, west, east in (("train", -180, 0), ("val", 2, 40), ("test", 42, 180)):
        with SceneReader(dataset.split(name)[0].files["image"]) as reader:
            size, place = reader.size, reader.transform
            assert size == Size(540, (east - west) * 3)
            assert (place.c, place.f) == pytest.approx((west, 90))
            assert (place.a, place.e) == pytest.approx((1 / 3, -1 / 3))


@pytest.mark.slow
def test_the_sentinel2_strips_hold_the_products_pixels(tmp_path: Path, script: Any) -> None:
    stack = script("sentinel2_stack")
    source = data("sentinel2-l2a")
    dataset = load_dataset(stack.prepare(source, tmp_path))
    assert not [found for found in verify(dataset) if found.severity == "error"]
    folder = next(source.glob("*.SAFE/GRANULE/*/IMG_DATA/R60m"))
    files = [stack.only(folder, name) for name in stack.BANDS]
    with (
        SceneReader(files, dataset.spec.sources) as whole,
        SceneReader(dataset.split("test")[0].files["image"], dataset.spec.sources) as part,
    ):
        rows = stack.ROWS["test"]
        window = Window(row_off=rows.start, col_off=0, height=len(rows), width=1830)
        expected, found = whole.read(window), part.read(Window.whole(part.size))
    np.testing.assert_array_equal(found.valid, expected.valid)
    np.testing.assert_array_equal(found.values, expected.values)
    assert 0.3 < (~found.valid).mean() < 0.6
