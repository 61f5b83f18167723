import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wholescene.models import build_encoder
from wholescene.models.first_layer import RGB, adapt_kernel, first_layer_keys, match_bands
from wholescene.raster.source import BandSpec


def bands(*names: str) -> list[BandSpec]:
    return [BandSpec(name=name) for name in names]


def test_kernels_are_placed_by_band_name_by_hand() -> None:
    kernel = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)  # red, green, blue; mean 3
    matches = match_bands(bands("nir", "Red", "green", "B", "dsm", "red edge"), RGB)
    assert matches == [None, 0, 1, 2, None, None]
    adapted = adapt_kernel(kernel, matches, num_source=3)
    # Scaled by 3 / 6.
    assert adapted.flatten().tolist() == [1.5, 0.5, 1.0, 3.0, 1.5, 1.5]


def test_the_same_bands_keep_their_kernel_and_another_order_permutes_it() -> None:
    kernel = torch.randn(8, 3, 7, 7)
    same = adapt_kernel(kernel, match_bands(bands(*RGB), RGB), num_source=3)
    assert torch.equal(same, kernel)
    turned = adapt_kernel(kernel, match_bands(bands("blue", "green", "red"), RGB), num_source=3)
    assert torch.equal(turned, kernel.flip(1))


def test_false_colour_of_three_bands_is_not_taken_for_rgb() -> None:
    kernel = torch.randn(2, 3, 3, 3)
    adapted = adapt_kernel(kernel, match_bands(bands("nir", "red", "green"), RGB), num_source=3)
    torch.testing.assert_close(adapted[:, 0], kernel.mean(1))
    assert torch.equal(adapted[:, 1:], kernel[:, :2])


@given(st.integers(1, 12), st.permutations(["red", "green", "blue", "a", "b", "c", "d"]))
def test_equal_inputs_excite_as_strongly_when_no_colour_is_named(n: int, names: list[str]) -> None:
    # The response to the same value in every band is that of the RGB layer, exactly so when all
    # kernels are the mean, and on average otherwise.
    kernel = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(n))
    unnamed = adapt_kernel(kernel, [None] * n, num_source=3)
    torch.testing.assert_close(unnamed.sum(1), kernel.sum(1))
    every = adapt_kernel(kernel, match_bands(bands(*names), RGB), num_source=3)
    torch.testing.assert_close(every.sum(1), kernel.sum(1))


def test_wavelengths_find_the_colour_where_names_do_not() -> None:
    sentinel = [
        BandSpec(name="B02", wavelength_nm=490),
        BandSpec(name="B03", wavelength_nm=560),
        BandSpec(name="B04", wavelength_nm=665),
        BandSpec(name="B05", wavelength_nm=705),
        BandSpec(name="B08", wavelength_nm=842),
    ]
    assert match_bands(sentinel, RGB) == [2, 1, 0, None, None]
    spectrum = [BandSpec(name=f"b{w}", wavelength_nm=w) for w in range(400, 900, 10)]
    matches = match_bands(spectrum, RGB)
    assert sorted(m for m in matches if m is not None) == [0, 1, 2]
    assert [spectrum[matches.index(c)].wavelength_nm for c in range(3)] == [660, 560, 490]
    # A name wins over a wavelength.
    both = [BandSpec(name="x", wavelength_nm=665), BandSpec(name="red")]
    assert match_bands(both, RGB) == [None, 0]


def test_space_folded_into_channels_keeps_its_layout() -> None:
    # Two folded pixels of three bands: pixel-major, as space-to-depth stems store them.
    kernel = torch.tensor([1.0, 2, 3, 10, 20, 30]).reshape(1, 6, 1, 1)
    adapted = adapt_kernel(kernel, [2, None, 0], num_source=3)
    assert adapted.flatten().tolist() == [3, 2, 1, 30, 20, 10]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet18", ("conv1.weight",)),
        ("test_resnet", ("conv1.0.weight",)),
        ("test_convnext", ("stem_0.weight",)),
        ("test_vit", ("model.patch_embed.proj.weight",)),
        ("test_efficientnet", ("conv_stem.weight",)),
        ("mobileone_s0", ("stem.conv_kxk.0.conv.weight", "stem.conv_scale.conv.weight")),
        ("hrnet_w18_small", ("conv1.weight",)),
        ("tresnet_m", ("body_conv1.conv.weight",)),
    ],
)
def test_first_layers_are_found_and_are_all_that_depends_on_the_bands(
    name: str, keys: tuple[str, ...]
) -> None:
    three, five = (build_encoder(name, num_bands=n).net for n in (3, 5))
    assert first_layer_keys(five) == keys
    own, other = three.state_dict(), five.state_dict()
    assert {key for key in own if own[key].shape != other[key].shape} == set(keys)
