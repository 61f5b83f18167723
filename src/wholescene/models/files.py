"""The model file: a folder or zip of ``model.safetensors`` and ``model.json``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from wholescene.errors import ModelFileError, OutputError, WholesceneError
from wholescene.models.build import build_segmenter
from wholescene.models.container import JSON_NAME, WEIGHTS_NAME, read_container
from wholescene.models.first_layer import first_layer_keys
from wholescene.models.segmenter import Segmenter
from wholescene.models.spec import ModelSpec
from wholescene.models.wording import first_five

__all__ = ["load_model", "model_id", "save_model"]

ID_LENGTH = 16


def save_model(model: Segmenter, folder: str | Path) -> Path:
    """Write a model so that it describes itself.

    Both files are written aside and renamed, ``model.json`` last, so that a folder that has one is
    complete. Weights are stored as float32, each tensor on its own even if the network shares it.

    Args:
        model: Any device, any mode.
        folder: Made if missing; a model already there is replaced, other files stay.

    Returns:
        The folder.

    Raises:
        OutputError: If it cannot be written.
    """
    folder = Path(folder)
    weights = safetensors.torch.save(_stored(model), metadata={"format": "pt"})
    description = _spec_json(model.spec, indent=2) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_aside(folder / WEIGHTS_NAME, weights)
        _write_aside(folder / JSON_NAME, description.encode())
    except OSError as error:
        raise OutputError(
            f"cannot write the model to {folder}: {error.strerror or error}; free space or choose "
            "another --out"
        ) from error
    return folder


def load_model(path: str | Path) -> Segmenter:
    """Read a model; nothing in the file is ever executed.

    Args:
        path: Model directory, zip of one, one of its two files, or a run directory that holds
            ``model/``.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        ModelFileError: If a file is missing or damaged, the description is not understood, or the
            weights do not fit it.
    """
    spec, tensors, where = read_container(Path(path))
    try:
        model = build_segmenter(spec)
    except WholesceneError as error:
        raise ModelFileError(f"{where}: the network cannot be built: {error}") from error
    _check_tensors(model, tensors, where)
    model.load_state_dict(tensors)
    return model.eval()


def model_id(model: Segmenter) -> str:
    """Give a short name that changes whenever weights or description do.

    The same before saving and after loading, on every device.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256(_spec_json(model.spec, indent=None).encode())
    for name, tensor in sorted(_stored(model).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()[:ID_LENGTH]


def _check_tensors(model: Segmenter, tensors: Mapping[str, Tensor], where: Path) -> None:
    own = model.state_dict()
    problems = _wrong_counts(model, tensors)
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    misshapen = [
        f"{name} is {tuple(tensors[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    broken = [n for n, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]
    for what, names in (
        ("missing", missing),
        ("not part of this network", unexpected),
        ("of another shape", misshapen),
        ("with NaN or infinite values", broken),
    ):
        if names:
            problems.append(f"{len(names)} tensors {what}: {first_five(names)}")
    if problems:
        raise ModelFileError(
            f"{where}: the weights do not fit {JSON_NAME}: {'; '.join(problems)}. Both files must "
            "come from one training run; copy or train the model again"
        )


def _wrong_counts(model: Segmenter, tensors: Mapping[str, Tensor]) -> list[str]:
    """Say in words what a wrong number of bands or classes looks like in tensors."""
    problems = []
    head = tensors.get("head.classify.weight")
    num_classes = len(model.spec.classes)
    if head is not None and head.ndim == 4 and head.shape[0] != num_classes:
        problems.append(
            f"{JSON_NAME} lists {num_classes} classes, the weights have {head.shape[0]}"
        )
    for key in first_layer_keys(model.encoder.net):
        value, own = tensors.get(f"encoder.net.{key}"), model.encoder.net.state_dict()[key]
        if value is not None and value.ndim == own.ndim == 4 and value.shape[1] != own.shape[1]:
            fold = max(1, own.shape[1] // model.spec.num_bands)
            problems.append(
                f"{JSON_NAME} lists {model.spec.num_bands} bands, the weights read "
                f"{value.shape[1] // fold}"
            )
            break
    return problems


def _stored(model: Segmenter) -> dict[str, Tensor]:
    """Give the tensors as they are written: on the CPU, float32, each with its own memory."""
    stored = {}
    for name, tensor in model.state_dict().items():
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        stored[name] = tensor.detach().to("cpu", dtype, copy=True).contiguous()
    return stored


def _spec_json(spec: ModelSpec, *, indent: int | None) -> str:
    return json.dumps(spec.model_dump(mode="json"), indent=indent, sort_keys=indent is None)


def _write_aside(path: Path, data: bytes) -> None:
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
