"""Batches with ignored pixels, for the tests of this room."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    def make(*, seed: int = 0, num_classes: int = 4, ignored: float = 0.2) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(3, num_classes, 5, 6, dtype=torch.float64, generator=generator)
        target = torch.randint(0, num_classes, (3, 5, 6), generator=generator)
        target[torch.rand(3, 5, 6, generator=generator) < ignored] = -1
        return logits, target

    return make
