"""Whole networks give the same numbers whole and streamed."""

from __future__ import annotations

import warnings

import pytest
import torch
from comparison import difference, fallbacks, scene, streamed
from networks import NETWORKS, OUTPUTS, SHAPES, build

from wholescene import spatial
from wholescene.spatial.capture import capture
from wholescene.spatial.schedule import schedule

FAST = (
    "Unet ResNet-18",
    "UPerNet ResNet-18",
    "transformers SegFormer",
    "transformers UPerNet Swin",
    "wholescene FCN ResNet",
    "wholescene UNet ResNet",
    "wholescene UPerNet ConvNeXt",
    "wholescene DANet ResNet",
    "wholescene OCRNet ResNet",
    "wholescene DeepLabV3 ResNet",
)
SLOW = [name for name in NETWORKS if name not in FAST]


def _check(name: str, block: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries say of themselves while building
        module = build(name).double()
    shape, output = SHAPES.get(name, (1, 3, 192, 256)), OUTPUTS.get(name)
    image = scene(shape)
    with torch.no_grad():
        expected = module(image)
    expected = expected if output is None else expected[output]
    ready = schedule(capture(module, shape, dtype=torch.float64, output=output))
    assert difference(streamed(ready, image, block), expected) < 1e-9
    assert fallbacks(ready) == []
    # As users run it: norms folded, weights packed.
    found = spatial.stream(module.float(), image.float(), block=96, output=output)
    assert difference(found.double(), expected) < 1e-3


@pytest.mark.parametrize("name", FAST)
def test_common_networks(name: str) -> None:
    _check(name, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_all_networks(name: str) -> None:
    _check(name, 64)
