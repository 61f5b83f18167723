import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from wholescene.errors import ModelFileError, OutputError
from wholescene.models import load_model, model_id, read_spec, save_model


@pytest.fixture
def saved(make_model, tmp_path) -> Path:
    return save_model(make_model("test_resnet", "fcn"), tmp_path / "run" / "model")


def edit(folder: Path, change) -> None:
    content = json.loads((folder / "model.json").read_text())
    change(content)
    (folder / "model.json").write_text(json.dumps(content))


def edit_weights(folder: Path, change) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("decoder", ["fcn", "unet", "upernet"])
def test_a_loaded_model_predicts_what_the_saved_one_did(make_model, tmp_path, decoder: str) -> None:
    options = {"channels": 8} if decoder == "upernet" else {}
    model = make_model("test_convnext", decoder, decoder_options=options, auxiliary=True)
    save_model(model, tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    image = torch.randn(1, 4, 40, 50)
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))
    assert not loaded.training
    assert loaded.spec == model.spec
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"model.json", "model.safetensors"}


def test_a_run_directory_a_zip_and_a_member_lead_to_the_same_model(saved: Path, tmp_path) -> None:
    expected = model_id(load_model(saved))
    for prefix in ("", "model/"):
        with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
            for name in ("model.json", "model.safetensors"):
                archive.write(saved / name, prefix + name)
        assert model_id(load_model(tmp_path / "m.zip")) == expected
        assert read_spec(tmp_path / "m.zip") == read_spec(saved)
    assert model_id(load_model(saved.parent)) == expected
    assert model_id(load_model(saved / "model.json")) == expected


def test_id_is_of_weights_and_description(make_model, tmp_path) -> None:
    model = make_model()
    first = model_id(model)
    assert len(first) == 16
    assert model_id(model.train().double().float()) == first
    with torch.no_grad():
        model.head.classify.bias[0] += 1e-6
    second = model_id(model)
    assert second != first
    model.spec = model.spec.model_copy(update={"gsd_m": 0.6})
    assert model_id(model) not in (first, second)


def test_id_is_the_same_in_another_process(saved: Path) -> None:
    code = f"from wholescene.models import *; print(model_id(load_model({str(saved)!r})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == model_id(load_model(saved))


def test_weights_are_float32_and_shared_ones_stand_twice(make_model, tmp_path) -> None:
    model = make_model("test_resnet", "fcn").bfloat16()
    model.decoder.conv.norm.bias = model.decoder.conv.norm.weight
    save_model(model, tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float32, torch.int64}
    assert torch.equal(tensors["decoder.conv.norm.bias"], tensors["decoder.conv.norm.weight"])
    loaded = load_model(tmp_path)
    assert torch.equal(loaded.head.classify.weight, model.head.classify.weight.float())


def test_saving_replaces_both_files_and_leaves_others(make_model, saved: Path) -> None:
    (saved / "README.md").write_text("mine")
    model = make_model("test_convnext", num_classes=5)
    save_model(model, saved)
    assert model_id(load_model(saved)) == model_id(model)
    assert {p.name for p in saved.iterdir()} == {"README.md", "model.json", "model.safetensors"}


def test_a_failed_save_keeps_the_old_model(make_model, saved: Path, monkeypatch) -> None:
    before = model_id(load_model(saved))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device; free space"):
        save_model(make_model(num_classes=5), saved)
    assert model_id(load_model(saved)) == before
    assert {p.name for p in saved.iterdir()} == {"model.json", "model.safetensors"}


