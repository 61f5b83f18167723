"""Scene interaction: every part of a map asks every other part of the scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from wholescene.errors import ConfigError

__all__ = ["InteractionOptions", "SceneInteraction"]

BASE = 10_000.0
"""Longest wave length of the positions, in steps of ``key_stride`` pixels, over 2 pi."""


class InteractionOptions(BaseModel):
    """Attention over the whole scene between the encoder and the decoder.

    Args:
        strides: Maps that get a layer, by their stride in pixels.
        heads: Heads of each layer, the same whatever the number of devices.
        key_stride: Finer maps ask keys averaged to this stride, so that the cost stays that of a
            coarse map.
        mlp_ratio: Width of the layer's second half, as a multiple of the map's channels.
        window: Ask only the tokens of the own window, so many on a side: the same parameters
            without the scene, to tell what the scene adds; ``None`` asks the scene.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strides: tuple[PositiveInt, ...] = Field(default=(16, 32), min_length=1)
    heads: PositiveInt = 8
    key_stride: PositiveInt = 16
    mlp_ratio: float = Field(default=4.0, gt=0)
    window: PositiveInt | None = None

    @model_validator(mode="after")
    def _strides_differ(self) -> InteractionOptions:
        if len(set(self.strides)) != len(self.strides):
            raise ValueError(f"strides {list(self.strides)} names one twice")
        return self


class SceneInteraction(nn.Module):
    """One layer of attention on some of the encoder's maps.

    A layer adds to its map what it finds, and starts out adding nothing: a network trained
    without it goes on from where it was.

    Args:
        channels: Of each map.
        reductions: Stride of each map.
        options: Which maps, and how.

    Raises:
        ConfigError: If a stride has no map, or the heads do not divide its channels.

    Source:
        What REST (TPAMI 2025) calls SPIM. It differs: heads do not follow the number of devices,
        tokens know their places, fine maps ask pooled keys, and the result is that of one device.
    """

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], options: InteractionOptions
    ) -> None:
        super().__init__()
        missing = sorted(set(options.strides) - set(reductions))
        if missing:
            raise ConfigError(
                f"model.interaction.strides names {missing[0]}, but the encoder's maps have "
                f"strides {', '.join(map(str, reductions))}; choose among these"
            )
        self.layers = nn.ModuleDict(
            {
                str(i): _Layer(width, stride, options)
                for i, (width, stride) in enumerate(zip(channels, reductions, strict=True))
                if stride in options.strides
            }
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map feature maps to as many of the same shapes."""
        found = list(features)
        for index, layer in self.layers.items():
            found[int(index)] = layer(found[int(index)])
        return found


class _Layer(nn.Module):
    """Attention, then two linear maps, each on normalised tokens and added to them."""

    def __init__(self, channels: int, stride: int, options: InteractionOptions) -> None:
        super().__init__()
        if channels % (4 * options.heads):
            raise ConfigError(
                f"model.interaction.heads = {options.heads} does not divide the {channels} "
                f"channels at stride {stride} into heads of a multiple of 4 channels (pairs for "
                "rows and for columns); choose another number"
            )
        self.heads, self.stride, self.window = options.heads, stride, options.window
        self.pool = max(1, options.key_stride // stride)
        self.unit = stride / options.key_stride
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)
        hidden = round(channels * options.mlp_ratio)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, hidden),
            nn.GELU(),
            nn.Linear(hidden, channels),
        )
        for last in (self.project, cast(nn.Linear, self.mlp[3])):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        tokens = features.permute(0, 2, 3, 1)
        attend = self._over_scene if self.window is None else self._over_windows
        found: Tensor = tokens + self.project(attend(self.norm(tokens)))
        found = found + self.mlp(found)
        return found.permute(0, 3, 1, 2)

    def _over_scene(self, tokens: Tensor) -> Tensor:
        batch, height, width, channels = tokens.shape
        keys, unit = tokens, self.unit
        if self.pool > 1:
            image, size = tokens.permute(0, 3, 1, 2), self.pool
            keys = F.avg_pool2d(image, size, ceil_mode=True, count_include_pad=False)
            keys, unit = keys.permute(0, 2, 3, 1), self.unit * size
        query = _turned(self._split(self.query(tokens)), self.unit)
        key, value = self.key_value(keys).chunk(2, -1)
        key = _turned(self._split(key), unit)
        query, key, value = (
            part.permute(0, 3, 1, 2, 4).flatten(2, 3) for part in (query, key, self._split(value))
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).reshape(batch, height, width, channels)

    def _over_windows(self, tokens: Tensor) -> Tensor:
        """The same within windows; what pads the last of them is asked by nobody."""
        assert self.window is not None
        batch, height, width, channels = tokens.shape
        side = self.window
        below, right = -height % side, -width % side
        query = _turned(self._split(self.query(tokens)), self.unit)
        key, value = self.key_value(tokens).chunk(2, -1)
        key = _turned(self._split(key), self.unit)
        inside = F.pad(tokens.new_ones(height, width), (0, right, 0, below))
        mask = _windows(inside[None, :, :, None, None], side).reshape(-1, 1, 1, side * side)
        mask = torch.zeros_like(mask).masked_fill(mask == 0, float("-inf"))
        query, key, value = (
            _windows(F.pad(part, (0, 0, 0, 0, 0, right, 0, below)), side)
            for part in (query, key, self._split(value))
        )
        mask = mask.repeat(batch, 1, 1, 1)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        rows, cols = (height + below) // side, (width + right) // side
        grid = mixed.transpose(1, 2).reshape(batch, rows, cols, side, side, channels)
        grid = grid.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows * side, cols * side, channels)
        return grid[:, :height, :width]

    def _split(self, tokens: Tensor) -> Tensor:
        """Channels into heads: (B, h, w, heads, C / heads)."""
        return tokens.reshape(*tokens.shape[:-1], self.heads, -1)


def _windows(x: Tensor, side: int) -> Tensor:
    """Cut (B, h, w, heads, d) into windows: (B * windows, heads, tokens, d)."""
    batch, height, width, heads, depth = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, heads, depth)
    x = x.permute(0, 1, 3, 5, 2, 4, 6)
    return x.reshape(-1, heads, side * side, depth)


def _turned(x: Tensor, unit: float) -> Tensor:
    """Turn pairs of channels by their places: half of them by the row, half by the column.

    Args:
        x: (B, h, w, heads, d), d a multiple of 4.
        unit: Distance of two tokens.

    Source:
        Su et al. 2021, arXiv:2104.09864, on two axes.
    """
    rows, cols = x.chunk(2, -1)
    count = x.shape[-1] // 4
    rates = BASE ** (-torch.arange(count, device=x.device, dtype=torch.float32) / count)
    heights, widths = (
        (torch.arange(size, device=x.device, dtype=torch.float32)[:, None] + 0.5) * unit * rates
        for size in x.shape[1:3]
    )
    return torch.cat(
        [_rotated(rows, heights[:, None, None]), _rotated(cols, widths[None, :, None])], -1
    )


def _rotated(x: Tensor, angle: Tensor) -> Tensor:
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
