from __future__ import annotations

import math

import pytest

from wholescene.train.schedule import lr_factor
from wholescene.train.settings import OptimSettings


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.01), (40_000, 0.0053589), (79_999, 3.87e-7), (80_000, 0.0)]
)
def test_poly_passes_its_published_anchors(step: int, expected: float) -> None:
    settings = OptimSettings(lr=0.01, schedule="poly", power=0.9)
    assert settings.lr * lr_factor(step, settings, steps=80_000) == pytest.approx(
        expected, rel=2e-3
    )


def test_cosine_is_one_half_cycle() -> None:
    settings = OptimSettings(schedule="cosine")
    factors = [lr_factor(step, settings, steps=8) for step in (0, 2, 4, 6, 8)]
    half = math.sqrt(0.5)
    assert factors == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2, 0])


def test_final_factor_is_where_the_schedule_ends() -> None:
    settings = OptimSettings(schedule="cosine", final_factor=0.1)
    assert lr_factor(8, settings, steps=8) == pytest.approx(0.1)
    assert lr_factor(0, settings, steps=8) == pytest.approx(1)


def test_warmup_rises_linearly_to_the_schedule_without_one() -> None:
    warm = OptimSettings(schedule="poly", warmup_steps=10, warmup_factor=0.2)
    plain = OptimSettings(schedule="poly")
    ratios = [lr_factor(s, warm, steps=100) / lr_factor(s, plain, steps=100) for s in range(12)]
    assert ratios == pytest.approx([0.2 + 0.08 * s for s in range(10)] + [1, 1])


def test_constant_stays_after_the_warmup() -> None:
    settings = OptimSettings(schedule="constant", warmup_steps=2, warmup_factor=0.0)
    assert [lr_factor(s, settings, steps=4) for s in range(5)] == [0, 0.5, 1, 1, 1]
