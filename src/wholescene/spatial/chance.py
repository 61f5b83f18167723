"""Chance that does not depend on how a scene is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from wholescene.spatial.layout import Axis, Layout

__all__ = ["is_random", "kept_by_chance", "scene_dropout"]


def is_random(op: object, args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
    """Whether an operator draws random numbers, called with these arguments."""
    if op is torch.ops.aten.scaled_dot_product_attention.default:
        return bool(kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0))
    return op is scene_dropout or torch.Tag.nondeterministic_seeded in getattr(op, "tags", ())


def scene_dropout(x: Tensor, p: float, key: int) -> Tensor:
    """Dropout in the plain forward; over a cut scene see :func:`kept_by_chance`."""
    return torch.dropout(x, p, True)


def kept_by_chance(
    layout: Layout, rows: tuple[int, int], p: float, seed: int, device: torch.device
) -> Tensor:
    """Which elements of some rows stay, decided by each one's place in the whole tensor.

    Args:
        layout: Of the whole tensor.
        rows: Rows asked for.
        p: Share of elements that go.
        seed: Of this layer, in this step.
        device: Where the answer is wanted.

    Returns:
        Booleans of the shape of these rows.
    """
    place = torch.zeros((), dtype=torch.int64, device=device)
    atoms = layout.atoms
    for k, atom in enumerate(atoms):
        span = rows if atom.axis is Axis.ROW else (0, atom.size)
        shape = [1] * len(atoms)
        shape[k] = span[1] - span[0]
        step = prod(other.size for other in atoms[k + 1 :])
        place = place + step * torch.arange(*span, device=device).view(shape)
    shares = _mixed(place + (seed << 20)) & 0xFFFFFF
    cols = layout.grid(Axis.COL) or 1
    return (shares >= round(p * (1 << 24))).reshape(layout.local_shape(rows[1] - rows[0], cols))


def _mixed(x: Tensor) -> Tensor:
    """Scatter neighbouring numbers over all of 63 bits (Steele, Lea and Flood's SplitMix)."""
    x = x * -7046029254386353131
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)
