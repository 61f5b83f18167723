import pytest
import torch
import torch.nn.functional as F

from wholescene.errors import ConfigError
from wholescene.models import build_encoder, load_model, save_model
from wholescene.models.vit_pyramid import split_pyramid

NARROW = {"embed_dim": 48, "num_heads": 2}


@pytest.mark.parametrize(
    ("name", "options", "taps"),
    [
        ("test_vit", {}, [1, 2, 3, 5]),
        ("test_vit", {"out_indices": [5]}, [5]),
        ("vit_small_patch16_224", {"depth": 12, **NARROW}, [3, 5, 7, 11]),
        ("vit_small_patch16_224", {"depth": 3, **NARROW}, [2]),
        ("vit_small_patch16_dinov3", {"depth": 6, **NARROW}, [1, 2, 3, 5]),
        ("vit_small_patch14_dinov2", {"depth": 6, "patch_size": 16, **NARROW}, [1, 2, 3, 5]),
        ("test_vit", {"patch_size": 8}, [1, 2, 3, 5]),
    ],
)
def test_a_plain_transformer_gives_four_scales(name: str, options: dict, taps: list[int]) -> None:
    encoder = build_encoder(name, num_bands=4, options={"pyramid": True, **options}).eval()
    patch = options.get("patch_size", 16)
    assert encoder.reductions == (patch // 4, patch // 2, patch, patch * 2)
    assert encoder.levels.is_pyramid
    assert list(encoder.net.out_indices) == taps
    with torch.no_grad():
        maps = encoder(torch.randn(1, 4, 2 * encoder.stride, 5 * encoder.stride))
    assert [tuple(m.shape[-2:]) for m in maps] == [(16, 40), (8, 20), (4, 10), (2, 5)]
    assert [m.shape[1] for m in maps] == list(encoder.channels)


@pytest.mark.parametrize(
    ("size", "depth"), [("small", 12), ("base", 12), ("large", 24), ("huge", 32)]
)
def test_taps_of_the_usual_sizes(size: str, depth: int) -> None:
    patch = 14 if size == "huge" else 16
    wanted, theirs = split_pyramid(f"vit_{size}_patch{patch}_224", {"pyramid": True})
    assert wanted
    assert theirs["out_indices"] == tuple(
        round(depth * part) - 1 for part in (1 / 3, 0.5, 2 / 3, 1)
    )


def test_scales_are_the_maps_of_timm_enlarged_and_halved() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("test_vit", num_bands=3, options={"pyramid": True}).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        fourth, eighth, same, coarse = encoder(image)
        taps = encoder.net(image)
        assert torch.equal(same, taps[2])
        assert torch.equal(coarse, F.max_pool2d(taps[3], 2))
        torch.testing.assert_close(eighth, encoder.neck.grow2(taps[1]))
        grow = encoder.neck.grow4
        normed = F.layer_norm(grow[0](taps[0]).movedim(1, -1), (64,), eps=1e-6).movedim(-1, 1)
        torch.testing.assert_close(fourth, grow[3](F.gelu(normed)))


def test_the_last_map_alone_makes_all_four_scales() -> None:
    options = {"pyramid": True, "out_indices": [5]}
    encoder = build_encoder("test_vit", num_bands=3, options=options).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(encoder(image)[2], encoder.net(image)[0])


def test_upernet_reads_it_for_any_size_and_every_parameter_trains(make_model) -> None:
    model = make_model(
        "test_vit",
        "upernet",
        decoder_options={"channels": 8},
        encoder_options={"pyramid": True},
        auxiliary=True,
    )
    for height, width in ((1, 1), (33, 100), (64, 31)):
        with torch.no_grad():
            assert model(torch.randn(2, 4, height, width)).shape == (2, 3, height, width)
    outputs = model.train().forward_train(torch.randn(2, 4, 64, 64))
    sum(part.square().sum() for part in outputs.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_positions_are_those_of_the_image_not_of_pretraining(make_model) -> None:
    model = make_model(
        "test_vit3", "segformer", decoder_options={"channels": 8}, encoder_options={"pyramid": True}
    )
    grid = model.encoder.net.model.patch_embed.grid_size
    image = torch.randn(1, 4, 16 * grid[0] * 2, 16 * grid[1])
    with torch.no_grad():
        model.encoder.net.model.pos_embed.normal_()
        first = model(image)
        model.encoder.net.model.pos_embed.zero_()
        assert not torch.allclose(first, model(image))


def test_a_saved_model_comes_back_with_its_pyramid(make_model, tmp_path) -> None:
    model = make_model(
        "test_vit",
        "upernet",
        decoder_options={"channels": 8},
        encoder_options={"pyramid": True, "out_indices": [1, 2, 4, 5]},
    )
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    image = torch.randn(1, 4, 40, 50)
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))
    assert list(loaded.encoder.net.out_indices) == [1, 2, 4, 5]


def test_the_pyramid_adds_what_its_layers_hold() -> None:
    plain = build_encoder("test_vit", num_bands=3)
    pyramid = build_encoder("test_vit", num_bands=3, options={"pyramid": True})
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    # Three transposed convolutions of 64 to 64 channels over 2 x 2, and a norm.
    assert count(pyramid) - count(plain) == 3 * (64 * 64 * 4 + 64) + 2 * 64


def test_what_cannot_be_is_explained() -> None:
    def build(name: str, **options) -> None:
        build_encoder(name, num_bands=3, options=options)

    with pytest.raises(ConfigError, match=r"strides \(2, 4, .*a pyramid of its own"):
        build("resnet18", pyramid=True, out_indices=[0, 1, 2, 3, 4])
    with pytest.raises(ConfigError, match=r"'resnet18' is no plain transformer"):
        build("resnet18", pyramid=True)
    with pytest.raises(ConfigError, match=r"reads one map or 4.*gives 2"):
        build("test_vit", pyramid=True, out_indices=[1, 5])
    with pytest.raises(ConfigError, match=r"patches of 14 px.*patch_size to 16"):
        build("vit_small_patch14_dinov2", pyramid=True, depth=4, **NARROW)
    with pytest.raises(ConfigError, match=r"pyramid is 'yes'; set true or false"):
        build("test_vit", pyramid="yes")
