"""STDC encoders: sizes as published, values by another way, files, export, streaming."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import ConfigError, ModelFileError
from wholescene.models import (
    build_encoder,
    build_segmenter,
    list_encoders,
    load_encoder_weights,
    show,
)
from wholescene.spatial import stream
from wholescene.train.layers import encoder_layers

DEPTHS = {"stdc1": (2, 2, 2), "stdc2": (4, 5, 3)}


def conv(inputs: int, outputs: int, side: int) -> int:
    """Parameters of a convolution and its norm."""
    return side * side * inputs * outputs + 2 * outputs


def module(inputs: int, outputs: int, *, halves: bool) -> int:
    """1 x 1 to a half, 3 x 3 to a quarter, an eighth, an eighth; depthwise 3 x 3 if it halves."""
    half, quarter, eighth = outputs // 2, outputs // 4, outputs // 8
    rest = conv(half, quarter, 3) + conv(quarter, eighth, 3) + conv(eighth, eighth, 3)
    return conv(inputs, half, 1) + rest + halves * (9 * half + 2 * half)


CLASSIFIER = (1024 * 1024 + 2 * 1024) + (1024 * 1024 + 2 * 1024) + 1024 * 1000
"""Two layers of 1024 with norms, and one to 1000 classes, of the published network."""


@pytest.mark.parametrize(("name", "published"), [("stdc1", 8.44), ("stdc2", 12.47)])
def test_parameters_are_those_published(name: str, published: float) -> None:
    expected, last = conv(3, 32, 3) + conv(32, 64, 3), 64
    for channels, depth in zip((256, 512, 1024), DEPTHS[name], strict=True):
        expected += module(last, channels, halves=True)
        expected += (depth - 1) * module(channels, channels, halves=False)
        last = channels
    found = sum(p.numel() for p in build_encoder(name, num_bands=3).parameters())
    assert found == expected
    assert round((found + CLASSIFIER) / 1e6, 2) == published


@pytest.mark.parametrize("name", DEPTHS)
def test_maps_of_any_number_of_bands(name: str) -> None:
    encoder = build_encoder(name, num_bands=5).eval()
    assert encoder.reductions == (2, 4, 8, 16, 32)
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 5, 64, 96))
    sizes = [tuple(m.shape[1:]) for m in maps]
    assert sizes == [(32, 32, 48), (64, 16, 24), (256, 8, 12), (512, 4, 6), (1024, 2, 3)]


def reference(state: dict[str, Tensor], image: Tensor, depths: tuple[int, ...]) -> list[Tensor]:
    """The maps, from the tensors by their published names."""

    def norm(name: str, value: Tensor) -> Tensor:
        parts = (state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(value, *parts)

    def unit(name: str, value: Tensor, stride: int = 1) -> Tensor:
        kernel = state[f"{name}.conv.weight"]
        value = F.conv2d(value, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        return norm(f"{name}.bn", value).relu()

    maps = [unit("features.0", image, 2)]
    maps.append(last := unit("features.1", maps[0], 2))
    number = 2
    for depth in depths:
        for place in range(depth):
            name = f"features.{number}"
            half = unit(f"{name}.conv_list.0", last)
            small = half
            if place == 0:
                kernel = state[f"{name}.avd_layer.0.weight"]
                small = F.conv2d(half, kernel, stride=2, padding=1, groups=len(kernel))
                small = norm(f"{name}.avd_layer.1", small)
                half = F.avg_pool2d(half, 3, 2, 1)
            quarter = unit(f"{name}.conv_list.1", small)
            eighth = unit(f"{name}.conv_list.2", quarter)
            last = torch.cat([half, quarter, eighth, unit(f"{name}.conv_list.3", eighth)], 1)
            number += 1
        maps.append(last)
    return maps


def shaken(model: nn.Module) -> nn.Module:
    """Statistics and norms that are not trivial."""
    generator = torch.Generator().manual_seed(1)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(part.bias, 0, 0.1, generator=generator)
    return model


@pytest.mark.parametrize("name", DEPTHS)
def test_published_files_fill_it_and_give_the_same_maps(make_model, tmp_path, name: str) -> None:
    source = shaken(build_encoder(name, num_bands=3)).double().eval()
    flat = source.net.state_dict()
    state = {key.replace("features_", "features."): value for key, value in flat.items()}
    extra = {name: torch.zeros(9, 9) for name in ("conv_last.conv.weight", "fc.weight")}
    torch.save({"state_dict": state | extra}, tmp_path / "w.tar")
    model = make_model(name, "stdc", bands=("red", "green", "blue")).double()
    report = load_encoder_weights(model, tmp_path / "w.tar")
    assert report.coverage == 1
    assert report.unused == ("conv_last_conv_weight", "fc_weight")
    assert report.placed == ("red", "green", "blue")
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        for found, expected in zip(
            model.encoder(image), reference(state, image, DEPTHS[name]), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_more_bands_get_kernels_by_name(make_model, tmp_path) -> None:
    state = build_encoder("stdc1", num_bands=3).net.state_dict()
    torch.save(state, tmp_path / "w.pth")
    model = make_model("stdc1", "fcn", bands=("nir", "blue", "green", "red"))
    assert load_encoder_weights(model, tmp_path / "w.pth").placed == (None, "blue", "green", "red")


@pytest.mark.parametrize(("name", "decoder"), [("stdc1", "stdc"), ("stdc2", "unet")])
def test_streamed_and_exported_it_is_the_same(make_model, name: str, decoder: str) -> None:
    model = shaken(make_model(name, decoder, bands=("red", "green", "blue"))).double()
    image = torch.randn(1, 3, 160, 224, dtype=torch.float64)
    with torch.no_grad():
        expected = model(image)
        found = torch.export.export(model, (image,)).module()(image)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found = stream(model, image, block=64, strict=True)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-9


def test_it_is_listed_and_has_no_weights_to_fetch(make_spec) -> None:
    assert {"stdc1", "stdc2"} <= set(list_encoders())
    assert show("stdc2")["parameters"] == 9_348_768
    with pytest.raises(ConfigError, match="no weights 'in1k' for 'stdc1'"):
        build_encoder("stdc1.in1k", num_bands=3)
    with pytest.raises(ConfigError, match=r"'stdc1' cannot be built with .*output_stride"):
        build_encoder("stdc1", num_bands=3, options={"output_stride": 8})
    with pytest.raises(ModelFileError, match="no pretrained weights for encoder 'stdc1'"):
        build_segmenter(make_spec("stdc1", "stdc"), pretrained=True)


def test_layers_for_layer_decay_are_the_modules() -> None:
    numbers = encoder_layers(build_encoder("stdc1", num_bands=3), "stdc1")
    assert numbers["net.features_0.conv.weight"] == 0
    assert numbers["net.features_7.conv_list.3.bn.bias"] == 7
