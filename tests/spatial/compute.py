"""A function as a module."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Compute(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
