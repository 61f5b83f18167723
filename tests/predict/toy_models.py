"""Networks whose maps can be worked out by hand, and the scenes they see."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor, nn

from wholescene.models import Architecture, ClassSpec, ModelSpec
from wholescene.raster import BandSpec, SourceSpec

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_600_000)
MEAN, STD = 100.0, 50.0
IDS = (1, 10, 11, 200)
"""Raster ids of the classes; far from 0..K-1 on purpose."""


def make_spec(*, bands: int = 3, classes: int = 3, gsd_m: float | None = 10.0) -> ModelSpec:
    return ModelSpec(
        architecture=Architecture(encoder="none", decoder="none"),
        sources=(SourceSpec(bands=tuple(BandSpec(name=f"b{i}") for i in range(bands))),),
        mean=(MEAN,) * bands,
        std=(STD,) * bands,
        classes=tuple(
            ClassSpec(id=IDS[i], name=f"class {i}", color=(40 * i + 40, 0, 255 - 40 * i))
            for i in range(classes)
        ),
        ignore_id=0,
        gsd_m=gsd_m,
    )


class ToyModel(nn.Module):
    """A network that counts the windows it is shown.

    Args:
        net: (B, C, H, W) to logits of the same height and width.
        spec: What it claims to be.
    """

    def __init__(self, net: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.net, self.spec = net, spec
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():  # a trace sees no pixels
            self.shapes.append(tuple(image.shape))
        return self.net(image)

    @property
    def windows_seen(self) -> int:
        return sum(shape[0] for shape in self.shapes)


def pixel_model(*, bands: int = 3, classes: int = 3) -> ToyModel:
    """Each pixel by itself: no window can matter."""
    torch.manual_seed(1)
    net = nn.Conv2d(bands, classes, 1)
    nn.init.normal_(net.weight, std=2.0)
    return ToyModel(net, make_spec(bands=bands, classes=classes)).eval()


def context_model(*, bands: int = 3, classes: int = 3) -> ToyModel:
    """Sees 17 px around each pixel, and zeros beyond its window: windows do matter."""
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(bands, 8, 9, padding=4),
        nn.ReLU(),
        nn.Conv2d(8, classes, 9, padding=4),
    )
    for layer in net[::2]:
        nn.init.normal_(layer.weight, mean=0.02, std=0.1)
    with torch.no_grad():  # logits of 100 would be rounded to 1e-5 in float32
        for parameter in net[-1].parameters():
            parameter /= 4
    return ToyModel(net, make_spec(bands=bands, classes=classes)).eval()


class Pooled(nn.Module):
    """Features whose statistics over the scene decide; two passes, with values kept between."""

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(bands, 8, 5, stride=2, padding=2), nn.ReLU())
        self.norm = nn.GroupNorm(2, 8)
        self.last = nn.Conv2d(8, classes, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        deep = self.first(image)
        deep = self.norm(deep) - 2 * deep.mean((2, 3), keepdim=True)
        logits = 3 * self.last(deep)
        return nn.functional.interpolate(logits, image.shape[2:], mode="bilinear")


def pooled_model(*, bands: int = 3, classes: int = 3) -> ToyModel:
    """Each pixel depends on the whole scene."""
    torch.manual_seed(3)
    return ToyModel(Pooled(bands, classes), make_spec(bands=bands, classes=classes)).eval()


class Constant(nn.Module):
    """Says the same of every pixel."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.logits.expand(len(image), -1, *image.shape[2:]).clone()


def constant_model(*logits: float, bands: int = 3) -> ToyModel:
    return ToyModel(Constant(*logits), make_spec(bands=bands, classes=len(logits))).eval()


def write_scene(
    path: Path,
    pixels: NDArray[Any],
    *,
    nodata: float | None = None,
    transform: Affine | None = NORTH_UP,
    crs: str | None = "EPSG:32630",
    names: tuple[str, ...] | None = None,
) -> Path:
    """Write (bands, h, w) with band names b0, b1 ...; by rasterio, not by the code under test."""
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            dtype=pixels.dtype.name,
            nodata=nodata,
            crs=crs,
            transform=transform,
            photometric="MINISBLACK",
            **({"alpha": "NO"} if count > 1 else {}),
            **profile,
        ) as file:
            file.write(pixels)
            for index in range(count):
                file.set_band_description(index + 1, names[index] if names else f"b{index}")
    return path


def noise(
    height: int, width: int, *, bands: int = 3, seed: int = 0, smooth_px: int = 1
) -> NDArray[np.uint8]:
    """Random pixels 1..255, never the nodata value 0."""
    rng = np.random.default_rng(seed)
    rows, cols = -(-height // smooth_px), -(-width // smooth_px)
    coarse = rng.integers(1, 256, (bands, rows, cols), dtype=np.uint8)
    fine = coarse.repeat(smooth_px, 1).repeat(smooth_px, 2)
    return fine[:, :height, :width]


def read(path: Path) -> NDArray[Any]:
    """All bands, as stored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read()


def softmax_of(model: ToyModel, pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of one plain forward in float64 over (bands, h, w), all of it valid."""
    image = (torch.from_numpy(pixels.astype(np.float32)) - MEAN) / STD
    with torch.no_grad():
        logits = copy.deepcopy(model.net).double()(image[None].double())[0]
    return logits.softmax(0).numpy()
