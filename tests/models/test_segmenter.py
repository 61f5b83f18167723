import pytest
import torch
from torch import nn

from wholescene.errors import ConfigError, InputError, UnsupportedError
from wholescene.models import build_segmenter

ENCODERS = ("test_resnet", "test_convnext", "test_efficientnet", "test_mambaout")
SMALL = {"fcn": {}, "unet": {}, "upernet": {"channels": 16}}


@pytest.mark.parametrize("decoder", SMALL)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_logits_have_the_size_of_the_image(make_model, encoder: str, decoder: str) -> None:
    model = make_model(encoder, decoder, decoder_options=SMALL[decoder])
    for height, width in ((1, 1), (1, 70), (33, 64), (64, 32)):
        with torch.no_grad():
            assert model(torch.randn(2, 4, height, width)).shape == (2, 3, height, width)


@pytest.mark.parametrize("decoder", SMALL)
def test_padding_is_zeros_at_the_bottom_and_right(make_model, decoder: str) -> None:
    model = make_model(decoder=decoder, decoder_options=SMALL[decoder])
    image = torch.randn(1, 4, 40, 70)
    padded = torch.zeros(1, 4, 64, 96)
    padded[..., :40, :70] = image
    with torch.no_grad():
        torch.testing.assert_close(model(image), model(padded)[..., :40, :70], rtol=0, atol=0)


def test_prediction_follows_the_image_by_whole_strides(make_model) -> None:
    # Away from the borders a convolutional network moves its output with its input.
    model = make_model("test_resnet", "fcn")
    image = torch.randn(1, 4, 480, 480)
    with torch.no_grad():
        moved = model(image.roll((32, 64), (2, 3)))
        whole = model(image).roll((32, 64), (2, 3))
    middle = (..., slice(224, 272), slice(224, 272))
    torch.testing.assert_close(moved[middle], whole[middle], rtol=1e-4, atol=1e-6)


def test_training_and_prediction_share_one_path(make_model) -> None:
    model = make_model("test_resnet", "unet", auxiliary=True)
    image = torch.randn(2, 4, 50, 50)
    with torch.no_grad():
        trained = model.forward_train(image)
        torch.testing.assert_close(trained["out"], model(image))
    assert trained.keys() == {"out", "aux"}
    assert trained["aux"].shape == trained["out"].shape
    assert make_model().forward_train(image).keys() == {"out"}


CASES = [
    *((encoder, decoder, SMALL[decoder], {}) for encoder in ENCODERS for decoder in SMALL),
    ("test_vit", "fcn", {}, {}),
    ("resnet18", "upernet", {"channels": 8, "bins": [1, 4]}, {"out_indices": [1, 2, 3]}),
    ("hrnet_w18_small", "unet", {}, {}),
    (
        "hrnet_w18_small",
        "fcn",
        {"levels": "all"},
        {"feature_location": "", "out_indices": [1, 2, 3, 4]},
    ),
]


