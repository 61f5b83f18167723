"""Reading tensors from files without ever unpickling code."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from wholescene.errors import ModelFileError

__all__ = ["parse_safetensors", "read_checkpoint", "read_safetensors"]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file.

    Raises:
        ModelFileError: If it is missing, unreadable, cut short or no safetensors file.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise _damaged(str(path), error) from error
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    return tensors


def parse_safetensors(data: bytes, where: str) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file held in memory.

    Raises:
        ModelFileError: If it is cut short or no safetensors file.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except SafetensorError as error:
        raise _damaged(where, error) from error
    return tensors


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file or PyTorch checkpoint, nested ones by dotted name.

    Raises:
        ModelFileError: If it cannot be read, or reading it would run code.
    """
    if not path.is_file():
        raise ModelFileError(f"no weights at {path}; set model.weights to an existing file")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        # Settings of a command line, beside the weights in files of MAE, SatMAE and others: a
        # plain record, which runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"{path} is damaged or holds more than tensors, and reading it could run any code it "
            "contains; save its state dict alone, best as .safetensors"
        ) from error
    except Exception as error:  # a damaged file trips the reader anywhere
        raise ModelFileError(
            f"{path} is no PyTorch checkpoint, or is cut short ({type(error).__name__}: {error}); "
            "give a .safetensors or .pth file"
        ) from error
    tensors = dict(_flatten(content, ""))
    if not tensors:
        raise ModelFileError(f"{path} holds no tensors; give a file with a state dict")
    return tensors


def _flatten(content: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _flatten(value, f"{prefix}{key}.")


def _damaged(where: str, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"{where} is cut short or no safetensors file ({error}); copy or train the model again"
    )
