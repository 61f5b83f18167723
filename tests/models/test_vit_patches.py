"""SatMAE with groups of bands, and DOFA, under the names of their files."""

import argparse
import re

import pytest
import timm
import torch
from torch import Tensor

from wholescene.errors import ModelFileError
from wholescene.models import build_segmenter, load_encoder_weights

VIT = "vit_small_patch16_224"
NARROW = {"depth": 4, "embed_dim": 32, "num_heads": 2}
PATCH = ("model.patch_embed.proj.weight", "model.patch_embed.proj.bias")
LOADED = 2 + 4 * 12
"""Class token, positions, and two norms and four layers, with biases, of four blocks."""


def noise(*shape: int) -> Tensor:
    return torch.randn(shape) * 0.1


def trunk() -> dict[str, Tensor]:
    torch.manual_seed(3)
    state = timm.create_model(VIT, **NARROW).state_dict()
    return {k: noise(*v.shape) for k, v in state.items() if not k.startswith("patch_embed")}


def satmae(sizes: tuple[int, ...] = (4, 4, 2), *, patch: int = 16) -> dict[str, Tensor]:
    """As pretrained: fixed positions of 24 of the 32 channels, 8 that tell groups apart."""
    state = trunk()
    state["pos_embed"] = noise(1, 197, 24)
    state["pos_embed"][:, 0] = 0
    state["channel_embed"] = noise(1, len(sizes), 8)
    for group, size in enumerate(sizes):
        state[f"patch_embed.{group}.proj.weight"] = noise(32, size, patch, patch)
        state[f"patch_embed.{group}.proj.bias"] = noise(32)
    state |= {"decoder_pos_embed": noise(1, 197, 12), "mask_token": noise(1, 1, 16)}
    state["decoder_channel_embed"] = noise(1, len(sizes) + 1, 4)
    return state


def dofa() -> dict[str, Tensor]:
    state = trunk()
    generator = "patch_embed.weight_generator"
    layer = f"{generator}.transformer_encoder.layers.0"
    state |= {
        f"{generator}.weight_tokens": noise(128, 16),
        f"{generator}.bias_token": noise(1, 16),
        f"{layer}.self_attn.in_proj_weight": noise(48, 16),
        f"{layer}.self_attn.in_proj_bias": noise(48),
        f"{layer}.self_attn.out_proj.weight": noise(16, 16),
        f"{layer}.self_attn.out_proj.bias": noise(16),
        f"{layer}.linear1.weight": noise(2048, 16),
        f"{layer}.linear1.bias": noise(2048),
        f"{layer}.linear2.weight": noise(16, 2048),
        f"{layer}.linear2.bias": noise(16),
        f"{layer}.norm1.weight": noise(16),
        f"{layer}.norm1.bias": noise(16),
        f"{layer}.norm2.weight": noise(16),
        f"{layer}.norm2.bias": noise(16),
        f"{generator}.fc_weight.weight": noise(16 * 16 * 32, 16),
        f"{generator}.fc_weight.bias": noise(16 * 16 * 32),
        f"{generator}.fc_bias.weight": noise(32, 16),
        f"{generator}.fc_bias.bias": noise(32),
    }
    for name in ("w1", "w2"):
        state[f"patch_embed.fclayer.{name}.weight"] = noise(16, 16)
        state[f"patch_embed.fclayer.{name}.bias"] = noise(16)
    return state


@pytest.fixture
def load(make_model, tmp_path):
    def run(content: dict, *bands: str, source_bands=None, **options):
        torch.save(content, tmp_path / "w.pth")
        model = make_model(
            VIT,
            "segformer",
            bands=bands,
            decoder_options={"channels": 8},
            encoder_options={"pyramid": True, **NARROW, **options},
        )
        before = {k: v.clone() for k, v in model.encoder.net.state_dict().items()}
        report = load_encoder_weights(model, tmp_path / "w.pth", source_bands=source_bands)
        return model.encoder.net, report, before

    return run


def tokens(net, image: Tensor) -> Tensor:
    with torch.no_grad():
        return net.model.forward_intermediates(image, indices=[3], intermediates_only=True)[0]


