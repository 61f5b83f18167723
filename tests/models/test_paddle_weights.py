import collections
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from wholescene.errors import ModelFileError
from wholescene.models import load_encoder_weights
from wholescene.models.paddle import read_paddle

RGB = ("red", "green", "blue")
HRNET = {"feature_location": "", "out_indices": [1, 2, 3, 4]}


def trained(name: str, **kwargs) -> torch.nn.Module:
    """A network whose statistics are not trivial."""
    torch.manual_seed(5)
    net = timm.create_model(name, **kwargs)
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return net.eval()


def arrays(net: torch.nn.Module) -> dict[str, np.ndarray]:
    names = (("running_mean", "_mean"), ("running_var", "_variance"))
    found = {}
    for key, value in net.state_dict().items():
        for ours, theirs in names:
            key = key.replace(ours, theirs)
        if not key.endswith("num_batches_tracked"):
            found[key] = value.numpy().T if key.startswith("fc.w") else value.numpy()
    return found


def paddleseg(name: str) -> str:
    """PaddleSeg's name of a tensor of timm's ResNet-50, deep or plain."""
    deep = {"conv1.0": "conv1_1._conv", "conv1.1": "conv1_1._batch_norm"}
    deep |= {"conv1.3": "conv1_2._conv", "conv1.4": "conv1_2._batch_norm"}
    deep |= {"conv1.6": "conv1_3._conv", "bn1": "conv1_3._batch_norm"}
    stem, _, last = name.rpartition(".")
    if stem in deep:
        return f"{deep[stem]}.{last}"
    block = re.fullmatch(r"layer(\d)\.(\d)\.(conv|bn)(\d)", stem)
    if block:
        kind = "_conv" if block[3] == "conv" else "_batch_norm"
        return f"bb_{int(block[1]) - 1}_{block[2]}.conv{int(block[4]) - 1}.{kind}.{last}"
    short = re.fullmatch(r"layer(\d)\.(\d)\.downsample\.([12])", stem)
    if short:
        kind = "_conv" if short[3] == "1" else "_batch_norm"
        return f"bb_{int(short[1]) - 1}_{short[2]}.short.{kind}.{last}"
    return name


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def assert_same_features(model, reference: torch.nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(image)[-1], reference.forward_features(image))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_back_in_order_with_shape_and_type(tmp_path, protocol: int) -> None:
    content = collections.OrderedDict(
        b=np.arange(6.0, dtype=np.float32).reshape(2, 3),
        a={"deep": np.array([1, 2], np.int64)},
        pair=("conv2d_0.w_0", np.ones((1, 2), np.float16)),
        names={"StructuredToParameterName@@": "x"},
        epoch=3,
    )
    found = read_paddle(write(tmp_path / "w.pdparams", content, protocol))
    assert list(found) == ["b", "a.deep", "pair"]
    assert torch.equal(found["b"], torch.arange(6.0).reshape(2, 3))
    assert found["a.deep"].dtype == torch.int64
    assert found["pair"].dtype == torch.float16


class Payload:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (lambda: Payload(pytest.fail, "code in the file was run"), "_pytest"),
        (lambda: Payload(os.system, "false"), r"(posix|nt)\.system"),
        (lambda: Payload(eval, "1"), r"builtins\.eval"),
        (lambda: Payload(getattr, "text", "upper"), r"builtins\.getattr"),
        (lambda: {"w": np.ones(2), "x": Path("a")}, r"pathlib"),
        (lambda: torch.ones(2), r"torch"),
        (lambda: np.random.default_rng(0), r"numpy\.random"),
        (lambda: np.float64(3), r"scalar"),
    ],
)
def test_whatever_is_no_array_is_refused_by_name(tmp_path, content, named: str) -> None:
    path = write(tmp_path / "evil.pdparams", content())
    with pytest.raises(ModelFileError, match=rf"asks for .*{named}.* only files of NumPy arrays"):
        read_paddle(path)


def test_damaged_and_empty_files_are_named(tmp_path) -> None:
    path = write(tmp_path / "w.pdparams", {"w": np.ones(100)})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelFileError, match=r"w.pdparams is no .pdparams file, or is cut short"):
        read_paddle(path)
    with pytest.raises(ModelFileError, match=r"cannot read .*gone.pdparams"):
        read_paddle(tmp_path / "gone.pdparams")
    with pytest.raises(ModelFileError, match=r"holds no arrays"):
        read_paddle(write(path, {"epoch": 3, "names": np.array(["a"])}))