@pytest.mark.parametrize(("encoder", "decoder", "options", "encoder_options"), CASES)
def test_every_parameter_gets_a_gradient(
    make_model, encoder: str, decoder: str, options: dict, encoder_options: dict
) -> None:
    # A parameter without one stalls distributed training.
    model = make_model(
        encoder, decoder, decoder_options=options, encoder_options=encoder_options, auxiliary=True
    ).train()
    logits = model.forward_train(torch.randn(2, 4, 64, 64))
    sum(part.square().sum() for part in logits.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside torch.export
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("decoder", SMALL)
@pytest.mark.parametrize("encoder", ["test_resnet", "test_convnext"])
def test_exports_with_concrete_sizes(make_model, encoder: str, decoder: str) -> None:
    model = make_model(encoder, decoder, decoder_options=SMALL[decoder], auxiliary=True)
    image = torch.randn(1, 4, 50, 70)
    exported = torch.export.export(model, (image,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(image), model(image))


def test_a_forward_pass_changes_nothing(make_model) -> None:
    model = make_model("test_resnet", "unet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image = torch.randn(1, 4, 40, 40)
    kept = image.clone()
    with torch.no_grad():
        first, second = model(image), model(image)
    assert torch.equal(first, second)
    assert torch.equal(image, kept)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_swin_reads_any_size_and_gives_channels_first(make_model) -> None:
    model = make_model("swin_tiny_patch4_window7_224", "fcn", encoder_options={"embed_dim": 24})
    image = torch.randn(1, 4, 64, 96)
    with torch.no_grad():
        maps = model.encoder(image)
        assert model(image[..., :45, :]).shape == (1, 3, 45, 96)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (24, 16, 24),
        (48, 8, 12),
        (96, 4, 6),
        (192, 2, 3),
    ]


def test_dilated_encoder_pads_to_its_own_stride(make_model) -> None:
    model = make_model(
        "resnet26", "upernet", decoder_options={"channels": 8}, encoder_options={"output_stride": 8}
    )
    assert model.encoder.reductions == (2, 4, 8, 8, 8)
    assert model.stride == 8
    with torch.no_grad():
        assert model(torch.randn(1, 4, 9, 8)).shape == (1, 3, 9, 8)


def test_first_guess_of_a_fresh_head_is_near_even(make_model) -> None:
    for decoder, options in SMALL.items():
        model = make_model(decoder=decoder, decoder_options=options)
        with torch.no_grad():
            probs = model(torch.randn(2, 4, 64, 64)).softmax(1)
        assert probs.min() > 0.05, decoder


STORED = {
    "fcn": [-0.446632, 0.229208, -0.023999],
    "unet": [0.82171, 0.954773, 0.861052],
    "upernet": [1.216014, 0.52249, 1.908063],
}
"""Mean, standard deviation and one value of the logits."""


def test_stored_values_for_fixed_weights(make_model) -> None:
    """The arithmetic of each decoder stays what it was."""
    for decoder, options in SMALL.items():
        model = make_model(decoder=decoder, decoder_options=options)
        with torch.no_grad():
            for number, parameter in enumerate(model.parameters()):
                wave = torch.arange(parameter.numel()).mul(0.7).add(number).sin()
                parameter.copy_(wave.reshape(parameter.shape) / max(1, parameter[0].numel()) ** 0.5)
            image = torch.arange(4 * 96 * 160).mul(0.01).cos().reshape(1, 4, 96, 160)
            logits = model(image)
        found = [logits.mean().item(), logits.std().item(), logits[0, 1, 7, 21].item()]
        assert found == pytest.approx(STORED[decoder], rel=1e-3, abs=1e-6), decoder


def test_images_that_do_not_fit_are_named(make_model) -> None:
    model = make_model()
    with pytest.raises(InputError, match=r"image has 3 bands, but the model reads 4: red, green"):
        model(torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match=r"shape \(4, 32, 32\) is not"):
        model(torch.zeros(4, 32, 32))
    with pytest.raises(InputError, match=r"every side >= 1"):
        model(torch.zeros(1, 4, 0, 32))


def test_one_tiny_patch_cannot_train_and_says_so(make_model) -> None:
    with pytest.raises(InputError, match=r"raise data.patch_px or data.batch_size"):
        make_model().train()(torch.zeros(1, 4, 20, 32))
    with pytest.raises(InputError, match=r"UPerNet .* raise data.batch_size to 2"):
        make_model(decoder="upernet").train()(torch.zeros(1, 4, 64, 64))
    make_model().train()(torch.zeros(2, 4, 32, 32))


def test_what_does_not_go_together_is_refused(make_spec) -> None:
    with pytest.raises(UnsupportedError, match=r"one scale only .* model.decoder = 'fcn'"):
        build_segmenter(make_spec("test_vit", "unet"))
    with pytest.raises(UnsupportedError, match=r"at least two maps"):
        build_segmenter(make_spec("test_vit", "upernet"))
    with pytest.raises(ConfigError, match=r"parallel streams.*levels = 'all'"):
        build_segmenter(make_spec("hrnet_w18_small", "fcn"))
    with pytest.raises(ConfigError, match=r"gives one map.*model.auxiliary = false"):
        build_segmenter(make_spec(auxiliary=True, encoder_options={"out_indices": [4]}))
    with pytest.raises(ConfigError, match=r"both start the encoder"):
        build_segmenter(make_spec(), pretrained=True, weights="x.pth")


def test_no_module_is_built_in_place(make_model) -> None:
    model = make_model(decoder="upernet", decoder_options={"channels": 8}, auxiliary=True)
    ours = (model.decoder, model.head, model.auxiliary)
    assert not any(getattr(m, "inplace", False) for part in ours for m in part.modules())
    assert any(isinstance(m, nn.ReLU) for m in model.decoder.modules())
