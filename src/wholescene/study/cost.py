"""What a network costs: parameters and multiplications."""

from __future__ import annotations

from wholescene.models import Segmenter
from wholescene.spatial import plan

__all__ = ["COUNTED_PX", "count_cost"]

COUNTED_PX = 1024
"""Side of the image whose multiplications are counted."""


def count_cost(model: Segmenter) -> tuple[int, int]:
    """Parameters that predict, and multiply-adds for an image of 1,024 x 1,024 px.

    Raises:
        UnsupportedError: If the network cannot be traced.
    """
    training_only = model.auxiliary
    parameters = sum(p.numel() for p in model.parameters())
    if training_only is not None:
        parameters -= sum(p.numel() for p in training_only.parameters())
    shape = (1, model.spec.num_bands, COUNTED_PX, COUNTED_PX)
    return parameters, plan(model.eval(), shape, executor="whole").multiply_adds
