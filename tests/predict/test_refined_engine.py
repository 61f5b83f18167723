"""A refined network over a scene: the same map whatever runs the coarse one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_models import MEAN, STD, make_spec, noise, read

from wholescene.models import (
    Architecture,
    RefinedSegmenter,
    RefineSettings,
    build_segmenter,
    load_model,
    save_model,
)
from wholescene.prediction import plan_prediction, predict

MakeScene = Callable[..., Path]
SIZE = (150, 117)


@pytest.fixture
def model() -> RefinedSegmenter:
    small = RefineSettings(
        classes=("class 1",), window_px=32, margin_px=8, encoder="test_resnet", decoder="fcn"
    )
    made = Architecture(encoder="test_resnet", decoder="fcn", refine=small)
    torch.manual_seed(5)
    found = build_segmenter(make_spec(classes=4).model_copy(update={"architecture": made}))
    assert isinstance(found, RefinedSegmenter)
    for head in (found.head, found.fine.head):
        nn.init.normal_(head.classify.weight, std=3)
    return found.eval()


def image_of(pixels: np.ndarray) -> torch.Tensor:
    return ((torch.from_numpy(pixels.astype(np.float32)) - MEAN) / STD)[None]


def test_engines_agree_with_the_plain_forward(
    model: RefinedSegmenter, make_scene: MakeScene, tmp_path: Path
) -> None:
    pixels = noise(*SIZE, smooth_px=20)
    scene = make_scene(*SIZE, pixels=pixels)
    with torch.no_grad():
        image = image_of(pixels)
        plain, coarse = model(image)[0].argmax(0).numpy(), model.coarse(image)[0].argmax(0).numpy()
    ids = np.array(model.spec.class_table.ids)
    assert (plain != coarse).any()
    for settings in ({"engine": "whole"}, {"engine": "streamed", "block": 64}):
        out = tmp_path / f"{settings['engine']}.tif"
        predict(scene, model, out, **settings)
        assert (read(out)[0] != ids[plain]).mean() < 1e-3, settings


def test_an_interrupted_map_goes_on(
    model: RefinedSegmenter, make_scene: MakeScene, tmp_path: Path
) -> None:
    scene = make_scene(*SIZE, pixels=noise(*SIZE, smooth_px=20))
    settings = {"engine": "streamed", "block": 32}
    predict(scene, model, tmp_path / "once.tif", **settings)

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(scene, model, tmp_path / "twice.tif", progress=stop, **settings)
    predict(scene, model, tmp_path / "twice.tif", resume=True, **settings)
    assert (tmp_path / "twice.tif").read_bytes() == (tmp_path / "once.tif").read_bytes()


def test_a_model_file_keeps_both_networks(
    model: RefinedSegmenter, make_scene: MakeScene, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "model")
    found = load_model(tmp_path / "model")
    assert isinstance(found, RefinedSegmenter)
    image = torch.randn(1, 3, 70, 50)
    with torch.no_grad():
        assert torch.equal(found.eval()(image), model(image))


def test_the_plan_names_what_is_refined(model: RefinedSegmenter, make_scene: MakeScene) -> None:
    plan = plan_prediction(make_scene(*SIZE), model, engine="streamed", block=64)
    assert "class 1 refined in windows of 32 px" in str(plan)