def test_a_folder_that_cannot_be_made_is_an_output_error(make_model, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write the model to"):
        save_model(make_model(), tmp_path / "file" / "model")


def test_paths_that_are_no_model_are_named(saved: Path, tmp_path) -> None:
    with pytest.raises(ModelFileError, match=r"there is no model at .*gone"):
        load_model(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=r"is no model: it holds neither"):
        load_model(tmp_path / "empty")
    (tmp_path / "last.ckpt").write_text("x")
    with pytest.raises(ModelFileError, match=r"no model directory and no zip.*--resume"):
        load_model(tmp_path / "last.ckpt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(ModelFileError, match=r"holds 0 files named model.json"):
        load_model(tmp_path / "other.zip")


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ModelFileError, match=f"has no {name}; .* copy both"):
        load_model(saved)


def test_truncated_files_are_named(saved: Path, tmp_path) -> None:
    weights = saved / "model.safetensors"
    data = weights.read_bytes()
    for length in (0, 4, 100, len(data) - 1):
        weights.write_bytes(data[:length])
        with pytest.raises(
            ModelFileError, match=r"model.safetensors is cut short or no safetensors"
        ):
            load_model(saved)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.write(saved / "model.json", "model.json")
        archive.write(weights, "model.safetensors")
        archive.writestr("model/readme.txt", "x" * 1000)
    weights.write_bytes(data)
    with zipfile.ZipFile(tmp_path / "m2.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(saved / "model.json", "model.json")
        archive.write(weights, "model.safetensors")
    packed = (tmp_path / "m2.zip").read_bytes()
    broken = bytearray(packed)
    broken[len(broken) // 2] ^= 0xFF
    (tmp_path / "m2.zip").write_bytes(broken)
    with pytest.raises(ModelFileError, match=r"cannot be read as a zip|cut short"):
        load_model(tmp_path / "m2.zip")
    (saved / "model.json").write_text('{"format_version": 1, ')
    with pytest.raises(ModelFileError, match=r"model.json is not JSON"):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(gsd=1), r"unknown key 'gsd' \(did you mean 'gsd_m'\?\)"),
        (
            lambda c: c["architecture"].update(decodr="fcn"),
            r"unknown key 'architecture.decodr' \(did you mean 'decoder'\?\)",
        ),
        (
            lambda c: c["sources"][0]["bands"][0].update(wavelength=1),
            r"unknown key 'sources.0.bands.0.wavelength' \(did you mean 'wavelength_nm'\?\)",
        ),
        (lambda c: c.pop("mean"), "key 'mean' is missing"),
        (lambda c: c.update(format_version=2), "format version 2, .* reads up to 1; update it"),
        (lambda c: c["mean"].pop(), "4 bands, but 3 means and 4 standard deviations"),
        (lambda c: c.update(std=[1, 1, 0, 1]), "not > 0"),
        (
            lambda c: c["classes"][1].update(id=10),
            "classes that cannot be: class id 10 stands more",
        ),
        (lambda c: c["architecture"].update(encoder="resnet81"), "has no model 'resnet81'"),
        (lambda c: c["architecture"].update(decoder="fcm"), "did you mean 'fcn'"),
        (lambda c: c["classes"].pop(), "model.json lists 2 classes, the weights have 3"),
        (
            lambda c: (c["sources"][0]["bands"].pop(), c["mean"].pop(), c["std"].pop()),
            "model.json lists 3 bands, the weights read 4",
        ),
        (
            lambda c: c["architecture"].update(encoder="resnet18"),
            r"tensors missing: .* and \d+ more",
        ),
        (
            lambda c: c["architecture"].update(auxiliary=True),
            "missing: auxiliary.decoder.conv.conv",
        ),
        (
            lambda c: c["architecture"].update(encoder_options={"checkpoint_path": "/x.pth"}),
            "may not hold checkpoint_path",
        ),
        (
            lambda c: c["architecture"].update(encoder="hf-hub:somebody/model"),
            "has no model 'hf-hub:somebody/model'",
        ),
    ],
)
def test_descriptions_that_do_not_fit_are_explained(saved: Path, change, message: str) -> None:
    edit(saved, change)
    with pytest.raises(ModelFileError, match=message) as error:
        load_model(saved)
    assert str(saved) in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("head.classify.bias"), "1 tensors missing: head.classify.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 tensors not part of this network: extra"),
        (
            lambda t: t.update({"head.classify.bias": torch.zeros(7)}),
            r"head.classify.bias is \(7,\) instead of \(3,\)",
        ),
        (
            lambda t: t["head.classify.bias"].fill_(float("nan")),
            "1 tensors with NaN or infinite values: head.classify.bias",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(saved: Path, change, message: str) -> None:
    edit_weights(saved, change)
    with pytest.raises(ModelFileError, match=message):
        load_model(saved)


def test_nothing_is_unpickled(saved: Path, monkeypatch) -> None:
    def refuse(*_, **__):
        pytest.fail("unpickled")

    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    monkeypatch.setattr("torch.load", refuse)
    load_model(saved)
