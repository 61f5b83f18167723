"""What every way of executing a network over a scene has in common."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from wholescene.errors import InputError, UnsupportedError
from wholescene.geometry import Size, Window
from wholescene.models import (
    RefinedSegmenter,
    Segmenter,
    in_fast_order,
    normalise,
    weights_in_fast_order,
)
from wholescene.prediction.views import Views
from wholescene.raster import Pixels, SceneReader

__all__ = [
    "DEVICES",
    "PRECISIONS",
    "Band",
    "Engine",
    "Forward",
    "Work",
    "borrowed",
    "check_finite",
    "find_device",
]

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
TINY = 1e-30
DEVICES = "auto, cpu, cuda or cuda:N"


@dataclass(frozen=True, slots=True)
class Band:
    """Finished rows of a map, over the whole width; lent until the next band is asked for.

    Args:
        row_off: First row.
        probabilities: (K, rows, width) on the CPU; no rows where there is only progress to tell.
        share_done: Share of all work done by now; ``None``: that of its last row.
    """

    row_off: int
    probabilities: Tensor
    share_done: float | None = None

    @property
    def row_stop(self) -> int:
        """One past the last row."""
        return self.row_off + self.probabilities.shape[1]

    @property
    def has_rows(self) -> bool:
        """Whether it brings rows, not only progress."""
        return self.probabilities.shape[1] > 0

    def share_of(self, height: int) -> float:
        """Share of the work over a scene of this height that is done."""
        return self.row_stop / height if self.share_done is None else self.share_done

    def parts(self, rows: int) -> Iterator[Band]:
        """Cut into bands of so many rows, so that what is made of each stays small."""
        for first in range(0, self.probabilities.shape[1], rows):
            yield Band(self.row_off + first, self.probabilities[:, first : first + rows])


class Work(Protocol):
    """What a way of executing a network over a scene takes.

    Attributes:
        name: As in ``--engine``.
    """

    name: ClassVar[str]

    @property
    def settings(self) -> dict[str, int]:
        """What the numbers depend on besides network, device and precision."""

    @property
    def num_blocks(self) -> int:
        """Units of work over the whole scene."""

    @property
    def disk_bytes(self) -> int:
        """Disk that it takes besides the map's."""

    @property
    def file_bytes(self) -> int:
        """Largest file on it."""

    def working_bytes(self, num_bands: int, num_classes: int) -> int:
        """Memory besides the model and the network's own activations."""

    def describe(self) -> str:
        """One line for a plan."""


class Engine(Work, Protocol):
    """One that gives rows from top to bottom, in this process."""

    def bands(
        self, reader: SceneReader, forward: Forward, rows_done: int, folder: Path | None = None
    ) -> Generator[Band, None, None]:
        """Give all rows from ``rows_done`` on, from top to bottom, each once.

        Args:
            reader: Scene.
            forward: Network.
            rows_done: Rows that are safe already. Whoever asks for the next band has made the
                rows of the last one safe.
            folder: Where to keep what another process needs to go on; goes with the map's store.
        """


class Forward:
    """From pixels to probabilities on a device.

    Args:
        model: The network, on ``device`` and in evaluation mode; see ``borrowed``.
        device: Where it runs.
        precision: One of ``PRECISIONS``.
        views: Test-time augmentation.
    """

    def __init__(
        self, model: Segmenter, device: torch.device, precision: str, views: Views
    ) -> None:
        self.spec = model.spec
        self.device = device
        self._model = model
        self._precision = precision
        self._views = views

    def of(self, model: Segmenter) -> Forward:
        """The same of another network, such as a part of this one."""
        return Forward(model, self.device, self._precision, self._views)

    def prepare(self, parts: list[Pixels]) -> Tensor:
        """Normalise windows into a batch; runs on the reading thread."""
        spec = self.spec
        batch = torch.stack([normalise(p.values, p.valid, spec.mean, spec.std) for p in parts])
        return batch.pin_memory() if self.device.type == "cuda" else batch

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """Probabilities (B, K, H, W), float32, on the CPU."""
        image = batch.to(self.device, non_blocking=True)
        if self._views.count == 1:
            result = self._probabilities(image)
        else:
            result = self._views.average(image, self._probabilities)
        return result.cpu()

    @torch.inference_mode()
    def refined(self, batch: Tensor, probabilities: Tensor, context: tuple[int, int]) -> Tensor:
        """Probabilities of a refined network from those of its coarse one, on the CPU.

        Args:
            batch: Image with rows of context, (1, C, above + H + below, W).
            probabilities: Of the coarse network, (1, K, H, W).
            context: Rows above and below.
        """
        assert isinstance(self._model, RefinedSegmenter)
        image, coarse = batch.to(self.device), probabilities.to(self.device)
        with self._autocast():
            # Up to a constant, logits are the logarithms of probabilities.
            logits = self._model.refine(image, coarse.clamp(min=TINY).log(), context)
        result: Tensor = logits.float().softmax(1)
        return result.cpu()

    def _probabilities(self, image: Tensor) -> Tensor:
        with self._autocast():
            logits = self._model(in_fast_order(image))
        check_logits(tuple(logits.shape), tuple(image.shape), len(self.spec.classes))
        probabilities: Tensor = logits.float().softmax(1)
        return probabilities

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self._precision])


@contextmanager
def borrowed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Bring a model to a device and into evaluation mode, laid out for speed; give it back."""
    modes = {module: module.training for module in model.modules()}
    home = next((p.device for p in model.parameters()), device)
    model.to(device).eval()
    try:
        with weights_in_fast_order(model):
            yield
    finally:
        model.to(home)
        for module, training in modes.items():
            module.training = training


def check_finite(probabilities: Tensor, window: Window) -> None:
    """Refuse probabilities that are no numbers, of which the sum is none either.

    Raises:
        UnsupportedError: Naming the window.
    """
    if not math.isfinite(probabilities.sum().item()):
        raise UnsupportedError(
            f"the network gives NaN or infinity in rows {window.row_off}.."
            f"{window.row_stop - 1}, columns {window.col_off}..{window.col_stop - 1}; use "
            "--precision float32, and check the model's mean and std against the scene"
        )


def check_logits(logits: tuple[int, ...], image: tuple[int, ...], num_classes: int) -> None:
    """Refuse logits of a shape that makes no map.

    Raises:
        InputError: Naming the shapes.
    """
    expected = (image[0], num_classes, *image[2:])
    if logits != expected:
        raise InputError(
            f"the network turns an image of {image} into logits of {logits}, but its "
            f"{num_classes} classes need {expected}; let it give one plane per class, as high and "
            "wide as the image"
        )


def find_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device that is there.

    Raises:
        InputError: If it is not.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is unknown; use {DEVICES}") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is not supported; use {DEVICES}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA "
            "devices that torch can use; use --device cpu or auto"
        )
    return device


def float_bytes(size: Size, planes: int) -> int:
    """Bytes of float32 planes."""
    return 4 * planes * size.area
