"""Small networks behind the encoder that a pretext task trains and then throws away."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.pretrain.precision import in_float32

__all__ = ["Propagation", "Prototypes", "dense_mlp", "mlp", "pooled"]


def pooled(features: Tensor) -> Tensor:
    """Mean over the places of a feature map, (B, C)."""
    return features.float().mean((2, 3))


def mlp(*widths: int, norm: bool = False, last_norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them.

    Args:
        widths: Features in, between and out.
        norm: Batch norm before every ReLU.
        last_norm: Batch norm without weights after the last layer.
    """
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(widths)):
        is_last = place == len(widths) - 2
        has_norm = last_norm if is_last else norm
        layers.append(nn.Linear(before, after, bias=not has_norm))
        if has_norm:
            layers.append(nn.BatchNorm1d(after, affine=not is_last))
        if not is_last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def dense_mlp(*widths: int, norm: bool = False) -> nn.Sequential:
    """The same for every place of a feature map: convolutions of 1 x 1."""
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(widths)):
        is_last = place == len(widths) - 2
        has_norm = norm and not is_last
        layers.append(nn.Conv2d(before, after, 1, bias=not has_norm))
        if has_norm:
            layers.append(nn.BatchNorm2d(after))
        if not is_last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Propagation(nn.Module):
    """Each place becomes a mean of all places like it.

    Args:
        channels: Channels, which stay.
        sharpness: Power of the cosine that weighs; negative cosines count 0.

    Source:
        Xie et al. 2021, arXiv:2011.10043 (PixPro).
    """

    def __init__(self, channels: int, *, sharpness: float = 2.0) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.transform = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        values = self.transform(features).flatten(2)
        return _propagate(features.flatten(2), values, self.sharpness).reshape(features.shape)


class Prototypes(nn.Module):
    """Cosines with prototypes of length 1.

    Args:
        features: Features of a row.
        count: Prototypes.
    """

    def __init__(self, features: int, count: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, count, bias=False)

    def forward(self, rows: Tensor, *, frozen: bool = False) -> Tensor:
        """Map (N, D) to (N, count); ``frozen`` gives the prototypes no gradient."""
        weight = F.normalize(self.layer.weight, dim=1)
        weight = weight.detach() if frozen else weight
        return _products(F.normalize(rows.float(), dim=1), weight.float())


@in_float32
def _propagate(features: Tensor, values: Tensor, sharpness: float) -> Tensor:
    directions = F.normalize(features.float(), dim=1)
    weights = (directions.transpose(1, 2) @ directions).clamp_min(0) ** sharpness
    return F.normalize(values.float(), dim=1) @ weights


@in_float32
def _products(rows: Tensor, columns: Tensor) -> Tensor:
    return rows @ columns.T
