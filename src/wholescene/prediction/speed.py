"""A rough guess of how long a network will take."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F

__all__ = ["multiply_adds_per_second"]

CHANNELS, SIDE_PX, REPEATS = 64, 192, 2


def multiply_adds_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Time a 3 x 3 convolution of 64 channels; takes a fraction of a second."""
    image = torch.ones(1, CHANNELS, SIDE_PX, SIDE_PX, device=device, dtype=dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    weight = torch.ones(CHANNELS, CHANNELS, 3, 3, device=device, dtype=dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)

    def seconds() -> float:
        begin = time.perf_counter()
        F.conv2d(image, weight, padding=1)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begin

    seconds()  # the first call also chooses the kernel
    fastest = min(seconds() for _ in range(REPEATS))
    return CHANNELS * CHANNELS * 9 * SIDE_PX**2 / max(fastest, 1e-9)
