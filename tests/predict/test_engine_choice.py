"""``auto`` maps whole what fits into the memory, and streams the rest; never windows in silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_models import context_model, pooled_model

from wholescene.errors import InputError
from wholescene.prediction import Options, budget, plan_prediction, predict
from wholescene.prediction.budget import find_budget

MakeScene = Callable[..., Path]
SMALL = "3MiB"
"""Too little for the 8 feature maps of the toy network over 300 x 250 px."""


@pytest.fixture
def scene(make_scene: MakeScene) -> Path:
    return make_scene(300, 250)


@pytest.mark.parametrize(
    ("settings", "engine", "said"),
    [
        ({}, "whole", r"one plain forward takes about \d+ MiB of .* \(0\.5 of the machine's"),
        ({"memory": "1GiB"}, "whole", r"of 1\.0 GiB \(--memory\)"),
        ({"memory": SMALL}, "streamed", r"would take about \d+ MiB, more than 3 MiB \(--memory\)"),
        ({"engine": "streamed"}, "streamed", "asked for"),
        ({"engine": "whole"}, "whole", "asked for"),
        ({"engine": "windowed"}, "windowed", "asked for"),
        ({"memory": "1GiB", "tta": "flips"}, "whole", "one plain forward takes"),
    ],
)
def test_the_plan_says_which_engine_and_why(
    scene: Path,
    settings: dict[str, Any],
    engine: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "_machine", lambda: (16 << 30, 15 << 30))
    plan = plan_prediction(scene, context_model(), **settings)
    assert plan.engine == engine
    assert re.search(said, plan.reason)
    assert plan.notes == ()
    assert f"because  {plan.reason}" in plan.describe()


def test_predict_does_what_the_plan_says(scene: Path, tmp_path: Path) -> None:
    plan = plan_prediction(scene, context_model(), memory=SMALL)
    result = predict(scene, context_model(), tmp_path / "map.tif", memory=SMALL)
    assert (result.engine, result.blocks) == (plan.engine, plan.blocks) == ("streamed", plan.blocks)


def test_views_on_a_scene_that_does_not_fit_are_windowed_with_a_note(
    scene: Path, tmp_path: Path
) -> None:
    settings = {"memory": SMALL, "tta": "flips"}
    plan = plan_prediction(scene, context_model(), **settings)
    result = predict(scene, context_model(), tmp_path / "map.tif", **settings)
    assert plan.engine == result.engine == "windowed"
    assert any("made of overlapping windows" in note for note in result.notes)
    assert plan.notes == result.notes


def test_larger_views_count_in_the_memory(scene: Path) -> None:
    plain = plan_prediction(scene, context_model(), engine="whole")
    assert plain.memory_bytes is not None
    memory = int(1.5 * plain.memory_bytes)
    assert plan_prediction(scene, context_model(), memory=memory, tta="flips").engine == "whole"
    larger = plan_prediction(scene, context_model(), memory=memory, tta="scales=2")
    assert larger.engine == "windowed"


def test_a_block_that_is_not_used_is_said(scene: Path) -> None:
    plan = plan_prediction(scene, context_model(), block=64)
    assert plan.engine == "whole"
    assert any("--block is not used" in note for note in plan.notes)


@pytest.mark.parametrize("make", [context_model, pooled_model])
def test_the_estimate_stays_under_the_memory_given(scene: Path, make: Callable[[], Any]) -> None:
    blocks = []
    for memory in (3 << 20, 5 << 20, 9 << 20):
        plan = plan_prediction(scene, make(), engine="streamed", memory=memory)
        assert plan.memory_bytes is not None
        assert plan.memory_bytes <= memory
        blocks.append(plan.blocks)
    assert blocks == sorted(blocks, reverse=True)
    assert blocks[0] > blocks[-1], "more memory, larger blocks"


def test_a_budget_is_a_share_of_all_memory_unless_less_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    for free, expected in ((15 << 30, 8 << 30), (9 << 30, 8 << 30), (2 << 30, 2 << 30)):
        monkeypatch.setattr(budget, "_machine", lambda free=free: (16 << 30, free))
        assert find_budget(None, cpu).num_bytes == expected
    assert "free" in str(find_budget(None, cpu))
    assert find_budget("1.5GiB", cpu).num_bytes == 3 << 29


def test_too_little_free_memory_is_noted_and_no_error(
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_machine", lambda: (1 << 20, 1 << 20))
    plan = plan_prediction(scene, context_model(), block=128)
    assert plan.engine == "streamed"
    assert any("with --memory smaller ones are chosen" in note for note in plan.notes)


def test_the_engine_decides_what_a_map_depends_on() -> None:
    for name, expected in (("block", "64"), ("overlap", "8"), ("batch", "2")):
        with pytest.raises(InputError, match=f"--{name} {expected} does not apply to engine whole"):
            Options(engine="whole", **{name: int(expected)})