def group_forward(state: dict[str, Tensor], group: int, image: Tensor, classes: Tensor) -> Tensor:
    """What SatMAE computes from the tokens of one group, by timm's blocks."""
    kernel, bias = (state[f"patch_embed.{group}.proj.{part}"] for part in ("weight", "bias"))
    places = torch.nn.functional.conv2d(image, kernel, bias, stride=16).flatten(2).transpose(1, 2)
    apart = state["channel_embed"][:, group : group + 1].expand(-1, 196, -1)
    places = places + torch.cat([state["pos_embed"][:, 1:], apart], 2)
    first = state["cls_token"] + torch.cat([state["pos_embed"][:, :1], classes], 2)
    x = torch.cat([first, places], 1)
    blocks = timm.create_model(VIT, **NARROW).blocks.eval()
    blocks.load_state_dict(
        {k.removeprefix("blocks."): v for k, v in state.items() if k.startswith("blocks.")}
    )
    with torch.no_grad():
        return blocks(x)[:, 1:].transpose(1, 2).reshape(1, 32, 14, 14)


@pytest.mark.parametrize("finetuned", [False, True])
def test_bands_of_one_group_compute_what_satmae_does_with_that_group(load, finetuned) -> None:
    state, classes = satmae(), torch.zeros(1, 1, 8)
    if finetuned:
        classes = noise(1, 1, 8)
        state |= {"channel_cls_embed": classes, "head.weight": noise(62, 32)}
        state["pos_embed"][:, 0] = noise(24)
    net, report, _ = load({"model": state}, "nir", "red", "green", "blue")
    assert (report.matched, report.total, report.missing) == (LOADED + 2, LOADED + 2, ())
    assert report.placed == ("nir", "red", "green", "blue")
    assert report.fresh == ()
    assert report.line == f"52 of 52 encoder tensors from {report.source}"
    assert {"patch_embed_1_proj_weight", "patch_embed_2_proj_bias"} <= set(report.unused)
    assert not any(name == "channel_embed" or name == "pos_embed" for name in report.unused)
    image = noise(1, 4, 224, 224) * 10
    expected = group_forward(state, 0, image.flip(1), classes)  # published: blue, green, red, nir
    torch.testing.assert_close(tokens(net, image), expected, rtol=1e-4, atol=1e-5)


def test_some_bands_of_a_group_and_others_nobody_knows(load) -> None:
    state = satmae()
    net, report, _ = load(state, "swir2", "dsm")
    assert report.placed == ("swir2", None)
    kernel, source = net.model.patch_embed.proj.weight, state["patch_embed.2.proj.weight"]
    torch.testing.assert_close(kernel[:, 0], source[:, 1])
    torch.testing.assert_close(kernel[:, 1], source.mean(1))
    place = torch.cat([state["pos_embed"][0, 5], state["channel_embed"][0, 2]])
    torch.testing.assert_close(net.model.pos_embed[0, 5], place)


def test_other_groups_are_named_one_after_another(load) -> None:
    state = satmae((3, 1), patch=8)
    names = ("red", "green", "blue", "dsm")
    net, report, _ = load(state, "dsm", source_bands=names)
    assert report.placed == ("dsm",)
    # Patches of 8 px are resized to 16 and see a plain surface as before.
    torch.testing.assert_close(
        net.model.patch_embed.proj.weight.sum((2, 3)),
        state["patch_embed.1.proj.weight"].sum((2, 3)),
        rtol=1e-3,
        atol=1e-3,
    )
    with pytest.raises(ModelFileError, match=r"groups of 3 \+ 1 bands, and 2 are named; set"):
        load(state, "dsm", source_bands=("red", "dsm"))


