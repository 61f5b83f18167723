"""From physical units to what a network sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wholescene.errors import InputError

__all__ = ["normalise"]


def normalise(
    values: NDArray[np.number] | Tensor,
    valid: NDArray[np.bool_] | Tensor,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """Subtract the mean and divide by the standard deviation of each band.

    The statistics are those of the data set, kept in the model; never those of a tile, so that a
    pixel gets the same value whatever window it is read in.

    Args:
        values: Physical units, (C, H, W) or (B, C, H, W); whatever stands in invalid pixels, NaN
            included, is not looked at.
        valid: True where a pixel has data, (H, W) or (B, H, W).
        mean: Mean of each band.
        std: Standard deviation of each band, > 0.

    Returns:
        float32, the shape of ``values``, 0 (the band mean) where invalid. A tensor stays on its
        device.

    Raises:
        InputError: If the shapes do not fit.

    Examples:
        >>> normalise(np.array([[[3.0, 9.0]]]), np.array([[True, False]]), [1.0], [2.0])
        tensor([[[1., 0.]]])
    """
    _check(tuple(values.shape), tuple(valid.shape), len(mean), len(std))
    if isinstance(values, Tensor):
        return _normalise_tensor(values, torch.as_tensor(valid, device=values.device), mean, std)
    valid = np.asarray(valid, bool)
    out = np.subtract(values, _per_band(mean), dtype=np.float32)
    out /= _per_band(std)
    # Assigned, not multiplied: NaN * 0 is NaN.
    np.copyto(out, np.float32(0), where=~np.expand_dims(valid, -3))
    return torch.from_numpy(out)


def _normalise_tensor(
    values: Tensor, valid: Tensor, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    centre, spread = (
        torch.tensor(part, dtype=torch.float32, device=values.device).view(-1, 1, 1)
        for part in (tuple(mean), tuple(std))
    )
    out = (values.to(torch.float32) - centre) / spread
    return out.masked_fill(~valid.to(torch.bool).unsqueeze(-3), 0.0)


def _per_band(values: Sequence[float]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def _check(values: tuple[int, ...], valid: tuple[int, ...], num_means: int, num_stds: int) -> None:
    if len(values) not in (3, 4):
        raise InputError(
            f"values of shape {values} are neither (bands, height, width) nor a batch of it"
        )
    if values[-3] != num_means or num_means != num_stds:
        raise InputError(
            f"values have {values[-3]} bands, but there are {num_means} means and {num_stds} "
            "standard deviations; read the bands the model lists, in its order"
        )
    if valid != (*values[:-3], *values[-2:]):
        raise InputError(f"valid has shape {valid}, which does not fit values of shape {values}")
