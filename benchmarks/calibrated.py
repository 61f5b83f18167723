"""Networks with random weights whose activations are those of a trained one, and scenes for them.

Weights are random, statistics are not: batch norms take theirs from a few forward passes over
scenes like the one that is mapped, of varied brightness and contrast, and the classifier is scaled
so that the logits of each class have mean 0 and variance 1 there. So all classes occur, and
rounding is judged on logits of unit scale.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NETWORKS", "build", "load_image", "save_image", "save_weights", "structured_noise"]

BANDS, CLASSES = 3, 6
STRIDE = 32
CALIBRATION_PX, CALIBRATION_SCENES, CALIBRATION_PASSES = 384, 8, 2
OCTAVES = 7
NORMS = (nn.BatchNorm2d,)

_OPTIONS = {"encoder_weights": None, "in_channels": BANDS, "classes": CLASSES}

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "unet-resnet18": lambda: smp.Unet("resnet18", **_OPTIONS),
    "deeplabv3plus-resnet18": lambda: smp.DeepLabV3Plus("resnet18", **_OPTIONS),
    "deeplabv3plus-resnet50": lambda: smp.DeepLabV3Plus("resnet50", **_OPTIONS),
    "upernet-resnet18": lambda: smp.UPerNet("resnet18", **_OPTIONS),
    "upernet-convnext_tiny": lambda: smp.UPerNet("tu-convnext_tiny", **_OPTIONS),
}


class AnySize(nn.Module):
    """A network that takes multiples of 32, on any size: zeros below and to the right, cut off."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        rows, cols = -height % STRIDE, -width % STRIDE
        if not rows and not cols:
            result: Tensor = self.module(image)
            return result
        result = self.module(F.pad(image, (0, cols, 0, rows)))
        return result[..., :height, :width]


def build(name: str, weights: Path | None = None) -> nn.Module:
    """Build a network, evaluated, channels last.

    Args:
        name: One of ``NETWORKS``.
        weights: File of :func:`save_weights`; random weights without.
    """
    torch.manual_seed(0)
    module = NETWORKS[name]()
    if weights is not None:
        module.load_state_dict(torch.load(weights, weights_only=True))
    return AnySize(module).eval().to(memory_format=torch.channels_last)


def save_weights(name: str, path: Path) -> None:
    """Calibrate a network and keep it."""
    module = build(name).module
    assert isinstance(module, nn.Module)
    scenes = varied_scenes()
    with torch.no_grad():
        calibrate_norms(module, scenes)
        scale_logits(module, scenes)
    torch.save(module.state_dict(), path)


def varied_scenes() -> Tensor:
    """Scenes of different brightness and contrast.

    If all were alike, a norm after global pooling would find hardly any variance and blow up the
    difference between any two sizes of scene.
    """
    generator = torch.Generator().manual_seed(1)
    scenes = [
        structured_noise(CALIBRATION_PX, CALIBRATION_PX, seed=1 + i)
        for i in range(CALIBRATION_SCENES)
    ]
    contrast = 0.5 + torch.rand(CALIBRATION_SCENES, 1, 1, 1, generator=generator)
    brightness = 0.5 * torch.randn(CALIBRATION_SCENES, BANDS, 1, 1, generator=generator)
    return torch.cat(scenes) * contrast + brightness


def calibrate_norms(module: nn.Module, scenes: Tensor) -> None:
    """Set the statistics of batch norms; the other layers stay evaluated."""
    norms = [layer for layer in module.modules() if isinstance(layer, NORMS)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all passes
        norm.train()
    for flip in range(CALIBRATION_PASSES):
        module(scenes.flip(2 + flip % 2) if flip else scenes)
    for norm in norms:
        norm.eval()


def scale_logits(module: nn.Module, scenes: Tensor) -> None:
    """Give each class's logits mean 0 and variance 1."""
    last = [layer for layer in module.segmentation_head.modules() if isinstance(layer, nn.Conv2d)]
    classifier = last[-1]
    assert classifier.bias is not None
    logits = module(scenes)
    mean, std = logits.mean((0, 2, 3)), logits.std((0, 2, 3))
    classifier.weight /= std[:, None, None, None]
    classifier.bias.sub_(mean).div_(std)


def structured_noise(height: int, width: int, *, seed: int) -> Tensor:
    """A scene (1, C, H, W) with structure at all scales, each band with mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, BANDS, height, width)
    for octave in range(OCTAVES):
        step = 2**octave
        size = -(-height // step), -(-width // step)
        noise = torch.randn(1, BANDS, *size, generator=generator)
        if octave:
            noise = F.interpolate(noise, size=(height, width), mode="bilinear")
        image += noise
        del noise
    std, mean = torch.std_mean(image, (2, 3), keepdim=True)
    return image.sub_(mean).div_(std)


def save_image(path: Path, height: int, width: int) -> None:
    """Write a scene as it is held in memory: rows, columns, bands."""
    image = structured_noise(height, width, seed=0)[0].permute(1, 2, 0)
    np.save(path, image.numpy())


def load_image(path: Path, dtype: torch.dtype) -> Tensor:
    """Read a scene (1, C, H, W), channels last."""
    return torch.from_numpy(np.load(path)).permute(2, 0, 1)[None].to(dtype)
