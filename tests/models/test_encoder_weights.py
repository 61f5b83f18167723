import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from wholescene.errors import ConfigError, ModelFileError
from wholescene.models import build_segmenter, load_encoder_weights, load_timm_weights, save_model
from wholescene.models import weights as weights_room


def classifier(name: str, **kwargs) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    state = timm.create_model(name, **kwargs).state_dict()
    return {key: value.clone().contiguous() for key, value in state.items()}


@pytest.mark.parametrize(
    "encoder", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit"]
)
def test_a_timm_classifier_fills_the_encoder(make_model, tmp_path, encoder: str) -> None:
    state = classifier(encoder)
    save_file(state, tmp_path / "w.safetensors")
    model = make_model(encoder, bands=("red", "green", "blue"))
    decoder = {k: v.clone() for k, v in model.decoder.state_dict().items()}
    report = load_encoder_weights(model, tmp_path / "w.safetensors")
    assert report.coverage == 1
    assert report.placed == ("red", "green", "blue")
    loaded = {
        k.replace(".", "_").removeprefix("model_"): v
        for k, v in model.encoder.net.state_dict().items()
    }
    flat = {k.replace(".", "_"): v for k, v in state.items()}
    assert all(torch.equal(loaded[k], flat[k]) for k in loaded if "num_batches" not in k)
    assert all(torch.equal(decoder[k], v) for k, v in model.decoder.state_dict().items())


def test_features_on_rgb_are_those_of_timm(make_model, tmp_path) -> None:
    torch.manual_seed(3)
    reference = timm.create_model("resnet18").eval()
    torch.save(reference.state_dict(), tmp_path / "w.pth")
    model = make_model("resnet18", bands=("red", "green", "blue"))
    load_encoder_weights(model, tmp_path / "w.pth")
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(image)[-1], reference.forward_features(image))


def test_more_bands_get_kernels_by_name(make_model, tmp_path) -> None:
    state = classifier("resnet18")
    torch.save(state, tmp_path / "w.pth")
    model = make_model("resnet18", bands=("nir", "blue", "green", "red", "dsm"))
    report = load_encoder_weights(model, tmp_path / "w.pth")
    assert report.placed == (None, "blue", "green", "red", None)
    kernel, source = model.encoder.net.conv1.weight, state["conv1.weight"]
    torch.testing.assert_close(kernel[:, 3], source[:, 0] * 0.6)
    torch.testing.assert_close(kernel[:, 0], source.mean(1) * 0.6)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": {f"module.backbone.{k}": v for k, v in s.items()}, "epoch": 3},
        lambda s: {"model": s, "optimizer": {"lr": 0.1}},
        lambda s: {f"encoder.{k}": v for k, v in s.items()},
    ],
)
def test_any_prefix_is_found(make_model, tmp_path, wrap) -> None:
    state = classifier("test_resnet")
    torch.save(wrap(state), tmp_path / "w.pth")
    model = make_model()
    assert load_encoder_weights(model, tmp_path / "w.pth").coverage == 1
    assert torch.equal(model.encoder.net.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


def test_two_encoders_in_a_file_need_a_choice(make_model, tmp_path) -> None:
    student, teacher = classifier("test_resnet"), classifier("test_resnet")
    teacher = {k: v + 1 for k, v in teacher.items()}
    torch.save({"student": student, "teacher": teacher}, tmp_path / "w.pth")
    model = make_model()
    with pytest.raises(ModelFileError, match=r"2 encoders .* 'student_', 'teacher_'; pass prefix="):
        load_encoder_weights(model, tmp_path / "w.pth")
    load_encoder_weights(model, tmp_path / "w.pth", prefix="teacher.")
    assert torch.equal(model.encoder.net.bn1.bias, teacher["bn1.bias"])


def test_a_model_of_ours_hands_over_its_encoder_with_its_bands(make_model, tmp_path) -> None:
    source = make_model(bands=("nir", "red", "sar"), num_classes=5)
    save_model(source, tmp_path / "m")
    model = make_model("test_resnet", "unet", bands=("sar", "nir", "red"))
    report = load_encoder_weights(model, tmp_path / "m")
    assert report.placed == ("sar", "nir", "red")
    theirs, own = source.encoder.net.conv1[0].weight, model.encoder.net.conv1[0].weight
    assert torch.equal(own, theirs[:, [2, 0, 1]])


def test_bands_of_the_file_can_be_stated(make_model, tmp_path) -> None:
    state = classifier("test_resnet", in_chans=2)
    torch.save(state, tmp_path / "w.pth")
    model = make_model(bands=("vh", "vv"))
    load_encoder_weights(model, tmp_path / "w.pth")  # two for two: taken in order
    assert torch.equal(model.encoder.net.conv1[0].weight, state["conv1.0.weight"])
    load_encoder_weights(model, tmp_path / "w.pth", source_bands=("vv", "vh"))
    assert torch.equal(model.encoder.net.conv1[0].weight, state["conv1.0.weight"].flip(1))
    with pytest.raises(
        ModelFileError, match=r"conv1.0.weight \(16, 2, 3, 3\) instead of \(16, 4.*weights_bands"
    ):
        load_encoder_weights(make_model(), tmp_path / "w.pth")


def test_another_network_is_refused_and_nothing_changes(make_model, tmp_path) -> None:
    torch.save(classifier("resnet18"), tmp_path / "w.pth")
    model = make_model("resnet26")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(
        ModelFileError,
        match=r"fills \d+ of \d+ tensors of encoder 'resnet26'.*missing: layer1.0.conv3",
    ) as error:
        load_encoder_weights(model, tmp_path / "w.pth")
    assert "at least 99%" in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_one_tensor_in_a_hundred_may_be_missing_but_not_two(make_model, tmp_path) -> None:
    model = make_model("resnet34")  # 182 tensors besides counters
    state = classifier("resnet34")
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "w.pth")
    report = load_encoder_weights(model, tmp_path / "w.pth")
    assert report.missing == ("layer1.0.conv1.weight",)
    assert report.unused == ("fc_weight", "fc_bias")
    del state["layer1.0.conv2.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match=r"2 missing: layer1.0.conv1.weight, layer1.0.conv2"):
        load_encoder_weights(model, tmp_path / "w.pth")


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("code in the checkpoint was run",))