def test_paddles_own_resnet50_fills_the_encoder(make_model, tmp_path) -> None:
    reference = trained("resnet50")
    path = write(tmp_path / "w.pdparams", arrays(reference))
    model = make_model("resnet50", bands=RGB)
    report = load_encoder_weights(model, path)
    assert report.coverage == 1
    assert report.placed == RGB
    assert set(report.unused) == {"fc_weight", "fc_bias"}
    assert_same_features(model, reference)


@pytest.mark.parametrize("wrapper", ["", "backbone."])
def test_paddlesegs_resnet50_vd_is_timms_resnet50d(make_model, tmp_path, wrapper: str) -> None:
    reference = trained("resnet50d")
    named = {wrapper + paddleseg(name): value for name, value in arrays(reference).items()}
    named["head.cls.weight"] = np.ones((3, 2), np.float32)
    model = make_model("resnet50d", bands=RGB)
    assert load_encoder_weights(model, write(tmp_path / "w.pdparams", named)).coverage == 1
    assert_same_features(model, reference)


def test_hrnet_goes_by_order(make_model, tmp_path) -> None:
    reference = trained("hrnet_w18_small", features_only=True, **HRNET)
    named = {
        f"backbone.layer_{i}.{key.rpartition('.')[2]}": value
        for i, (key, value) in enumerate(arrays(reference).items())
    }
    named["head.conv.weight"] = np.ones((3, 2), np.float32)
    path = write(tmp_path / "w.pdparams", named)
    options = {"decoder_options": {"levels": "all"}, "encoder_options": HRNET}
    model = make_model("hrnet_w18_small", bands=RGB, **options)
    assert load_encoder_weights(model, path).coverage == 1
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(model.encoder(image), reference(image), strict=True):
            torch.testing.assert_close(ours, theirs)
    other = make_model("hrnet_w18_small_v2", bands=RGB, **options)
    with pytest.raises(ModelFileError, match=r"holds \d+ tensors|as tensor \d+ of its encoder"):
        load_encoder_weights(other, path)


SSL = {
    "moco": lambda s: (
        {f"encoder_q.0.{k}": v for k, v in s.items()}
        | {f"encoder_k.0.{k}": v + 1 for k, v in s.items()}
    ),
    "densecl": lambda s: (
        {f"backbone.{k}": v for k, v in s.items()}
        | {f"encoder_k.0.{k}": v + 1 for k, v in s.items()}
    ),
    "byol": lambda s: (
        {f"online_network.encoder.{_place(k)}": v for k, v in s.items()}
        | {f"target_network.encoder.{_place(k)}": v + 1 for k, v in s.items()}
    ),
    "simsiam": lambda s: (
        {f"encoder.{k}": v for k, v in s.items()}
        | {"predictor.0.weight": np.ones((2, 2), np.float32)}
    ),
    "swav": lambda s: (
        {f"backbone.{k}": v for k, v in s.items()}
        | {"prototypes.weight": np.ones((2, 2), np.float32)}
    ),
}


def _place(name: str) -> str:
    """Name in a sequence of the parts of a ResNet: conv1, bn1, relu, maxpool, layer1 ..."""
    parts = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    first, _, rest = name.partition(".")
    return f"{parts.index(first)}.{rest}"


@pytest.mark.parametrize("method", SSL)
def test_the_trained_encoder_of_each_method_of_passl_is_found(
    make_model, tmp_path, method: str
) -> None:
    reference = trained("resnet18")
    state = {k: v for k, v in arrays(reference).items() if not k.startswith("fc")}
    path = write(tmp_path / "w.pdparams", {"state_dict": SSL[method](state), "epoch": 100})
    model = make_model("resnet18", bands=RGB)
    assert load_encoder_weights(model, path).coverage == 1
    assert_same_features(model, reference)


def test_another_network_is_refused_with_what_is_missing(make_model, tmp_path) -> None:
    path = write(tmp_path / "w.pdparams", arrays(trained("resnet18")))
    with pytest.raises(ModelFileError, match=r"fills \d+ of \d+ tensors of encoder 'resnet50'"):
        load_encoder_weights(make_model("resnet50"), path)
