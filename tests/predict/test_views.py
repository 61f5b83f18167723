"""Test-time augmentation averages views that are turned back to where they came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_models import context_model, noise, pixel_model, read

from wholescene.errors import InputError
from wholescene.prediction import Views, predict

MakeScene = Callable[..., Path]


def ramp_image(height: int, width: int) -> Tensor:
    return torch.arange(float(height * width)).view(1, 1, height, width)


@pytest.mark.parametrize(
    ("text", "views", "count"),
    [
        (None, Views(), 1),
        ("", Views(), 1),
        ("flips", Views(flips=True), 3),
        ("turns", Views(turns=True), 4),
        ("flips, turns", Views(flips=True, turns=True), 8),
        ("scales=0.75,1.25", Views(scales=(0.75, 1.25)), 3),
        ("scales=0.5,flips", Views(flips=True, scales=(0.5,)), 6),
        ("flips,turns,scales=0.75,1,1.25", Views(True, True, (0.75, 1.25)), 24),
    ],
)
def test_text_says_which_views_are_taken(text: str | None, views: Views, count: int) -> None:
    assert Views.parse(text) == views
    assert views.count == count
    assert Views.parse(str(views).replace("none", "")) == views


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flip", "'flip' is unknown; use any of flips, turns, scales="),
        ("0.75", "'0.75' is unknown"),
        ("scales=big", "'big' is no scale"),
        ("scales=0.75,9", "'9' is no scale"),
        ("scales=nan", "is no scale"),
        ("scales=0", "is no scale"),
        ("scales=", "is no scale"),
    ],
)
def test_text_that_names_no_view_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Views.parse(text)


@pytest.mark.parametrize("text", ["flips", "turns", "flips,turns"])
@pytest.mark.parametrize("size", [(5, 7), (8, 8), (1, 3)])
def test_every_view_comes_back_to_its_place(text: str, size: tuple[int, int]) -> None:
    """The identity as a network: only a view turned back wrongly could change the image."""
    image = ramp_image(*size)
    torch.testing.assert_close(Views.parse(text).average(image, lambda x: x), image)


@pytest.mark.parametrize(("text", "count"), [("flips", 3), ("turns", 4), ("flips,turns", 8)])
def test_no_view_is_taken_twice(text: str, count: int) -> None:
    seen: set[bytes] = set()

    def remember(image: Tensor) -> Tensor:
        seen.add(image.numpy().tobytes() + bytes(image.shape))
        return image

    Views.parse(text).average(ramp_image(4, 4), remember)
    assert len(seen) == count


def test_flips_are_averaged_by_hand() -> None:
    """A network that passes the left column only."""
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    left = torch.tensor([1.0, 0.0])
    found = Views.parse("flips").average(image, lambda x: x * left)
    # As it is and top to bottom: the left column passes; left to right: the right one.
    expected = torch.tensor([[[[2 / 3, 2 / 3], [6 / 3, 4 / 3]]]])
    torch.testing.assert_close(found, expected)


def test_scaled_views_have_the_scaled_size_and_the_size_of_the_image_in_the_end() -> None:
    shapes = []

    def remember(image: Tensor) -> Tensor:
        shapes.append(tuple(image.shape[2:]))
        return image

    found = Views.parse("scales=0.5,1.25").average(torch.full((1, 1, 8, 20), 3.0), remember)
    assert shapes == [(8, 20), (4, 10), (10, 25)]
    torch.testing.assert_close(found, torch.full((1, 1, 8, 20), 3.0))


def test_a_network_that_sees_single_pixels_gains_nothing_from_views(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene, model = make_scene(70, 50), pixel_model()
    for name, tta in (("plain", None), ("views", "flips,turns")):
        out = tmp_path / f"{name}.tif"
        predict(scene, model, out, engine="windowed", tta=tta, probabilities="float32")
    plain, views = (read(tmp_path / f"{n}_probabilities.tif") for n in ("plain", "views"))
    np.testing.assert_allclose(views, plain, atol=1e-6)


def test_with_all_views_a_flipped_scene_gives_the_flipped_map(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    pixels, model = noise(48, 48, smooth_px=4), context_model()
    for name, image in (("as_is", pixels), ("flipped", pixels[:, :, ::-1])):
        scene = make_scene(pixels=np.ascontiguousarray(image), name=f"{name}.tif")
        for tta in (None, "flips,turns"):
            out = tmp_path / f"{name}_{tta is None}.tif"
            predict(scene, model, out, engine="whole", tta=tta, probabilities="float32")
    differences = [
        np.abs(
            read(tmp_path / f"as_is_{plain}_probabilities.tif")
            - read(tmp_path / f"flipped_{plain}_probabilities.tif")[:, :, ::-1]
        ).max()
        for plain in (True, False)
    ]
    assert differences[0] > 0.1, "the network must have a handedness"
    assert differences[1] < 1e-5