@pytest.mark.parametrize(
    ("sizes", "bands", "why"),
    [
        ((4, 4, 2), ("red", "green", "swir1"), r"red, green, swir1 come from 2 of its groups blue"),
        ((4, 4, 2), ("dsm",), r"no band of dsm is among those of its groups .* \| swir1, swir2$"),
        ((3, 1), ("red", "green", "blue"), r"groups of 3 \+ 1 are not known; set model.weights_b"),
    ],
)
def test_no_group_reads_the_bands(load, sizes, bands, why: str) -> None:
    state = satmae(sizes)
    net, report, before = load({"model": state}, *bands)
    assert report.fresh == PATCH
    assert (report.matched, report.total, report.missing) == (LOADED, LOADED, ())
    assert report.placed == ()
    assert re.search(why, report.why_fresh)
    assert report.line.endswith(f"{PATCH[0]}, {PATCH[1]} start at random: {report.why_fresh}")
    own = net.state_dict()
    assert all(torch.equal(own[name], before[name]) for name in PATCH)
    assert all(torch.equal(own[f"model.{k}"], v) for k, v in state.items() if k[:6] == "blocks")
    mean = torch.cat([state["pos_embed"][0, 7], state["channel_embed"][0].mean(0)])
    torch.testing.assert_close(own["model.pos_embed"][0, 7], mean)


def test_dofa_gives_all_but_what_it_generates(load) -> None:
    state = dofa()
    net, report, before = load(state, "red", "green", "blue")
    assert report.fresh == PATCH
    assert (report.matched, report.total, report.missing) == (LOADED, LOADED, ())
    assert "DOFA makes them from wavelengths" in report.line
    assert "patch_embed_fclayer_w1_weight" in report.unused
    own = net.state_dict()
    assert all(torch.equal(own[name], before[name]) for name in PATCH)
    assert all(torch.equal(own[f"model.{k}"], v) for k, v in state.items() if k[:6] == "blocks")
    assert torch.equal(own["model.pos_embed"], state["pos_embed"])


def test_second_dofa_keeps_its_trunk_in_a_model_and_scales_layers(load) -> None:
    state = {k if k.startswith("patch") else f"model.{k}": v for k, v in dofa().items()}
    for block in range(4):
        state |= {f"model.blocks.{block}.ls{i}.gamma": noise(32) for i in (1, 2)}
    net, report, _ = load(state, "red", "nir", init_values=1e-5)
    assert report.fresh == PATCH
    assert report.matched == report.total == LOADED + 8
    assert torch.equal(
        net.state_dict()["model.blocks.3.ls2.gamma"], state["model.blocks.3.ls2.gamma"]
    )


def test_patches_somebody_generated_before_are_taken(load) -> None:
    state = dofa() | {
        "patch_embed.proj.weight": noise(32, 3, 16, 16),
        "patch_embed.proj.bias": noise(32),
    }
    net, report, _ = load(state, "red", "green", "blue")
    assert report.fresh == ()
    assert torch.equal(net.model.patch_embed.proj.weight, state["patch_embed.proj.weight"])


@pytest.mark.parametrize(
    ("make", "lost"),
    [
        (satmae, "blocks.2.mlp.fc1.weight"),
        (satmae, "channel_embed"),
        (satmae, "patch_embed.2.proj.bias"),
        (dofa, "blocks.2.mlp.fc1.weight"),
        (dofa, "cls_token"),
    ],
)
def test_holes_are_refused_whatever_starts_fresh(load, make, lost: str) -> None:
    state = make()
    del state[lost]
    with pytest.raises(ModelFileError, match="missing"):
        load(state, "swir1", "swir2")


def test_who_builds_a_model_is_told(make_spec, tmp_path) -> None:
    torch.save(dofa(), tmp_path / "w.pth")
    spec = make_spec(
        VIT,
        "segformer",
        decoder_options={"channels": 8},
        encoder_options={"pyramid": True, **NARROW},
    )
    with pytest.warns(UserWarning, match="start at random: DOFA makes them from wavelengths"):
        build_segmenter(spec, weights=tmp_path / "w.pth")


def test_settings_of_a_command_line_beside_the_weights_are_no_code(load) -> None:
    args = argparse.Namespace(lr=1e-4, grouped_bands=[[0, 1, 2, 6], [3, 4, 5, 7], [8, 9]])
    _, report, _ = load({"model": satmae(), "epoch": 199, "args": args}, "red", "green", "blue")
    assert report.coverage == 1
    with pytest.raises(ModelFileError, match="could run any code"):
        load({"model": satmae(), "args": argparse.HelpFormatter("x")}, "red", "green", "blue")
