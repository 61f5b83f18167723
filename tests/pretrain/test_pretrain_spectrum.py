"""What happens to the values of views."""

from __future__ import annotations

import math

import pytest
import torch

from wholescene.errors import ConfigError
from wholescene.pretrain.published_views import PublishedSpectrum, _shift_hsv
from wholescene.pretrain.settings import ViewSettings
from wholescene.pretrain.spectrum import SpectralViews, blur

MEAN, STD = (100.0, 80.0, 60.0, 120.0), (20.0, 10.0, 30.0, 40.0)
OFF = {
    "color_chance": (1.0, 1.0),
    "blur_chance": (0.0, 0.0),
    "gain": 0.0,
    "band_gain": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def physical(views: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return views * std + mean


def change(views: torch.Tensor, *, first: bool = True, **settings: object) -> torch.Tensor:
    maker = SpectralViews(ViewSettings.model_validate({**OFF, **settings}), mean=MEAN, std=STD)
    return maker(views, generator(), first=first)


@pytest.fixture
def views() -> torch.Tensor:
    return torch.randn(6, 4, 8, 8, generator=generator(1))


def test_nothing_changes_when_all_is_off(views: torch.Tensor) -> None:
    torch.testing.assert_close(change(views), views)


def test_a_gain_multiplies_physical_values_and_keeps_band_ratios(views: torch.Tensor) -> None:
    ratio = physical(change(views, gain=0.3)) / physical(views)
    for image in ratio:  # one factor for every band and pixel of an image
        torch.testing.assert_close(image, image.mean().expand_as(image), rtol=1e-3, atol=1e-3)
    assert (ratio - 1).abs().max() <= 0.3 + 1e-4 and ratio.flatten(1).mean(1).std() > 0.05
    by_band = (physical(change(views, band_gain=0.05)) / physical(views)).mean((2, 3))
    assert by_band.std(1).min() > 0 and (by_band - 1).abs().max() <= 0.05 + 1e-3


def test_brightness_shifts_and_contrast_stretches_about_the_mean(views: torch.Tensor) -> None:
    shift = change(views, brightness=0.5) - views
    assert torch.allclose(shift.flatten(1).std(1), torch.zeros(6), atol=1e-6)
    stretched = change(views, contrast=0.5)
    torch.testing.assert_close(stretched.mean((2, 3)), views.mean((2, 3)), rtol=0, atol=1e-5)
    factors = stretched.std((2, 3)) / views.std((2, 3))
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-4)


def test_chances_are_those_of_the_view(views: torch.Tensor) -> None:
    chances = {"color_chance": (0.0, 1.0), "gain": 0.5}
    assert torch.equal(change(views, first=True, **chances), views)
    assert not torch.equal(change(views, first=False, **chances), views)


def test_solarise_mirrors_what_is_above_the_mean(views: torch.Tensor) -> None:
    found = change(views, solarise_chance=(1.0, 0.0))
    torch.testing.assert_close(found, -views.abs())


def test_dropout_blanks_bands_but_never_all(views: torch.Tensor) -> None:
    found = change(views.repeat(50, 1, 1, 1), channel_dropout=0.9)
    kept = (found != 0).any(-1).any(-1)
    assert (kept.sum(1) >= 1).all() and 1 <= kept.sum(1).float().mean() < 1.6


def test_blur_is_the_gaussian_of_each_image() -> None:
    images = torch.zeros(2, 1, 21, 21)
    images[:, :, 10, 10] = 1.0
    sigma = torch.tensor([1.0, 2.0])
    found = blur(images, sigma)
    for number, width in enumerate((1.0, 2.0)):
        weights = [math.exp(-(x**2) / (2 * width**2)) for x in range(-6, 7)]
        kernel = torch.tensor(weights) / sum(weights)
        expected = torch.zeros(21, 21)
        expected[4:17, 4:17] = kernel[:, None] * kernel[None]
        torch.testing.assert_close(found[number, 0], expected, rtol=1e-4, atol=1e-6)


def test_grey_is_for_three_bands() -> None:
    settings = ViewSettings.model_validate({**OFF, "grey_chance": 1.0})
    grey = SpectralViews(settings, mean=MEAN[:3], std=STD[:3])
    found = grey(torch.randn(2, 3, 4, 4), generator(), first=True)
    assert torch.equal(found[:, 0], found[:, 1]) and torch.equal(found[:, 0], found[:, 2])
    with pytest.raises(ConfigError, match=r"views\.grey_chance = 1\.0 makes three bands grey"):
        SpectralViews(settings, mean=MEAN, std=STD)


def test_published_hue_saturation_and_value_are_those_of_the_model() -> None:
    colors = torch.rand(4, 3, 6, 6, generator=generator()) * 200 + 20
    found = _shift_hsv(colors, generator())
    draws = torch.Generator().manual_seed(0)
    from wholescene.pretrain.geometry import uniform

    hue, saturation, value = (
        most * uniform(draws, 4, 1, 1, low=-1).flatten() for most in (60.0, 5.0, 15.0)
    )
    import colorsys

    for image, row, col in ((0, 0, 0), (1, 3, 2), (3, 5, 5)):
        h, s, v = colorsys.rgb_to_hsv(*(colors[image, :, row, col] / 255).tolist())
        h = (h + float(hue[image]) / 360) % 1
        s = min(max(s + float(saturation[image]) / 255, 0), 1)
        v = min(max(v + float(value[image]) / 255, 0), 1)
        expected = torch.tensor(colorsys.hsv_to_rgb(h, s, v)) * 255
        torch.testing.assert_close(found[image, :, row, col], expected, rtol=1e-3, atol=0.1)


def test_published_first_view_stays_and_the_second_stays_in_range() -> None:
    spectrum = PublishedSpectrum(mean=(127.5,) * 4, std=(255 / 3.2,) * 4)
    views = torch.rand(64, 4, 16, 16, generator=generator()) * 3.2 - 1.6
    assert spectrum(views, generator(), first=True) is views
    found = spectrum(views, generator(), first=False)
    assert found.abs().max() <= 1.6 + 1e-4
    unchanged = torch.isclose(found, views, atol=1e-4).flatten(1).all(1).float().mean()
    # Neither colour (0.2), nor grey (0.9), nor blur (0.5); four bands always change with colour.
    assert unchanged == pytest.approx(0.2 * 0.9 * 0.5, abs=0.08)
