"""Networks nobody has designed give the same numbers whole and streamed."""

from __future__ import annotations

import random

import pytest
import torch
from comparison import difference, fallbacks, scene, streamed
from random_networks import RandomNetwork

from wholescene.spatial.capture import capture
from wholescene.spatial.schedule import schedule


def _check(seed: int, num_layers: int) -> None:
    draw = random.Random(seed)
    shape = (draw.randint(1, 2), 3, draw.randint(1, 41), draw.randint(1, 41))
    module = RandomNetwork(seed, shape, num_layers).double()
    image = scene(shape, seed)
    with torch.no_grad():
        expected = module(image)
    ready = schedule(capture(module, shape, dtype=torch.float64))
    for block in (draw.randint(1, 9), draw.randint(10, 50)):
        assert difference(streamed(ready, image, block), expected) < 1e-9, f"block {block}"
    assert fallbacks(ready) == []


@pytest.mark.parametrize("seed", range(8))
def test_random_networks(seed: int) -> None:
    _check(seed, 8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_many_random_networks(seed: int) -> None:
    _check(seed, 14)
