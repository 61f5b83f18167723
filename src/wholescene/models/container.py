"""Finding and reading the two files of a model, in a directory or a zip."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from wholescene.errors import LabelError, ModelFileError
from wholescene.models.spec import FORMAT_VERSION, ModelSpec
from wholescene.models.tensors import parse_safetensors, read_safetensors
from wholescene.models.wording import explain

__all__ = ["JSON_NAME", "WEIGHTS_NAME", "read_container", "read_spec"]

JSON_NAME = "model.json"
WEIGHTS_NAME = "model.safetensors"


def read_spec(path: str | Path) -> ModelSpec:
    """Read a model's description without its weights.

    Raises:
        ModelFileError: As :func:`load_model`.
    """
    found = _locate(Path(path))
    if found.is_dir():
        return _parse_spec(_read_bytes(found / JSON_NAME), found / JSON_NAME)
    members = _open_zip(found, (JSON_NAME,))
    return _parse_spec(members[JSON_NAME], found / JSON_NAME)


def read_container(path: Path) -> tuple[ModelSpec, dict[str, Tensor], Path]:
    """Read a model's description and weights, and say where they were found.

    Raises:
        ModelFileError: If a file is missing, damaged or not understood.
    """
    found = _locate(path)
    if found.is_dir():
        spec = _parse_spec(_read_bytes(found / JSON_NAME), found / JSON_NAME)
        return spec, read_safetensors(found / WEIGHTS_NAME), found
    members = _open_zip(found, (JSON_NAME, WEIGHTS_NAME))
    spec = _parse_spec(members[JSON_NAME], found / JSON_NAME)
    return spec, parse_safetensors(members[WEIGHTS_NAME], f"{found}/{WEIGHTS_NAME}"), found


def _locate(path: Path) -> Path:
    """Find the model directory or zip behind a path."""
    if path.is_dir():
        for folder in (path, path / "model"):
            if (folder / JSON_NAME).is_file() or (folder / WEIGHTS_NAME).is_file():
                for name in (JSON_NAME, WEIGHTS_NAME):
                    if not (folder / name).is_file():
                        raise ModelFileError(
                            f"{folder} has no {name}; a model is {JSON_NAME} and {WEIGHTS_NAME} "
                            "together: copy both"
                        )
                return folder
        raise ModelFileError(
            f"{path} is no model: it holds neither {JSON_NAME} and {WEIGHTS_NAME} nor a run's "
            "model/ directory. Give --model the directory that does"
        )
    if path.name in (JSON_NAME, WEIGHTS_NAME) and path.is_file():
        return _locate(path.parent)
    if not path.exists():
        raise ModelFileError(f"there is no model at {path}; give --model an existing path")
    if not zipfile.is_zipfile(path) or path.suffix.lower() in (".pt", ".pth", ".ckpt"):
        raise ModelFileError(
            f"{path} is no model directory and no zip of one. Checkpoints are for --resume; the "
            "model of a run is in its model/ directory"
        )
    return path


def _open_zip(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Read members by name, at the root or inside one folder; nothing is unpacked to disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {}
            for name in names:
                hits = [m for m in archive.namelist() if m.split("/")[-1] == name]
                if len(hits) != 1:
                    raise ModelFileError(
                        f"{path} holds {len(hits)} files named {name}; a model zip has exactly one "
                        f"{JSON_NAME} and one {WEIGHTS_NAME}"
                    )
                found[name] = archive.read(hits[0])
            return found
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise ModelFileError(f"{path} cannot be read as a zip: {error}; copy it again") from error


def _parse_spec(data: bytes, where: Path) -> ModelSpec:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ModelFileError(
            f"{where} is not JSON: {error}; copy or train the model again"
        ) from None
    if not isinstance(content, dict):
        raise ModelFileError(f"{where} holds no JSON object; copy or train the model again")
    _check_version(content, where)
    try:
        spec = ModelSpec.model_validate(content)
        _ = spec.class_table
    except ValidationError as error:
        reasons = explain(error, ModelSpec)
        raise ModelFileError(f"{where} is not a model description: {reasons}") from None
    except LabelError as error:
        raise ModelFileError(f"{where} lists classes that cannot be: {error}") from error
    return spec


def _check_version(content: Mapping[str, Any], where: Path) -> None:
    version = content.get("format_version", FORMAT_VERSION)
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ModelFileError(
            f"{where} has format version {version}, and this wholescene reads up to "
            f"{FORMAT_VERSION}; update it with pip install --upgrade wholescene"
        )


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
