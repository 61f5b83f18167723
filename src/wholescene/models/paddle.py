"""Encoder weights of PaddleSeg and PASSL, read without running anything they contain."""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wholescene.errors import ModelFileError

__all__ = ["encoder_names", "read_paddle"]

STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}
WRAPPERS = ("state_dict.", "model.", "module.")
ENCODERS = ("backbone.", "online_network.encoder.", "encoder_q.0.", "encoder.")
"""Where PaddleSeg, and PASSL's methods, keep the encoder that is trained, in order of choice: all
of MoCo, DenseCL, PixPro and SwAV; BYOL; old MoCo; SimSiam."""
CHILDREN = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3", 7: "layer4"}
"""Parts of a ResNet by their place, where a method keeps them as a sequence."""
STEM = {
    "conv1_1._conv": "conv1.0",
    "conv1_1._batch_norm": "conv1.1",
    "conv1_2._conv": "conv1.3",
    "conv1_2._batch_norm": "conv1.4",
    "conv1_3._conv": "conv1.6",
    "conv1_3._batch_norm": "bn1",
    "conv._conv": "conv1",
    "conv._batch_norm": "bn1",
}
"""First layers of PaddleSeg's ResNet, deep ("vd") or plain, by timm's names."""
BLOCK = re.compile(r"bb_(\d+)_(\d+)\.(conv(\d)|short)\.(_conv|_batch_norm)\.(.*)")


def read_paddle(path: Path) -> dict[str, Tensor]:
    """Read the arrays of a ``.pdparams`` file by dotted name, in their order.

    Such a file is a pickle. Only what NumPy arrays and plain containers need is admitted.

    Raises:
        ModelFileError: If it cannot be read, holds anything else, or no array.
    """
    try:
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), str(path)).load()
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle trips the reader anywhere
        raise ModelFileError(
            f"{path} is no .pdparams file, or is cut short ({type(error).__name__}: {error}); copy "
            "it again"
        ) from error
    tensors = dict(_arrays(content, ""))
    if not tensors:
        raise ModelFileError(f"{path} holds no arrays; set model.weights to a file of weights")
    return tensors


def encoder_names(tensors: Mapping[str, Tensor], net: nn.Module, source: str) -> dict[str, Tensor]:
    """Pick the encoder out of a file of PaddleSeg or PASSL, and give it timm's names.

    ResNets go by name. Other networks, HRNet above all, go by order: both libraries define the
    same layers one after the other, and every shape is compared. Layers of one shape that another
    version of Paddle defines in another order would not be noticed, so compare an output once.

    Args:
        tensors: As from :func:`read_paddle`.
        net: timm feature extractor that will take them.
        source: File name for messages.

    Returns:
        Tensors by the name of ``net``, those of other parts by their own.

    Raises:
        ModelFileError: If a network that goes by order has other shapes in the file.
    """
    found = _encoder(tensors)
    if all(hasattr(net, f"layer{stage}") for stage in (1, 2, 3)):
        return _by_name(found, is_deep=_has_pooled_shortcut(net))
    return _by_order(found, net, source)


class _ArraysOnly(pickle.Unpickler):
    """Admits what NumPy arrays and plain containers are rebuilt with."""

    def __init__(self, file: io.BytesIO, source: str) -> None:
        super().__init__(file)
        self._source = source

    def find_class(self, module: str, name: str) -> Any:
        found = ADMITTED.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise ModelFileError(
                f"{self._source} asks for {module}.{name}, which is no array and could run code; "
                "only files of NumPy arrays are read. Save the weights alone, best as .safetensors"
            )
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise ModelFileError(
            f"{self._source} refers to something outside of it ({pid!r}); only files of NumPy "
            "arrays are read"
        )


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes as old pickles spell them; other codecs are not looked up."""
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _numpy_parts() -> dict[tuple[str, str], Callable[..., Any]]:
    """What NumPy writes into a pickle of an array, whatever its version."""
    rebuild = np.zeros(0).__reduce__()[0]
    assert callable(rebuild)
    from_buffer = np.zeros(1).__reduce_ex__(5)[0]
    return {
        ("numpy.core.multiarray", "_reconstruct"): rebuild,
        ("numpy.core.numeric", "_frombuffer"): from_buffer,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }


ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    **_numpy_parts(),
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "tuple"): tuple,
}


def _arrays(content: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Numeric arrays by dotted name; Paddle may pair each with a name of its own."""
    if isinstance(content, tuple) and len(content) == 2 and isinstance(content[1], np.ndarray):
        content = content[1]
    if isinstance(content, np.ndarray):
        if content.dtype.kind in "fiub":
            yield prefix.removesuffix("."), torch.from_numpy(np.array(content))
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _arrays(value, f"{prefix}{key}.")


def _encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {_statistics(_unwrapped(name)): value for name, value in tensors.items()}
    start = next((s for s in ENCODERS if any(name.startswith(s) for name in named)), "")
    return {name.removeprefix(start): v for name, v in named.items() if name.startswith(start)}


def _unwrapped(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _statistics(name: str) -> str:
    stem, _, last = name.rpartition(".")
    return f"{stem}.{STATISTICS[last]}" if last in STATISTICS else name


def _has_pooled_shortcut(net: nn.Module) -> bool:
    """Whether shortcuts pool before they convolve, which shifts timm's names by one."""
    return any("downsample.2." in name for name in net.state_dict())


def _by_name(tensors: Mapping[str, Tensor], *, is_deep: bool) -> dict[str, Tensor]:
    return {_resnet_name(name, is_deep=is_deep): value for name, value in tensors.items()}


def _resnet_name(name: str, *, is_deep: bool) -> str:
    stem, _, last = name.rpartition(".")
    if stem in STEM:
        return f"{STEM[stem]}.{last}"
    block = BLOCK.fullmatch(name)
    if block is not None:
        stage, number, part, conv, kind, last = block.groups()
        is_conv = kind == "_conv"
        if part == "short":
            layer = f"downsample.{int(is_deep) + int(not is_conv)}"
        else:
            layer = f"{'conv' if is_conv else 'bn'}{int(conv) + 1}"
        return f"layer{int(stage) + 1}.{number}.{layer}.{last}"
    first, _, rest = name.partition(".")
    if first.isdigit() and int(first) in CHILDREN and not rest.startswith(("conv1", "layer")):
        return f"{CHILDREN[int(first)]}.{rest}"
    return name


def _by_order(tensors: Mapping[str, Tensor], net: nn.Module, source: str) -> dict[str, Tensor]:
    own = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    if len(tensors) < len(own):
        raise ModelFileError(
            f"{source} holds {len(tensors)} tensors in its encoder, and {len(own)} are needed; set "
            "model.encoder to the network these weights belong to"
        )
    named: dict[str, Tensor] = {}
    for number, ((name, value), (theirs, found)) in enumerate(
        zip(own.items(), tensors.items(), strict=False)
    ):
        # The first kernel may read other bands.
        same = value.shape == found.shape or (number == 0 and value.shape[2:] == found.shape[2:])
        if not same or name.rpartition(".")[2] != theirs.rpartition(".")[2]:
            raise ModelFileError(
                f"{source} has {theirs} {tuple(found.shape)} as tensor {number + 1} of its "
                f"encoder, where {name} {tuple(value.shape)} is needed; set model.encoder to the "
                "network these weights belong to, for HRNet with "
                "model.encoder_options.feature_location = ''"
            )
        named[name] = found
    used = list(tensors)[: len(own)]
    return named | {name: value for name, value in tensors.items() if name not in used}