def test_files_that_are_no_weights_are_named(make_model, tmp_path) -> None:
    model = make_model()
    with pytest.raises(ModelFileError, match=r"no weights at .*gone.pth; set model.weights"):
        load_encoder_weights(model, tmp_path / "gone.pth")
    torch.save({"weights": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(ModelFileError, match=r"could run any code"):
        load_encoder_weights(model, tmp_path / "evil.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ModelFileError, match=r"text.pth"):
        load_encoder_weights(model, tmp_path / "text.pth")
    (tmp_path / "short.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ModelFileError, match=r"cut short or no safetensors"):
        load_encoder_weights(model, tmp_path / "short.safetensors")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ModelFileError, match=r"holds no tensors"):
        load_encoder_weights(model, tmp_path / "empty.pth")


def test_build_takes_local_weights(make_spec, tmp_path) -> None:
    state = classifier("test_resnet")
    torch.save(state, tmp_path / "w.pth")
    model = build_segmenter(make_spec(), weights=tmp_path / "w.pth")
    assert torch.equal(model.encoder.net.bn1.weight, state["bn1.weight"])


def test_pretrained_goes_through_timm_and_is_placed_by_band(make_spec, monkeypatch) -> None:
    state = classifier("resnet18")
    real = timm.create_model

    def create(name, *, pretrained=False, **kwargs):
        net = real(name, pretrained=False, **kwargs)
        if pretrained:
            assert kwargs["in_chans"] == 3
            net.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc")})
        return net

    monkeypatch.setattr(timm, "create_model", create)
    model = build_segmenter(make_spec("resnet18"), pretrained=True)
    kernel = model.encoder.net.conv1.weight
    torch.testing.assert_close(kernel[:, :3], state["conv1.weight"] * 0.75)
    torch.testing.assert_close(kernel[:, 3], state["conv1.weight"].mean(1) * 0.75)
    assert torch.equal(model.encoder.net.layer4[1].bn2.weight, state["layer4.1.bn2.weight"])


@pytest.mark.filterwarnings("ignore")  # the network stack's own
def test_no_network_is_told_with_the_way_out(make_model, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(
        ModelFileError, match=r"no pretrained weights for encoder 'resnet18'.*set model.weights"
    ):
        load_timm_weights(make_model("resnet18"))


def test_an_encoder_nobody_trained_is_told(make_model) -> None:
    assert not timm.list_pretrained("test_mambaout*")
    with pytest.raises(ModelFileError, match=r"No pretrained weights exist for test_mambaout"):
        load_timm_weights(make_model("test_mambaout"))


def test_an_encoder_without_a_known_first_layer_is_refused(
    make_model, monkeypatch, tmp_path
) -> None:
    torch.save(classifier("test_resnet"), tmp_path / "w.pth")
    monkeypatch.setattr(weights_room, "first_layer_keys", lambda net: ())
    with pytest.raises(ModelFileError, match=r"does not say which layer"):
        load_encoder_weights(make_model(), tmp_path / "w.pth")


def test_weights_and_pretrained_exclude_each_other(make_spec) -> None:
    with pytest.raises(ConfigError, match=r"keep one"):
        build_segmenter(make_spec(), pretrained=True, weights="a.pth")
