"""Images in the order in which a CPU convolves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wholescene.models import in_fast_order, weights_in_fast_order


def test_results_of_layers_keep_the_fast_order() -> None:
    image = torch.rand(2, 3, 8, 8)
    laid_out = in_fast_order(image)
    assert torch.equal(laid_out, image)
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    assert layer(laid_out).is_contiguous(memory_format=torch.channels_last)


def test_laid_out_weights_bring_the_fast_order_back_and_are_given_back() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 1))
    image, before = torch.rand(2, 3, 8, 8), [p.clone() for p in layers.parameters()]
    plain = layers(image)
    assert plain.is_contiguous()
    with weights_in_fast_order(layers):
        assert layers(image).is_contiguous(memory_format=torch.channels_last)
        assert layers[2](plain[:, :4]).is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(layers(image), plain)
    for parameter, old in zip(layers.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.stride() == old.stride()


def test_weights_are_given_back_after_a_mistake() -> None:
    layer = nn.Conv2d(3, 4, 3)
    with pytest.raises(KeyboardInterrupt), weights_in_fast_order(layer):
        assert not layer.weight.is_contiguous()
        raise KeyboardInterrupt
    assert layer.weight.is_contiguous()


@pytest.mark.parametrize("kernel", [1, 3])
def test_weights_in_the_fast_order_stay_in_it(kernel: int) -> None:
    layer = nn.Conv2d(3, 4, kernel).to(memory_format=torch.channels_last)
    before = layer.weight.stride()
    with weights_in_fast_order(layer):
        assert layer.weight.stride() == before
    assert layer.weight.stride() == before
