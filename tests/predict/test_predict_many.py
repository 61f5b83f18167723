"""Several scenes in one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_models import context_model, noise, pixel_model, pooled_model, read, write_scene

from wholescene.errors import InputError, OutputError, WholesceneError
from wholescene.geometry import Size
from wholescene.prediction import mapper, mapping, predict, predict_many

MakeScene = Callable[..., Path]


def test_each_scene_gets_the_map_it_would_get_alone(make_scene: MakeScene, tmp_path: Path) -> None:
    scenes = [make_scene(40 + 10 * i, 50, f"{n}.tif", seed=i) for i, n in enumerate("abc")]
    model = pixel_model()
    results = predict_many(scenes, model, tmp_path / "maps", block=32)
    assert [r.output.name for r in results] == ["a.tif", "b.tif", "c.tif"]
    for scene, result in zip(scenes, results, strict=True):
        alone = tmp_path / f"alone_{scene.name}"
        predict(scene, model, alone, block=32)
        np.testing.assert_array_equal(read(result.output), read(alone))


@pytest.mark.parametrize("make_model", [context_model, pooled_model])
def test_a_network_is_made_ready_once_for_scenes_of_one_size(
    make_scene: MakeScene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[[], Any],
) -> None:
    ready: list[Size] = []
    real = mapping.choose_engine

    def counting(options: Any, model: Any, size: Size, device: Any) -> Any:
        ready.append(size)
        return real(options, model, size, device)

    sizes = [(50, 40), (50, 40), (40, 50), (40, 50), (50, 40)]
    scenes = [make_scene(*size, f"{i}.tif", seed=i) for i, size in enumerate(sizes)]
    settings = {"engine": "streamed", "block": 32, "probabilities": True}
    model = make_model()
    with monkeypatch.context() as patch:
        patch.setattr(mapping, "choose_engine", counting)
        results = predict_many(scenes, model, tmp_path / "maps", **settings)
    assert ready == [(50, 40), (40, 50), (50, 40)]
    for scene, result in zip(scenes, results, strict=True):
        alone = tmp_path / f"alone_{scene.name}"
        predict(scene, model, alone, **settings)
        assert result.output.read_bytes() == alone.read_bytes()


def test_a_map_that_broke_off_leaves_no_trace_in_the_next(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    first, second = (make_scene(90, 40, f"{i}.tif", seed=i) for i in range(2))
    settings = {"engine": "streamed", "block": 32}

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with mapper(pooled_model(), **settings) as ready:
        with pytest.raises(KeyboardInterrupt):
            ready.map(first, tmp_path / "first.tif", progress=stop)
        ready.map(second, tmp_path / "second.tif")
        ready.map(first, tmp_path / "first.tif", resume=True)
    for scene in (first, second):
        alone = tmp_path / f"alone_{scene.name}"
        predict(scene, pooled_model(), alone, **settings)
        name = "first.tif" if scene is first else "second.tif"
        assert (tmp_path / name).read_bytes() == alone.read_bytes()


def test_scenes_of_one_name_are_refused_before_work(tmp_path: Path) -> None:
    scenes = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        scenes.append(write_scene(tmp_path / folder / "s.tif", noise(20, 20)))
    model = pixel_model()
    with pytest.raises(InputError, match=r"x/s\.tif.*y/s\.tif.*both"):
        predict_many(scenes, model, tmp_path / "maps")
    assert model.windows_seen == 0
    assert not (tmp_path / "maps").exists()


def test_products_of_one_name_are_refused_before_work(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    """The probabilities of ``s`` would be the map of ``s_probabilities``."""
    scenes = [make_scene(20, 20, "s.tif"), make_scene(20, 20, "s_probabilities.tif")]
    model = pixel_model()
    with pytest.raises(InputError, match="s_probabilities"):
        predict_many(scenes, model, tmp_path / "maps", probabilities=True)
    assert model.windows_seen == 0


def test_scenes_are_not_overwritten_by_maps_in_their_own_folder(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scenes = [make_scene(20, 20, "a.tif"), make_scene(20, 20, "b.tif")]
    before, model = [scene.read_bytes() for scene in scenes], pixel_model()
    with pytest.raises(InputError, match=r"a\.tif is a scene that is read"):
        predict_many(scenes, model, tmp_path)
    assert [scene.read_bytes() for scene in scenes] == before
    assert model.windows_seen == 0


def test_a_scene_that_fails_does_not_stop_the_others(make_scene: MakeScene, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_text("no raster")
    scenes = [make_scene(30, 30, "a.tif"), bad, make_scene(30, 30, "c.tif")]
    with pytest.raises(WholesceneError, match=r"1 of 3 scenes.*\nbad\.tif: ") as caught:
        predict_many(scenes, pixel_model(), tmp_path / "maps")
    assert "c.tif" not in str(caught.value)
    for name in "ac":
        assert read(tmp_path / "maps" / f"{name}.tif").any()


def test_no_scene_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scene"):
        predict_many([], pixel_model(), tmp_path / "maps")


def test_a_file_in_place_of_the_folder_is_refused(make_scene: MakeScene, tmp_path: Path) -> None:
    (tmp_path / "maps").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        predict_many([make_scene(20, 20)], pixel_model(), tmp_path / "maps")


def test_finished_scenes_are_kept_on_resume(make_scene: MakeScene, tmp_path: Path) -> None:
    scenes = [make_scene(40, 50, f"{n}.tif") for n in "ab"]
    predict(scenes[0], pixel_model(), tmp_path / "a_map.tif")
    (tmp_path / "maps").mkdir()
    predict(scenes[0], pixel_model(), tmp_path / "maps" / "a.tif")
    model = pixel_model()
    results = predict_many(scenes, model, tmp_path / "maps", resume=True)
    assert model.windows_seen == 1
    assert [r.pixels for r in results] == [0, 2000]


def test_progress_rises_over_all_scenes_and_ends_at_the_total(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scenes = [make_scene(90 - 50 * i, 50, f"{n}.tif") for i, n in enumerate("ab")]
    shares = []
    predict_many(
        scenes,
        pixel_model(),
        tmp_path / "maps",
        block=32,
        progress=lambda done, total: shares.append(done / total),
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_one_file_per_band_and_sources_by_name_are_one_scene(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    pixels = noise(40, 30)
    bands = [
        make_scene(pixels=pixels[i : i + 1], name=f"band{i}.tif", names=(f"b{i}",))
        for i in range(3)
    ]
    whole = make_scene(pixels=pixels)
    joined = ";".join(map(str, bands))
    results = predict_many([joined, {"image": [whole]}], pixel_model(), tmp_path / "maps")
    assert [r.output.name for r in results] == ["band0.tif", "scene.tif"]
    np.testing.assert_array_equal(*(read(r.output) for r in results))
