"""Images in the order in which a CPU convolves."""

from __future__ import annotations

import torch
from torch import nn

from wholescene.models import in_fast_order


def test_results_of_layers_keep_the_fast_order() -> None:
    image = torch.rand(2, 3, 8, 8)
    laid_out = in_fast_order(image)
    assert torch.equal(laid_out, image)
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    assert layer(laid_out).is_contiguous(memory_format=torch.channels_last)
