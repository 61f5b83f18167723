import sys

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import nn

from wholescene.errors import ConfigError, UnsupportedError
from wholescene.models.decoders import (
    FeatureLevels,
    build_decoder,
    decoder_options,
    resize,
)

PYRAMIDS = {
    "resnet": ((8, 8, 12, 16, 20), (2, 4, 8, 16, 32)),
    "convnext": ((8, 12, 16, 20), (4, 8, 16, 32)),
    "dilated": ((8, 8, 12, 16, 20), (2, 4, 8, 8, 8)),
    "vgg": ((4, 8, 8, 12, 16, 20), (1, 2, 4, 8, 16, 32)),
    "two maps": ((12, 20), (4, 16)),
}
STRIDE = {"fcn": max, "unet": lambda r: 1, "upernet": lambda r: next(s for s in r if s >= 4)}


def levels(name: str) -> FeatureLevels:
    channels, reductions = PYRAMIDS[name]
    return FeatureLevels(encoder=name, channels=channels, reductions=reductions)


def maps(name: str, height: int = 32, width: int = 96) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, height // r, width // r, generator=generator)
        for c, r in zip(*PYRAMIDS[name], strict=True)
    ]


@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("name", STRIDE)
def test_output_has_the_stated_channels_and_stride(name: str, pyramid: str) -> None:
    decoder = build_decoder(name, levels(pyramid), {"channels": 8} if name == "upernet" else {}, 3)
    with torch.no_grad():
        out = decoder.eval()(maps(pyramid))
    stride = STRIDE[name](PYRAMIDS[pyramid][1])
    assert out.shape == (2, decoder.out_channels, 32 // stride, 96 // stride)


def test_unet_computes_what_smp_computes() -> None:
    torch.manual_seed(0)
    decoder = build_decoder("unet", levels("resnet"), {}, 3).eval()
    theirs = UnetDecoder((3, *PYRAMIDS["resnet"][0]), (256, 128, 64, 32, 16)).eval()
    theirs.load_state_dict(decoder.net.state_dict())
    features = maps("resnet")
    with torch.no_grad():
        expected = theirs([torch.zeros(2, 3, 32, 96), *features])
        torch.testing.assert_close(decoder(features), expected, rtol=0, atol=0)


def test_unet_on_convnext_has_the_blocks_of_smp(make_model) -> None:
    """Encoder, decoder and head of ours and of theirs are the same function."""
    ours = make_model("test_convnext", "unet")
    theirs = smp.Unet("tu-test_convnext", encoder_weights=None, in_channels=4, classes=3).eval()
    theirs.encoder.model.load_state_dict(ours.encoder.net.state_dict())
    theirs.decoder.load_state_dict(ours.decoder.net.state_dict())
    theirs.segmentation_head[0].load_state_dict(ours.head.classify.state_dict())
    image = torch.randn(1, 4, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-6)


def test_fcn_is_the_head_of_torchvision() -> None:
    decoder = build_decoder("fcn", levels("resnet"), {}, 3).eval()
    reference = nn.Sequential(
        nn.Conv2d(20, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU()
    )
    reference[0].load_state_dict(decoder.conv.conv.state_dict())
    features = maps("resnet")
    with torch.no_grad():
        torch.testing.assert_close(decoder(features), reference.eval()(features[-1]))


def test_fcn_on_all_levels_stacks_them_at_the_finest() -> None:
    decoder = build_decoder("fcn", levels("two maps"), {"levels": "all"}, 3).eval()
    finest, coarsest = maps("two maps")
    grown = nn.functional.interpolate(coarsest, (8, 24), mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected = decoder.conv(torch.cat([finest, grown], 1))
        torch.testing.assert_close(decoder([finest, coarsest]), expected)


def test_upernet_pools_averages_over_its_bins() -> None:
    pool = build_decoder("upernet", levels("two maps"), {"channels": 8}, 3).eval().pool
    pooled: list[torch.Tensor] = []
    for reduce in pool.reduce:
        reduce.register_forward_pre_hook(lambda _, args: pooled.append(args[0]))
    features = torch.randn(1, 20, 6, 6)
    with torch.no_grad():
        assert pool(features).shape == (1, 8, 6, 6)
    for bins, found in zip((1, 2, 3, 6), pooled, strict=True):
        side = 6 // bins
        cells = features.reshape(1, 20, bins, side, bins, side).mean((3, 5))
        torch.testing.assert_close(found, cells)


def test_upernet_passes_coarse_context_down_to_every_level() -> None:
    decoder = build_decoder("upernet", levels("resnet"), {"channels": 8}, 3).eval()
    smoothed: list[torch.Tensor] = []
    for smooth in decoder.smooth:
        smooth.register_forward_hook(lambda _, args, out: smoothed.append(out))
    features = [f.requires_grad_() for f in maps("resnet")]
    out = decoder(features)
    assert len(smoothed) == 3
    for level in smoothed:
        (gradient,) = torch.autograd.grad(level[..., 0, 0].sum(), features[-1], retain_graph=True)
        assert (gradient.abs().sum((0, 1)) > 0).all()  # pooling sees the whole image
    out[..., 0, 0].sum().backward()
    assert features[0].grad is None  # stride 2 is not read
    assert int((features[1].grad.abs().sum((0, 1)) > 0).sum()) < features[1][0, 0].numel()


def test_resize_keeps_corners_unaligned() -> None:
    grown = resize(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    torch.testing.assert_close(grown, torch.tensor([[[[0.0, 0.25, 0.75, 1.0]]]]))


def test_unknown_names_and_options_list_the_legal_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"no decoder 'unett' \(did you mean 'unet'\?\).*fcn, unet, upernet"
    ):
        decoder_options("unett", {})
    with pytest.raises(ConfigError, match=r"unknown key 'chanels' \(did you mean 'channels'\?\)"):
        decoder_options("upernet", {"chanels": 8})
    with pytest.raises(ConfigError, match=r"'dropout': .*less than 1 \(got 1.5\)"):
        decoder_options("fcn", {"dropout": 1.5})
    with pytest.raises(
        ConfigError, match=r"channels lists \[8, 8\], but this encoder needs 5 blocks"
    ):
        build_decoder("unet", levels("resnet"), {"channels": [8, 8]}, 3)


def test_unet_without_its_extra_says_how_to_install_it(monkeypatch) -> None:
    for name in [n for n in sys.modules if n.startswith("segmentation_models_pytorch")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedError, match=r"pip install 'wholescene\[smp\]'"):
        build_decoder("unet", levels("resnet"), {}, 3)
