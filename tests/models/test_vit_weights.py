import re

import pytest
import timm
import torch
import transformers
from torch import Tensor
from transformers.models.vit_mae import modeling_vit_mae

from wholescene.errors import ModelFileError
from wholescene.models import load_encoder_weights
from wholescene.models.vit_names import sine_cosine

RGB = ("red", "green", "blue")
NARROW = {"depth": 4, "embed_dim": 32, "num_heads": 2}
VIT, DINOV2, REGISTERS, DINOV3 = (
    "vit_small_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
)


def trained(name: str = VIT, **kwargs) -> dict[str, Tensor]:
    torch.manual_seed(3)
    state = timm.create_model(name, **NARROW, **kwargs).state_dict()
    return {key: torch.randn_like(value) * 0.1 for key, value in state.items()}


@pytest.fixture
def load(make_model, tmp_path):
    def run(content: dict, name: str = VIT, *, bands=RGB, **options):
        torch.save(content, tmp_path / "w.pth")
        model = make_model(
            name,
            "segformer",
            bands=bands,
            decoder_options={"channels": 8},
            encoder_options={"pyramid": True, **NARROW, **options},
        )
        report = load_encoder_weights(model, tmp_path / "w.pth")
        return model.encoder.net.model, report

    return run


def assert_blocks_equal(model, state: dict[str, Tensor]) -> None:
    own = model.state_dict()
    blocks = [key for key in own if key.startswith("blocks")]
    assert len(blocks) > 40
    assert all(torch.equal(own[key], state[key]) for key in blocks)


def test_masked_autoencoders_lose_their_decoder(load) -> None:
    state = trained()
    extra = {f"decoder_{k}": v + 1 for k, v in trained().items() if "blocks.0" in k}
    extra |= {"mask_token": torch.zeros(1, 1, 32), "decoder_pos_embed": torch.zeros(1, 197, 32)}
    model, report = load({"model": state | extra, "epoch": 1599})
    assert report.coverage == 1
    assert report.placed == RGB
    assert_blocks_equal(model, state)
    assert torch.equal(model.pos_embed, state["pos_embed"])
    assert any(name.startswith("decoder_") for name in report.unused)


def test_more_bands_get_patch_embeddings_by_name(load) -> None:
    state = trained()
    model, report = load(state, bands=("nir", "red", "green", "blue"))
    assert report.placed == (None, "red", "green", "blue")
    kernel = model.patch_embed.proj.weight
    torch.testing.assert_close(kernel[:, 1], state["patch_embed.proj.weight"][:, 0] * 0.75)


def test_positions_of_another_grid_are_resized(load) -> None:
    state = trained(img_size=512)
    ramp = torch.linspace(0, 1, 32).view(1, 1, 32, 1).expand(1, 32, 32, 32)
    state["pos_embed"][:, 1:] = ramp.reshape(1, 1024, 32)
    model, report = load({"state_dict": {f"module.backbone.{k}": v for k, v in state.items()}})
    assert report.coverage == 1
    grid = model.pos_embed[:, 1:].reshape(14, 14, 32)
    assert torch.equal(model.pos_embed[:, 0], state["pos_embed"][:, 0])
    # The middle of each of 14 cells of a slope from the first to the last of 32.
    middle = (torch.arange(14) + 0.5) / 14 * 32 / 31 - 0.5 / 31
    torch.testing.assert_close(grid[3, 2:-2, 5], middle[2:-2], rtol=0, atol=2e-3)


def test_files_with_and_without_class_token(load) -> None:
    with_token = trained()
    model, report = load(with_token, class_token=False, global_pool="avg")
    assert report.coverage == 1
    assert "cls_token" in report.unused
    assert torch.equal(model.pos_embed, with_token["pos_embed"][:, 1:])
    without = {k: v for k, v in with_token.items() if k != "cls_token"}
    without["pos_embed"] = without["pos_embed"][:, 1:]
    load(without, class_token=False, global_pool="avg")
    with pytest.raises(ModelFileError, match=r"1 missing: model.cls_token.*class_token: false"):
        load(without)


def test_what_reads_the_image_must_be_there_however_deep_the_network(load) -> None:
    state = trained()
    # Groups of bands, without what SatMAE tells them apart by.
    grouped = {k.replace("patch_embed.", "patch_embed.0."): v for k, v in state.items()}
    with pytest.raises(ModelFileError, match=r"missing: model.patch_embed.proj.weight"):
        load(grouped)


def test_scale_mae_stores_no_positions_and_gets_its_sines(load) -> None:
    state = {k: v for k, v in trained().items() if k != "pos_embed"}
    model, report = load({"model": state})
    assert report.coverage == 1
    assert not model.pos_embed[:, 0].any()
    torch.testing.assert_close(model.pos_embed[:, 1:], sine_cosine((14, 14), 32))
    # The third column of the second row: columns first, at the rates 1, 1/10, 1/100 ...
    first = sine_cosine((14, 14), 16)[0, 14 + 2]
    rates = torch.tensor([1.0, 0.1, 0.01, 0.001])
    expected = torch.cat([(2 * rates).sin(), (2 * rates).cos(), rates.sin(), rates.cos()])
    torch.testing.assert_close(first, expected)


def test_sines_are_those_of_mae() -> None:
    rows_first = modeling_vit_mae.build_2d_sinusoidal_position_embedding(7, 7, 32)
    expected = torch.cat([rows_first[:, 16:], rows_first[:, :16]], 1).unsqueeze(0)
    torch.testing.assert_close(sine_cosine((7, 7), 32), expected)


