import colorsys

import numpy as np
import pytest
import torch

from wholescene.data import Augment, ColorDistortion, DataSettings
from wholescene.data.color import ColorChange, turn_hue
from wholescene.errors import ConfigError

MEAN, STD = (127.5, 120.0, 90.0), (127.5, 60.0, 50.0)
OFF = ColorDistortion(brightness=0, contrast=0, saturation=0, hue_degrees=0, chance=1)
GREY = np.array([0.299, 0.587, 0.114])


def photograph(side: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return 30 + 90 * torch.rand(3, side, side, generator=generator)


def shown(colors: torch.Tensor) -> torch.Tensor:
    return (colors - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def changed(colors: torch.Tensor, settings: ColorDistortion, seed: int = 0) -> np.ndarray:
    """Physical values after the change."""
    change = ColorChange(settings, mean=MEAN, std=STD)
    out = change(shown(colors), np.random.default_rng(seed))
    return (out * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)).numpy()


@pytest.mark.parametrize("degrees", [-170.0, -25.4, 0.0, 12.0, 60.0, 120.0, 180.0])
def test_hue_turns_as_in_the_standard_library(degrees: float) -> None:
    colors = photograph(6)
    colors[:, 0, 0] = 50.0  # grey
    colors[:, 0, 1] = torch.tensor([80.0, 80.0, 10.0])  # two bands share the largest value
    expected = np.empty((3, 6, 6))
    for row, col in np.ndindex(6, 6):
        hue, *rest = colorsys.rgb_to_hsv(*(colors[:, row, col].numpy() / 255))
        expected[:, row, col] = colorsys.hsv_to_rgb((hue + degrees / 360) % 1, *rest)
    np.testing.assert_allclose(turn_hue(colors, degrees), expected * 255, atol=1e-3)


def test_brightness_is_one_factor() -> None:
    colors = photograph()
    ratio = changed(colors, OFF.model_copy(update={"brightness": 0.4})) / colors.numpy()
    np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-4)
    assert 0.6 <= ratio.flat[0] <= 1.4
    assert abs(ratio.flat[0] - 1) > 0.01


@pytest.mark.parametrize("name", ["contrast", "saturation"])
def test_contrast_and_saturation_stretch_around_grey(name: str) -> None:
    colors = photograph()
    grey = np.tensordot(GREY, colors.numpy(), axes=1)
    middle = grey.mean() if name == "contrast" else grey
    after = changed(colors, OFF.model_copy(update={name: 0.4}))
    ratio = (after - middle) / (colors.numpy() - middle)
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=2e-3)
    assert 0.6 <= np.median(ratio) <= 1.4
    assert abs(np.median(ratio) - 1) > 0.01


def test_values_end_at_zero_and_white() -> None:
    colors = 255 * torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    settings = ColorDistortion(brightness=0.9, contrast=0.9, chance=1)
    for seed in range(20):
        after = changed(colors, settings, seed)
        assert after.min() >= -1e-4
        assert after.max() <= 255 + 1e-3


def test_each_change_comes_by_its_chance() -> None:
    colors = photograph(4)
    maps = [changed(colors, ColorDistortion(), seed) for seed in range(800)]
    still = np.mean([np.allclose(part, colors, atol=1e-3) for part in maps])
    assert still == pytest.approx(0.5**4, abs=0.03)
    np.testing.assert_allclose(changed(colors, ColorDistortion(chance=0)), colors, atol=1e-4)


def test_samples_keep_their_colours_by_seed_and_number_and_invalid_pixels_are_zero() -> None:
    settings = DataSettings(
        dataset="d", flips=False, turns=False, color_distortion=ColorDistortion(chance=1.0)
    )
    label = torch.zeros(12, 12, dtype=torch.int64)
    valid = torch.ones(12, 12, dtype=torch.bool)
    valid[:3] = False

    def augmented(index: int) -> torch.Tensor:
        augment = Augment.from_settings(settings, mean=MEAN, std=STD, seed=4)
        image = shown(photograph()).masked_fill_(~valid, 0.0)
        return augment(image, label, valid, index=index)[0]

    assert torch.equal(augmented(7), augmented(7))
    assert not torch.equal(augmented(7), augmented(8))
    assert not augmented(7)[:, :3].any()


def test_other_than_three_bands_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"color_distortion .* the run has 4; .* data\.bands"):
        ColorChange(ColorDistortion(), mean=(0.0,) * 4, std=(1.0,) * 4)
