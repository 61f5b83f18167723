"""The decoders of the remote sensing benchmark: sizes, formulas, and where they leave the paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wholescene.errors import ConfigError, InputError, UnsupportedError
from wholescene.models.auxiliary import AuxiliaryOptions
from wholescene.models.build import build_segmenter
from wholescene.models.decoders import Decoder, FeatureLevels, build_decoder
from wholescene.models.decoders.aspp import usual_rates
from wholescene.models.decoders.danet import ChannelAttention, PositionAttention
from wholescene.models.encoder import build_encoder

RESNET50 = ((64, 256, 512, 1024, 2048), (2, 4, 8, 16, 32))
SMALL = ((8, 8, 12, 16, 32), (2, 4, 8, 16, 32))
HRNET_W18, HRNET_W48 = ((18, 36, 72, 144), (4, 8, 16, 32)), ((48, 96, 192, 384), (4, 8, 16, 32))
NAMES = ("fcn", "pspnet", "danet", "deeplabv3", "deeplabv3plus", "upernet", "ocrnet", "contrast")
OPTIONS: dict[str, dict] = {
    "deeplabv3": {"channels": 16},
    "deeplabv3plus": {"channels": 16, "low_channels": 8},
    "upernet": {"channels": 16},
    "contrast": {"min_pixels": 4},
}
HRNET_FEATURES = {"feature_location": "", "out_indices": [1, 2, 3, 4]}


def decoder(name: str, pyramid: tuple = SMALL, num_classes: int = 6, **options: object) -> Decoder:
    torch.manual_seed(0)
    levels = FeatureLevels(encoder="toy", channels=pyramid[0], reductions=pyramid[1])
    return build_decoder(name, levels, {**OPTIONS.get(name, {}), **options}, num_classes).eval()


def maps(pyramid: tuple = SMALL, height: int = 64, width: int = 96) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, height // r, width // r, generator=generator)
        for c, r in zip(*pyramid, strict=True)
    ]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def conv(channels: int, out: int, kernel: int = 1) -> int:
    """Parameters of a convolution without bias and its norm."""
    return channels * out * kernel**2 + 2 * out


def separable(channels: int, out: int) -> int:
    return 9 * channels + 2 * channels + conv(channels, out)


def linear(channels: int, out: int) -> int:
    return channels * out + out


FULL = {"channels": 256}
ASPP = conv(2048, 256) + 3 * separable(2048, 256) + conv(2048, 256) + conv(1280, 256)
ASPP_DENSE = 2 * conv(2048, 256) + 3 * conv(2048, 256, 3) + conv(1280, 256)
DANET = 2 * conv(2048, 512, 3) + 2 * conv(512, 512, 3) + 2 * linear(512, 64) + linear(512, 512) + 2
COUNTS = [
    ("fcn", HRNET_W18, {"levels": "all", "kernel_size": 1}, conv(270, 270), 73_440),
    (
        "fcn",
        HRNET_W18,
        {"levels": "all", "kernel_size": 1, "faithful": True},
        conv(270, 270) + 270,
        73_710,
    ),
    ("fcn", HRNET_W48, {"levels": "all", "kernel_size": 1}, conv(720, 720), 519_840),
    ("pspnet", RESNET50, {}, 4 * conv(2048, 512) + conv(4096, 1024, 3), 41_949_184),
    (
        "danet",
        RESNET50,
        {},
        DANET + 2 * linear(512, 6) + linear(2048, 6),
        23_943_828,
    ),
    ("deeplabv3", RESNET50, FULL, ASPP_DENSE, 15_535_104),
    (
        "deeplabv3plus",
        RESNET50,
        {**FULL, "low_channels": 48},
        ASPP + conv(256, 48) + separable(304, 256) + separable(256, 256),
        3_182_704,
    ),
    (
        "ocrnet",
        RESNET50,
        {},
        conv(1024, 1024)
        + linear(1024, 6)
        + conv(2048, 512, 3)
        + 2 * (conv(512, 256) + conv(256, 256))
        + conv(512, 256)
        + conv(256, 512)
        + conv(1024, 512),
        11_679_238,
    ),
    (
        "contrast",
        HRNET_W48,
        {},
        conv(720, 720, 3) + conv(720, 720) + linear(720, 720) + linear(720, 6),
        5_710_326,
    ),
]


@pytest.mark.parametrize(("name", "pyramid", "options", "expected", "total"), COUNTS)
def test_parameters_by_hand(
    name: str, pyramid: tuple, options: dict, expected: int, total: int
) -> None:
    with torch.device("meta"):
        found = count(decoder(name, pyramid, **options))
    assert found == expected == total


def test_published_upernet_holds_a_convolution_it_never_uses() -> None:
    with torch.device("meta"):
        right = decoder("upernet", RESNET50, channels=512)
        faithful = decoder("upernet", RESNET50, channels=512, faithful=True)
    assert count(faithful) - count(right) == 9 * 2048 * 512 + 2 * 512
    assert all(p.requires_grad for p in right.parameters())
    assert not any(p.requires_grad for p in faithful.unused.parameters())
    assert right.pool.merge.conv.weight.shape == (512, 4096, 3, 3)


@pytest.mark.parametrize("name", NAMES)
def test_stride_and_channels(name: str) -> None:
    made, reads_finest = decoder(name), name == "contrast"
    with torch.no_grad():
        out = made(maps())
    stride = 2 if reads_finest else 4 if name in ("deeplabv3plus", "upernet") else 32
    assert out.shape == (2, made.out_channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("name", ["pspnet", "danet", "deeplabv3", "ocrnet", "contrast", "fcn"])
def test_all_levels_are_stacked_at_the_finest(name: str) -> None:
    made, features = decoder(name, levels="all"), maps()
    assert made.reads_all
    stacked = torch.cat(
        [F.interpolate(f, (32, 48), mode="bilinear", align_corners=False) for f in features], 1
    )
    single = decoder(name, ((76,), (2,)), **({} if name == "ocrnet" else {"levels": "last"}))
    single.load_state_dict(made.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(made(features), single([stacked]))


@pytest.mark.parametrize("module", [PositionAttention(8), ChannelAttention()])
def test_attention_starts_as_the_identity(module: nn.Module) -> None:
    x = torch.randn(2, 8, 5, 7)
    assert torch.equal(module(x), x)


def test_position_attention_is_its_formula() -> None:
    module, x = PositionAttention(16).double(), torch.randn(2, 16, 5, 7, dtype=torch.float64)
    module.scale.data.fill_(0.7)
    query, key, value = (f(x).flatten(2) for f in (module.query, module.key, module.value))
    assert query.shape[1] == 2
    share = torch.einsum("bcn,bcm->bnm", query, key).softmax(-1)
    mixed = torch.einsum("bnm,bcm->bcn", share, value).reshape(x.shape)
    torch.testing.assert_close(module(x), x + 0.7 * mixed)


def test_channel_attention_is_its_formula() -> None:
    module, x = ChannelAttention().double(), torch.randn(2, 6, 5, 7, dtype=torch.float64)
    module.scale.data.fill_(0.7)
    energy = torch.einsum("bcn,bdn->bcd", x.flatten(2), x.flatten(2))
    share = (energy.amax(-1, keepdim=True) - energy).softmax(-1)
    mixed = torch.einsum("bcd,bdn->bcn", share, x.flatten(2)).reshape(x.shape)
    torch.testing.assert_close(module(x), x + 0.7 * mixed)


@pytest.mark.parametrize("faithful", [False, True])
def test_position_branch_of_danet_has_its_own_classifier_unless_faithful(*, faithful: bool) -> None:
    made, features = decoder("danet", faithful=faithful), maps()
    out, further = made.forward_train(features)
    assert further.keys() == made.auxiliary_weights.keys()
    with torch.no_grad():
        torch.testing.assert_close(out, made(features))
        position = made.after_position(made.position(features[-1]))
        head = made.heads["channel" if faithful else "position"]
        torch.testing.assert_close(further["position"], head(position))
        torch.testing.assert_close(further["coarsest"], made.heads["coarsest"](features[-1]))
    sum(value.sum() for value in (out, *further.values())).backward()
    dead = {name for name, p in made.named_parameters() if p.grad is None}
    assert dead == (
        {f"heads.position.classify.{x}" for x in ("weight", "bias")} if faithful else set()
    )
    assert all(made.get_parameter(name).requires_grad is False for name in dead)


def test_rates_reach_as_far_at_every_stride() -> None:
    assert [usual_rates(r) for r in (8, 16, 32)] == [(12, 24, 36), (6, 12, 18), (3, 6, 9)]
    dilated = ((8, 8, 12, 16, 32), (2, 4, 8, 8, 8))
    for pyramid, options, expected in (
        (dilated, {}, (12, 24, 36)),
        (SMALL, {}, (3, 6, 9)),
        (SMALL, {"rates": [12, 24, 36]}, (12, 24, 36)),
    ):
        made = decoder("deeplabv3plus", pyramid, **options)
        assert tuple(b.depthwise.dilation[0] for b in made.aspp.branches[1:]) == expected
    dense = decoder("deeplabv3", dilated).aspp.branches[2].conv
    assert (dense.dilation, dense.padding, dense.groups) == ((24, 24), (24, 24), 1)


def test_pyramid_of_deeplab_is_its_formula() -> None:
    """Branch by branch; nothing but a norm stands between depthwise and 1 x 1."""
    made, x = decoder("deeplabv3plus", rates=[1, 2, 3]), torch.randn(2, 32, 5, 7)
    aspp = made.aspp
    with torch.no_grad():
        image = aspp.image(x.mean((2, 3), keepdim=True)).expand(-1, -1, 5, 7)
        parts = [aspp.branches[0](x)]
        for rate, branch in zip((1, 2, 3), aspp.branches[1:], strict=True):
            weight = branch.depthwise.weight
            deep = F.conv2d(x, weight, padding=rate, dilation=rate, groups=32)
            parts.append(branch.pointwise(branch.norm(deep)))
        torch.testing.assert_close(aspp(x), aspp.merge(torch.cat([*parts, image], 1)))


def test_deeplabv3plus_reads_stride_4_and_the_coarsest() -> None:
    features = [f.requires_grad_() for f in maps()]
    decoder("deeplabv3plus")(features).square().sum().backward()
    assert [f.grad is not None for f in features] == [False, True, False, False, True]
    with pytest.raises(UnsupportedError, match=r"strides \(16,\).*decoder = 'deeplabv3'"):
        decoder("deeplabv3plus", ((8,), (16,)))


def test_ocrnet_is_its_formula() -> None:
    made, features = decoder("ocrnet"), maps()
    with torch.no_grad():
        out, further = made.forward_train(features)
        logits = made.heads["regions"](made.before_regions(features[3]))
        torch.testing.assert_close(further["regions"], logits)
        share = F.interpolate(logits, (2, 3), mode="bilinear").flatten(2).softmax(-1)
        pixels = made.pixels(features[4])
        regions = torch.einsum("bkn,bcn->bck", share, pixels.flatten(2)).unsqueeze(-1)
        query, key = (
            part(x).flatten(2)
            for part, x in ((made.attention.query, pixels), (made.attention.key, regions))
        )
        likeness = (torch.einsum("bcn,bck->bnk", query, key) / 4**0.5).softmax(-1)
        value = made.attention.value(regions).flatten(2)
        mixed = torch.einsum("bnk,bck->bcn", likeness, value).reshape(2, 4, 2, 3)
        expected = made.merge(torch.cat([made.attention.back(mixed), pixels], 1))
        torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ({}, [False, False, False, True, True]),
        ({"faithful": True}, [False, True, False, False, False]),
        ({"levels": "all"}, [True] * 5),
    ],
)
def test_maps_that_ocrnet_reads(options: dict, read: list[bool]) -> None:
    features = [f.requires_grad_() for f in maps()]
    made = decoder("ocrnet", **options)
    made(features).square().sum().backward()
    assert [f.grad is not None for f in features] == read
    if options.get("faithful"):
        assert made.pixels.conv.in_channels == 8


def test_published_upernet_aligns_corners_inside() -> None:
    made, features = decoder("upernet", faithful=True), maps()

    def grow(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
        return F.interpolate(x, size, mode="bilinear", align_corners=True)

    with torch.no_grad():
        coarsest = features[-1]
        pooled = [
            grow(reduce(F.adaptive_avg_pool2d(coarsest, bins)), coarsest.shape[2:])
            for reduce, bins in zip(made.pool.reduce, (1, 2, 3, 6), strict=True)
        ]
        levels = [made.pool.merge(torch.cat([coarsest, *pooled], 1))]
        top = levels[0]
        for i in (2, 1, 0):
            lateral = made.laterals[i](features[i + 1])
            top = lateral + grow(top, lateral.shape[2:])
            levels.insert(0, made.smooth[i](top))
        expected = made.fuse(torch.cat([grow(x, top.shape[2:]) for x in levels], 1))
        torch.testing.assert_close(made(features), expected)
    right = decoder("upernet")
    right.load_state_dict(made.state_dict(), strict=False)
    assert (right(features) - expected).abs().max() > 0.01


def test_published_fcn_differs_in_its_start_only() -> None:
    made = decoder("fcn", HRNET_W18, levels="all", kernel_size=1, faithful=True)
    assert 0.0009 < made.conv.conv.weight.std() < 0.0011
    right = decoder("fcn", HRNET_W18, levels="all", kernel_size=1)
    right.load_state_dict(made.state_dict(), strict=False)
    features = maps(HRNET_W18)
    with torch.no_grad():
        torch.testing.assert_close(made(features), right(features))


def test_contrast_trains_the_projection_and_predicts_without_it() -> None:
    made, features = decoder("contrast"), maps()
    target = torch.zeros(2, 64, 96, dtype=torch.int64)
    target[:, :, 48:] = 2
    logits, further = made.forward_train(features, target)
    torch.testing.assert_close(logits, made(features))
    assert further.keys() == {"contrast"} == made.auxiliary_weights.keys()
    assert further["contrast"].ndim == 0
    further["contrast"].backward()
    assert all(p.grad.abs().sum() > 0 for p in made.project.parameters() if p.ndim > 1)
    assert made.forward_train(features)[1] == {}
    nothing = made.forward_train(features, torch.full_like(target, -1))[1]["contrast"]
    assert nothing == 0
    assert nothing.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(make_model, name: str) -> None:
    model = make_model("test_resnet", name, decoder_options=OPTIONS.get(name, {}), auxiliary=True)
    target = torch.randint(0, 3, (2, 64, 64), generator=torch.Generator().manual_seed(0))
    parts = model.train().forward_train(torch.randn(2, 4, 64, 64), target)
    sum(part.square().sum() for part in parts.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside torch.export
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", NAMES)
def test_exports_with_concrete_sizes(make_model, name: str) -> None:
    model = make_model("test_resnet", name, decoder_options=OPTIONS.get(name, {}))
    image = torch.randn(1, 4, 50, 70)
    exported = torch.export.export(model, (image,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(image), model(image))


def test_pooling_of_one_patch_says_what_to_do(make_model) -> None:
    for name, title in (
        ("pspnet", "PSPNet"),
        ("deeplabv3", "DeepLabV3"),
        ("deeplabv3plus", r"DeepLabV3\+"),
    ):
        model = make_model("test_resnet", name, decoder_options=OPTIONS.get(name, {})).train()
        with pytest.raises(InputError, match=rf"{title} .* raise data.batch_size to 2"):
            model(torch.zeros(1, 4, 64, 64))


def test_bins_and_rates_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"bins.*greater than 0"):
        decoder("pspnet", bins=[0, 2])
    with pytest.raises(ConfigError, match=r"rates.*greater than 0"):
        decoder("deeplabv3", rates=[0])


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("hrnet_w18", (18, 36, 72, 144)),
        pytest.param("hrnet_w48", (48, 96, 192, 384), marks=pytest.mark.slow),
    ],
)
def test_streams_of_hrnet(name: str, channels: tuple[int, ...]) -> None:
    encoder = build_encoder(name, num_bands=3, options=HRNET_FEATURES)
    assert (encoder.channels, encoder.reductions) == (channels, (4, 8, 16, 32))
    assert encoder.levels.channels_of("all") == {"hrnet_w18": 270, "hrnet_w48": 720}[name]


@pytest.mark.parametrize("name", ["pspnet", "danet", "deeplabv3", "deeplabv3plus", "ocrnet"])
def test_parallel_streams_are_not_left_untrained(make_spec, name: str) -> None:
    spec = make_spec("hrnet_w18_small", name, encoder_options=HRNET_FEATURES)
    with pytest.raises(ConfigError, match=rf"parallel streams; decoder '{name}'.*levels = 'all'"):
        build_segmenter(spec)


@pytest.mark.parametrize("name", ["contrast", "ocrnet"])
def test_hrnet_trains_every_parameter(make_model, name: str) -> None:
    options = {"levels": "all", **OPTIONS.get(name, {})}
    model = make_model(
        "hrnet_w18_small", name, decoder_options=options, encoder_options=HRNET_FEATURES
    ).train()
    target = torch.zeros(2, 64, 64, dtype=torch.int64)
    parts = model.forward_train(torch.randn(2, 4, 64, 64), target)
    sum(part.square().sum() for part in parts.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("options", "stride", "expected"),
    [
        ({}, 16, conv(1024, 256, 3) + linear(256, 3)),
        ({"channels": 1024}, 16, conv(1024, 1024, 3) + linear(1024, 3)),
        ({"level": -1, "kernel_size": 1, "channels": 64}, 32, conv(2048, 64) + linear(64, 3)),
        ({"level": 1, "kernel_size": 1}, 4, conv(256, 256) + linear(256, 3)),
    ],
)
def test_auxiliary_head_on_any_map(make_model, options: dict, stride: int, expected: int) -> None:
    made = AuxiliaryOptions(**options)
    model = make_model("resnet50", auxiliary=True, auxiliary_options=made)
    assert count(model.auxiliary) == expected
    with torch.no_grad():
        logits = model.auxiliary(model.encoder(torch.randn(1, 4, 32, 64)))
    assert logits.shape == (1, 3, 32 // stride, 64 // stride)


def test_auxiliary_head_on_a_map_there_is_not(make_spec) -> None:
    spec = make_spec(auxiliary=True, auxiliary_options=AuxiliaryOptions(level=7))
    with pytest.raises(ConfigError, match=r"gives 5 maps, and the auxiliary head reads number 7"):
        build_segmenter(spec)


STORED = {
    "fcn": [-0.446632, 0.229208, -0.023999],
    "pspnet": [-0.678072, 1.413321, -2.519055],
    "danet": [-0.333014, 1.056381, 0.566801],
    "deeplabv3": [1.50911, 0.740647, 2.564477],
    "deeplabv3plus": [1.499913, 1.025443, 2.648436],
    "upernet": [1.216014, 0.52249, 1.908063],
    "ocrnet": [0.264903, 1.358745, 0.775612],
    "contrast": [0.567323, 4.558904, -5.876301],
}
"""Mean, standard deviation and one value of the logits."""


@pytest.mark.parametrize("name", NAMES)
def test_stored_values_for_fixed_weights(make_model, name: str) -> None:
    """The arithmetic of each decoder stays what it was."""
    model = make_model("test_resnet", name, decoder_options=OPTIONS.get(name, {}))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            wave = torch.arange(parameter.numel()).mul(0.7).add(number).sin()
            parameter.copy_(wave.reshape(parameter.shape) / max(1, parameter[0].numel()) ** 0.5)
        image = torch.arange(4 * 96 * 160).mul(0.01).cos().reshape(1, 4, 96, 160)
        logits = model(image)
    found = [logits.mean().item(), logits.std().item(), logits[0, 1, 7, 21].item()]
    assert found == pytest.approx(STORED[name], rel=1e-3, abs=1e-6)