def test_names_of_mmpretrain_and_s5(load) -> None:
    state = trained(class_token=False, global_pool="avg")
    named = {}
    for key, value in state.items():
        key = re.sub(r"^blocks\.(\d+)\.", r"layers.\1.", key)
        key = re.sub(r"norm([12])", r"ln\1", key)
        key = key.replace("mlp.fc1", "ffn.layers.0.0").replace("mlp.fc2", "ffn.layers.1")
        named[f"backbone.{key.replace('patch_embed.proj', 'patch_embed.projection')}"] = value
    model, report = load({"model": named}, class_token=False, global_pool="avg")
    assert report.coverage == 1
    assert_blocks_equal(model, state)


def test_dinov2_in_chunks_with_other_patches(load) -> None:
    state = trained(DINOV2, img_size=518)
    chunked = {re.sub(r"^blocks\.(\d+)\.", r"blocks.0.\1.", k): v for k, v in state.items()}
    chunked["mask_token"] = torch.zeros(1, 32)
    model, report = load(
        {"teacher": {f"backbone.{k}": v for k, v in chunked.items()}},
        DINOV2,
        patch_size=16,
        img_size=224,
    )
    assert report.coverage == 1
    assert_blocks_equal(model, state)
    assert model.patch_embed.proj.weight.shape == (32, 3, 16, 16)
    assert model.pos_embed.shape == (1, 197, 32)
    # A constant patch is seen as before.
    torch.testing.assert_close(
        model.patch_embed.proj.weight.sum((2, 3)),
        state["patch_embed.proj.weight"].sum((2, 3)),
        rtol=1e-3,
        atol=1e-3,
    )


def test_dinov2_with_registers_keeps_the_class_position(load) -> None:
    state = trained(REGISTERS, img_size=224)
    token, place = torch.randn(1, 1, 32), torch.randn(1, 1, 32)
    published = {k: v for k, v in state.items() if k != "reg_token"}
    published |= {"register_tokens": state["reg_token"], "cls_token": token}
    published["pos_embed"] = torch.cat([place, state["pos_embed"]], 1)
    model, report = load(published, REGISTERS, patch_size=16, img_size=256)
    assert report.coverage == 1
    torch.testing.assert_close(model.cls_token, token + place)
    assert torch.equal(model.reg_token, state["reg_token"])
    torch.testing.assert_close(model.pos_embed, state["pos_embed"])


@pytest.mark.parametrize("name", [DINOV3, DINOV3 + "_qkvb"])
def test_dinov3_as_published(load, name: str) -> None:
    state = trained(name)
    published = {}
    for key, value in state.items():
        key = re.sub(r"gamma_([12])", r"ls\1.gamma", key)
        if key.endswith("v_bias"):
            continue
        if key.endswith("q_bias"):
            stem = key.removesuffix("q_bias")
            parts = (value, torch.zeros_like(value), state[f"{stem}v_bias"])
            key, value = f"{stem}qkv.bias", torch.cat(parts)
        published[key.replace("reg_token", "storage_tokens")] = value
    published["rope_embed.periods"] = torch.ones(8)
    model, report = load(published, name)
    assert report.coverage == 1
    assert_blocks_equal(model, state)


KIND = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 224}


@pytest.mark.parametrize(
    ("build", "name", "options"),
    [
        (
            lambda: transformers.ViTModel(
                transformers.ViTConfig(intermediate_size=128, layer_norm_eps=1e-6, **KIND)
            ),
            VIT,
            {},
        ),
        (
            lambda: transformers.Dinov2Model(transformers.Dinov2Config(patch_size=16, **KIND)),
            DINOV2,
            {"patch_size": 16, "img_size": 224},
        ),
        (
            lambda: transformers.DINOv3ViTModel(
                transformers.DINOv3ViTConfig(
                    intermediate_size=128, patch_size=16, num_register_tokens=4, **KIND
                )
            ),
            DINOV3 + "_qkvb",
            {},
        ),
    ],
)
def test_models_of_transformers_give_the_same_features(load, build, name: str, options) -> None:
    torch.manual_seed(0)
    reference = build().eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model, report = load(reference.state_dict(), name, **options)
    assert report.coverage == 1
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found = model.forward_intermediates(image, indices=[3], intermediates_only=True)[0]
        hidden = reference(image, output_hidden_states=True).hidden_states[-1]
    expected = hidden[:, -196:].transpose(1, 2).reshape(1, 32, 14, 14)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_older_names_of_transformers(load) -> None:
    state = trained()
    named = {}
    for key, value in state.items():
        if "attn.qkv" in key:
            stem, last = key.split("attn.qkv.")
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                named[f"{stem}attention.attention.{part}.{last}"] = piece
            continue
        key = key.replace("attn.proj", "attention.output.dense")
        key = key.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        key = key.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after")
        named[key] = value
    published = {}
    for key, value in named.items():
        key = re.sub(r"^blocks\.", "encoder.layer.", key)
        key = key.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        key = key.replace("pos_embed", "embeddings.position_embeddings")
        published[f"vit.{key.replace('cls_token', 'embeddings.cls_token')}"] = value
    model, report = load(published)
    assert report.coverage == 1
    assert_blocks_equal(model, state)


def test_another_size_is_refused(load) -> None:
    torch.manual_seed(0)
    state = timm.create_model(VIT, depth=4, embed_dim=48, num_heads=2).state_dict()
    with pytest.raises(ModelFileError, match=r"of another shape: .*\(1, 1, 48\) instead of"):
        load(state)
