"""Overlapping windows add up to one seamless whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_models import (
    ToyModel,
    constant_model,
    context_model,
    noise,
    pixel_model,
    read,
    softmax_of,
    write_scene,
)

from wholescene.geometry import cover_starts
from wholescene.prediction import predict
from wholescene.prediction.blend import RowBlender, axis_weights, ramp

MakeScene = Callable[..., Path]


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Length of an axis, window and overlap on it."""
    total = draw(st.integers(1, 60))
    window = draw(st.integers(1, total))
    return total, window, draw(st.integers(0, window - 1))


@given(axes())
def test_weights_of_all_windows_add_up_to_one_at_each_pixel(axis: tuple[int, int, int]) -> None:
    total, window, overlap = axis
    starts = cover_starts(total, window, window - overlap)
    covered = np.zeros(total)
    for start, weight in zip(starts, axis_weights(starts, window, overlap, total), strict=True):
        assert weight.min() > 0
        covered[start : start + window] += weight
    np.testing.assert_allclose(covered, 1, atol=1e-5)


def test_a_ramp_rises_to_one_mirrors_itself_and_is_never_zero() -> None:
    weight = ramp(16, 4)
    np.testing.assert_array_equal(weight, weight[::-1])
    np.testing.assert_array_equal(weight[4:12], 1)
    assert (np.diff(weight[:5]) > 0).all()
    assert weight[0] > 0
    # Neighbours overlapping by 4 px: what one loses, the other gains.
    np.testing.assert_allclose(weight[:4] + weight[-4:], 1, atol=1e-6)


@given(axes(), st.integers(0, 2**16))
def test_the_rolling_buffer_gives_what_a_whole_canvas_would(
    axis: tuple[int, int, int], seed: int
) -> None:
    total, window, overlap = axis
    starts = cover_starts(total, window, window - overlap)
    rng = np.random.default_rng(seed)
    parts = torch.from_numpy(rng.random((len(starts), 2, window, 3), dtype=np.float32))
    weights = torch.from_numpy(rng.random((len(starts), window, 3), dtype=np.float32))
    canvas = torch.zeros(2, total, 3)
    blender = RowBlender(2, window, 3)
    blender.start(0)
    taken = []
    for start, stop, part, weight in zip(starts, [*starts[1:], total], parts, weights, strict=True):
        canvas[:, start : start + window] += part * weight
        blender.add(part, start, 0, weight)
        taken.append(blender.take(stop).clone())
    torch.testing.assert_close(torch.cat(taken, 1), canvas, rtol=1e-6, atol=1e-6)


def test_constant_logits_give_a_constant_map(make_scene: MakeScene, tmp_path: Path) -> None:
    model = constant_model(0.3, -1.0, 2.0)
    out = tmp_path / "map.tif"
    predict(
        make_scene(101, 77),
        model,
        out,
        engine="windowed",
        block=32,
        overlap=12,
        probabilities="float32",
    )
    expected = np.exp([0.3, -1.0, 2.0]) / np.exp([0.3, -1.0, 2.0]).sum()
    found = read(tmp_path / "map_probabilities.tif")
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None, None], found.shape), 1e-5)
    assert set(read(out).ravel()) == {11}


@pytest.mark.parametrize(
    ("size", "block", "overlap"),
    [
        ((96, 80), 32, 8),
        ((96, 80), 32, 31),
        ((97, 33), 32, 0),
        ((20, 500), 64, 16),
        ((1, 90), 32, 8),
    ],
)
def test_a_network_without_context_gives_the_same_map_in_windows_as_whole(
    make_scene: MakeScene, tmp_path: Path, size: tuple[int, int], block: int, overlap: int
) -> None:
    pixels = noise(*size)
    scene, model = make_scene(pixels=pixels), pixel_model()
    windows = {"block": block, "overlap": overlap}
    for engine, settings in (("windowed", windows), ("whole", {})):
        out = tmp_path / f"{engine}.tif"
        predict(scene, model, out, engine=engine, probabilities="float32", **settings)
    windowed, whole = (read(tmp_path / f"{e}_probabilities.tif") for e in ("windowed", "whole"))
    np.testing.assert_allclose(windowed, whole, atol=1e-5)
    np.testing.assert_allclose(whole, softmax_of(model, pixels), atol=1e-5)


def blended_by_hand(model: ToyModel, pixels: np.ndarray, block: int, overlap: int) -> np.ndarray:
    """Mean of the windows' probabilities on a canvas of the whole scene, in float64."""
    slope = (np.arange(overlap) + 0.5) / overlap
    side = np.ones(block)
    side[:overlap] = 0.5 - 0.5 * np.cos(np.pi * slope)
    side[-overlap:] = side[:overlap][::-1]
    weight = np.outer(side, side)
    height, width = pixels.shape[1:]
    sums, shares = np.zeros((3, height, width)), np.zeros((height, width))
    for row in cover_starts(height, block, block - overlap):
        for col in cover_starts(width, block, block - overlap):
            place = np.s_[row : row + block, col : col + block]
            sums[:, *place] += weight * softmax_of(model, pixels[:, *place])
            shares[place] += weight
    return sums / shares


def test_a_map_is_the_weighted_mean_of_its_windows(make_scene: MakeScene, tmp_path: Path) -> None:
    pixels, model = noise(90, 75, smooth_px=5), context_model()
    out = tmp_path / "map.tif"
    predict(
        make_scene(pixels=pixels),
        model,
        out,
        engine="windowed",
        block=40,
        overlap=12,
        batch=2,
        probabilities="float32",
    )
    expected = blended_by_hand(model, pixels, 40, 12)
    np.testing.assert_allclose(read(tmp_path / "map_probabilities.tif"), expected, atol=1e-5)
    np.testing.assert_array_equal(read(out)[0], np.array([1, 10, 11])[expected.argmax(0)])


def seam_ratio(scene: Path, model: ToyModel, out: Path, *, overlap: int) -> float:
    """Steps of probability across window borders over steps elsewhere."""
    block = 64
    settings = {"engine": "windowed", "block": block, "overlap": overlap}
    predict(scene, model, out, probabilities="float32", **settings)
    found = read(out.with_name(f"{out.stem}_probabilities.tif"))
    steps = np.abs(np.diff(found, axis=1)).mean((0, 2))
    starts = cover_starts(found.shape[1], block, block - overlap)
    borders = {b for start in starts for b in (start, start + block)} - {0, found.shape[1]}
    at_border = np.array([row + 1 in borders for row in range(len(steps))])
    return float(steps[at_border].mean() / steps[~at_border].mean())


def test_blending_leaves_no_seam_where_plain_windows_do(tmp_path: Path) -> None:
    model = context_model()
    # A slow gradient: steps between neighbours are small, so a seam stands out.
    rows, cols = np.mgrid[:256, :200]
    pixels = np.stack([120 + 60 * np.sin(rows / 40 + k) * np.cos(cols / 50) for k in range(3)])
    scene = write_scene(tmp_path / "scene.tif", pixels.astype(np.float32))
    plain = seam_ratio(scene, model, tmp_path / "plain.tif", overlap=0)
    blended = seam_ratio(scene, model, tmp_path / "blended.tif", overlap=32)
    assert plain > 5, "the network must be one that makes seams"
    assert blended < 1.2
