"""Attention over the scene: what it computes, and that it knows no tiles and no devices."""

from __future__ import annotations

import cmath
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from wholescene import spatial
from wholescene.errors import ConfigError
from wholescene.models import (
    Architecture,
    ClassSpec,
    InteractionOptions,
    ModelSpec,
    Segmenter,
    build_segmenter,
)
from wholescene.models.interaction import SceneInteraction, _Layer, _turned
from wholescene.raster.source import BandSpec, SourceSpec


def segmenter(**options: Any) -> Segmenter:
    torch.manual_seed(0)
    made = Architecture(
        encoder="test_resnet",
        decoder="fcn",
        interaction=InteractionOptions(**options) if options else None,
    )
    spec = ModelSpec(
        architecture=made,
        sources=(SourceSpec(bands=(BandSpec(name="red"), BandSpec(name="nir"))),),
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        classes=tuple(ClassSpec(id=i, name=str(i), color=(i, 0, 0)) for i in range(3)),
    )
    return build_segmenter(spec).eval()


def awake(module: nn.Module) -> nn.Module:
    """Let the layers have their say, in double precision."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, _Layer):
            for linear in (part.project, part.mlp[3]):
                nn.init.normal_(linear.weight, std=0.2)
                nn.init.normal_(linear.bias, std=0.2)
    return module.double()


def by_hand(layer: _Layer, x: Tensor) -> Tensor:
    """The attention of one head, one pair of tokens after another, turning complex numbers."""
    channels, height, width = x.shape
    tokens = layer.norm(x.permute(1, 2, 0))
    depth = channels // layer.heads
    rates = [10_000.0 ** (-i / (depth // 4)) for i in range(depth // 4)]
    places = [(r, c) for r in range(height) for c in range(width)]

    def turned(vector: Tensor, row: int, col: int) -> list[complex]:
        found = []
        for half, place in ((vector[: depth // 2], row), (vector[depth // 2 :], col)):
            for i, rate in enumerate(rates):
                number = complex(half[i], half[i + depth // 4])
                found.append(number * cmath.exp(1j * (place + 0.5) * layer.unit * rate))
        return found

    mixed = torch.zeros(height, width, channels, dtype=x.dtype)
    for head in range(layer.heads):
        part = slice(head * depth, (head + 1) * depth)
        queries, keys, values = {}, {}, {}
        for r, c in places:
            queries[r, c] = turned(layer.query(tokens[r, c])[part], r, c)
            both = layer.key_value(tokens[r, c])
            keys[r, c] = turned(both[:channels][part], r, c)
            values[r, c] = both[channels:][part]
        for at in places:
            scores = [
                sum((q * k.conjugate()).real for q, k in zip(queries[at], keys[to], strict=True))
                / math.sqrt(depth)
                for to in places
            ]
            shares = torch.tensor(scores, dtype=x.dtype).softmax(0)
            mixed[at][part] = sum(s * values[to] for s, to in zip(shares, places, strict=True))
    tokens = x.permute(1, 2, 0) + layer.project(mixed)
    return (tokens + layer.mlp(tokens)).permute(2, 0, 1)


def test_attention_is_that_of_every_pair_of_tokens() -> None:
    layer = awake(_Layer(16, 16, InteractionOptions(heads=2)))
    x = torch.randn(1, 16, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[0], by_hand(layer, x[0]), rtol=1e-5, atol=1e-5)


def test_only_the_distance_of_two_tokens_counts() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 8, dtype=torch.float64)

    def score(at: tuple[int, int], to: tuple[int, int]) -> float:
        grid = torch.zeros(2, 1, 9, 9, 1, 8, dtype=torch.float64)
        grid[0, 0, at[0], at[1], 0], grid[1, 0, to[0], to[1], 0] = query, key
        a, b = _turned(grid[0], 1.0), _turned(grid[1], 1.0)
        return float(a[0, at[0], at[1], 0] @ b[0, to[0], to[1], 0])

    assert score((1, 2), (4, 3)) == pytest.approx(score((5, 7), (8, 8)), abs=1e-6)
    assert score((1, 2), (4, 3)) != pytest.approx(score((1, 2), (5, 3)), abs=1e-3)


def test_a_new_layer_changes_nothing() -> None:
    plain, more = segmenter(), segmenter(strides=(16, 32), heads=4)
    more.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(1, 2, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(more(image), plain(image))


CASES = {
    "scene": {"strides": (16, 32), "heads": 4},
    "pooled keys": {"strides": (8, 32), "heads": 4, "key_stride": 32},
    "windows": {"strides": (8, 16), "heads": 4, "window": 3},
}


@pytest.mark.parametrize("name", CASES)
def test_streamed_equals_whole(name: str) -> None:
    model = awake(segmenter(**CASES[name]))
    image = torch.randn(1, 2, 200, 136, dtype=torch.float64)
    with torch.no_grad():
        expected = model(image)
    found = spatial.stream(model, image, block=64, strict=True)
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_control_has_the_parameters_but_not_the_scene() -> None:
    scene, control = segmenter(strides=(16,), heads=4), segmenter(strides=(16,), heads=4, window=2)
    count = [sum(p.numel() for p in model.parameters()) for model in (scene, control)]
    assert count[0] == count[1]
    options = InteractionOptions(strides=(16,), heads=2, window=2)
    layer = awake(SceneInteraction((16,), (16,), options))
    x = torch.randn(1, 16, 6, 6, dtype=torch.float64)
    changed = x.clone()
    changed[..., 4:, 4:] += 1
    with torch.no_grad():
        before, after = layer([x])[0], layer([changed])[0]
    assert (before[..., :4, :] == after[..., :4, :]).all()
    assert not torch.allclose(before[..., 4:, 4:], after[..., 4:, 4:])


def test_padding_of_a_window_is_asked_by_nobody() -> None:
    options = InteractionOptions(strides=(16,), heads=2, window=4)
    layer = awake(SceneInteraction((16,), (16,), options))
    x = torch.randn(1, 16, 3, 3, dtype=torch.float64)
    alone = awake(SceneInteraction((16,), (16,), InteractionOptions(strides=(16,), heads=2)))
    alone.load_state_dict(layer.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(layer([x])[0], alone([x])[0])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"strides names 64, but the encoder's maps have strides"):
        segmenter(strides=(64,))
    with pytest.raises(ConfigError, match=r"heads = 5 does not divide"):
        segmenter(heads=5)
    with pytest.raises(ValidationError, match="names one twice"):
        InteractionOptions(strides=(16, 16))
