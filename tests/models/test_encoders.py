import pytest
import timm
import torch

from wholescene.errors import ConfigError, ModelFileError, UnsupportedError
from wholescene.models import (
    DECODERS,
    build_encoder,
    describe,
    list_decoders,
    list_encoders,
    save_model,
    show,
)

FITTING = [
    "test_byobnet",
    "test_convnext2",
    "test_convnext3",
    "test_efficientnet_gn",
    "test_nfnet",
    "resnet50d",
    "pvt_v2_b0",
    "efficientvit_b0",
    "fastvit_t8",
    "repvgg_a0",
    "edgenext_xx_small",
    "regnety_002",
    "mobilenetv3_small_050",
    "densenet121",
    "xception41",
    "twins_svt_small",
    "swinv2_cr_tiny_ns_224",
    "davit_tiny",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FITTING)
def test_families_of_timm_give_the_maps_they_state(name: str) -> None:
    encoder = build_encoder(name, num_bands=5).eval()
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 5, 2 * encoder.stride, encoder.stride))
    assert [m.shape[1] for m in maps] == list(encoder.channels)


@pytest.mark.parametrize(
    "name", ["test_maxvit", "test_coatnet", "test_vit_relpos", "crossvit_tiny_240"]
)
def test_encoders_for_one_image_size_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"encoder '{name}' cannot read scenes of any size"):
        build_encoder(name, num_bands=3)


def test_building_leaves_the_encoder_in_training_mode_and_the_norms_untouched() -> None:
    encoder = build_encoder("test_resnet", num_bands=2)
    assert encoder.training
    assert all(m.training for m in encoder.modules())
    assert int(encoder.net.bn1.num_batches_tracked) == 0


def test_vit_and_swin_take_any_size_without_being_told() -> None:
    assert build_encoder("test_vit3", num_bands=3).size_options == {"dynamic_img_size": True}
    swin = build_encoder("swin_tiny_patch4_window7_224", num_bands=3, options={"embed_dim": 12})
    assert swin.size_options == {"strict_img_size": False}


def test_unknown_names_tags_and_options() -> None:
    with pytest.raises(ConfigError, match=r"no model 'resnet81'.*'resnet18'"):
        build_encoder("resnet81", num_bands=3)
    with pytest.raises(ConfigError, match=r"no weights 'nope' for 'resnet18'.*resnet18.a1_in1k"):
        build_encoder("resnet18.nope", num_bands=3)
    with pytest.raises(ConfigError, match=r"cannot be built with model.encoder_options .*'widht'"):
        build_encoder("resnet18", num_bands=3, options={"widht": 2})
    with pytest.raises(ConfigError, match=r"may not hold in_chans, pretrained"):
        build_encoder("resnet18", num_bands=3, options={"pretrained": True, "in_chans": 3})
    with pytest.raises(ConfigError, match=r"cannot be built with .*output_stride"):
        build_encoder("resnet18", num_bands=3, options={"output_stride": 7})
    assert build_encoder("resnet18.a1_in1k", num_bands=3).name == "resnet18.a1_in1k"


def test_lists_and_facts(make_spec, make_model, tmp_path) -> None:
    assert list_decoders() == tuple(DECODERS)
    assert "resnet18" in list_encoders()
    assert set(list_encoders("resnet1*")) == {
        n for n in timm.list_models() if n.startswith("resnet1")
    }
    facts = describe(make_spec("resnet18", "unet", auxiliary=True))
    assert facts.parameters["encoder"] == 11_176_512 + 64 * 49  # timm's, plus one band
    assert facts.num_parameters == sum(
        p.numel() for p in make_model("resnet18", "unet", auxiliary=True).parameters()
    )
    assert set(facts.parameters) == {"encoder", "decoder", "head", "auxiliary"}
    assert show("resnet18")["reductions"] == (2, 4, 8, 16, 32)
    save_model(make_model(), tmp_path)
    shown = show(str(tmp_path))
    assert shown["mean"] == [0.5] * 4
    assert shown["encoder"] == "test_resnet"
    with pytest.raises(ModelFileError, match=r"there is no model at runs/gone"):
        show("runs/gone")
    with pytest.raises(ConfigError, match=r"no model 'resnet81'"):
        show("resnet81")
