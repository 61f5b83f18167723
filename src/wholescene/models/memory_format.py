"""The order in memory in which convolutions of a device are fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["in_fast_order", "weights_in_fast_order"]


def in_fast_order(image: Tensor) -> Tensor:
    """The same image, (B, C, H, W): on a CPU with channels last, as oneDNN convolves.

    In any other order each layer is turned around and back. Results of most layers keep the order.
    Not for training: batch norm sums less exactly in this order.
    """
    if image.device.type != "cpu":
        return image
    return image.contiguous(memory_format=torch.channels_last)


@contextmanager
def weights_in_fast_order(model: nn.Module) -> Iterator[None]:
    """Lay weights of convolutions on a CPU out likewise, and give them back as they were.

    Convolutions then give results in this order even where one layer, such as a resized single
    pixel, lost it.
    """
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
        and layer.weight.device.type == "cpu"
        and layer.weight.stride(3) == 1  # those laid out likewise already stay
    ]
    _lay_out(layers, torch.channels_last)
    try:
        yield
    finally:
        _lay_out(layers, torch.contiguous_format)


def _lay_out(layers: list[nn.Conv2d], order: torch.memory_format) -> None:
    # Not contiguous(), which leaves kernels of a single pixel or channel as they are.
    for layer in layers:
        layer.weight.data = layer.weight.data.clone(memory_format=order)
