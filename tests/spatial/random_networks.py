"""Networks drawn at random: layers that keep, change and move the grid, with branches."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from compute import Compute
from torch import Tensor, nn

CHANNELS = 4
LARGEST = 48

Draw = random.Random
Layer = Callable[[Tensor], Tensor]


class Windows(nn.Module):
    """Attention inside windows on a padded grid."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.qkv = size, nn.Linear(CHANNELS, 3 * CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        n = self.size
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -width % n, 0, -height % n))
        rows, cols = x.shape[1] // n, x.shape[2] // n
        x = x.reshape(batch, rows, n, cols, n, channels).permute(0, 1, 3, 2, 4, 5)
        mixed = F.scaled_dot_product_attention(
            *self.qkv(x.reshape(-1, n * n, channels)).chunk(3, -1)
        )
        x = mixed.reshape(batch, rows, cols, n, n, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, rows * n, cols * n, channels)[:, :height, :width]
        return x.permute(0, 3, 1, 2)


class Tokens(nn.Module):
    """Attention over the scene; keys are reduced if asked for."""

    def __init__(self, reduction: int, heads: int, *, is_written_out: bool) -> None:
        super().__init__()
        self.qkv = nn.ModuleList(nn.Linear(CHANNELS, CHANNELS) for _ in range(3))
        self.reduce = nn.Conv2d(CHANNELS, CHANNELS, reduction, reduction)
        self.heads, self.is_written_out = heads, is_written_out

    def forward(self, x: Tensor) -> Tensor:
        few = self.reduce(x) if min(x.shape[2:]) >= self.reduce.kernel_size[0] else x
        parts = [x, few, few]
        query, key, value = (
            layer(part.flatten(2).transpose(1, 2)).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, part in zip(self.qkv, parts, strict=True)
        )
        if self.is_written_out:
            mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        return x + mixed.transpose(1, 2).flatten(2).transpose(1, 2).reshape(x.shape)


class Recalibrate(nn.Module):
    """Squeeze and excite by the mean or the maximum."""

    def __init__(self, *, is_max: bool) -> None:
        super().__init__()
        self.layer, self.is_max = nn.Conv2d(CHANNELS, CHANNELS, 1), is_max

    def forward(self, x: Tensor) -> Tensor:
        found = x.amax((2, 3), keepdim=True) if self.is_max else x.mean((2, 3), keepdim=True)
        return x * self.layer(found).sigmoid()


def _convolution(draw: Draw) -> nn.Module:
    kernel, dilation = (draw.randint(1, 5), draw.randint(1, 5)), draw.randint(1, 3)
    mode = draw.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
    padding = (draw.randint(0, 4), draw.randint(0, 4))
    groups, stride = draw.choice([1, 2, 4]), draw.randint(1, 3)
    return nn.Conv2d(
        CHANNELS, CHANNELS, kernel, stride, padding, dilation, groups, padding_mode=mode
    )


def _transposed(draw: Draw) -> nn.Module:
    kernel, stride = draw.randint(1, 4), draw.randint(1, 3)
    more, padding = draw.randint(0, stride - 1), draw.randint(0, kernel // 2)
    return nn.ConvTranspose2d(CHANNELS, CHANNELS, kernel, stride, padding, more)


def _pool(draw: Draw) -> nn.Module:
    kernel, stride, is_ceil = draw.randint(1, 4), draw.randint(1, 3), draw.random() < 0.5
    padding = draw.randint(0, kernel // 2)
    if draw.random() < 0.5:
        return nn.MaxPool2d(kernel, stride, padding, ceil_mode=is_ceil)
    counted = draw.random() < 0.5
    return nn.AvgPool2d(kernel, stride, padding, ceil_mode=is_ceil, count_include_pad=counted)


def _resize(draw: Draw) -> nn.Module:
    mode = draw.choice(["nearest", "nearest-exact", "bilinear", "bicubic"])
    align = {"align_corners": draw.random() < 0.5} if mode[:2] == "bi" else {}
    if draw.random() < 0.5:
        size = (draw.randint(1, LARGEST), draw.randint(1, LARGEST))
        return Compute(lambda x: F.interpolate(x, size, mode=mode, **align))
    scale = (draw.choice([0.5, 0.7, 1.3, 2.0, 3.0]), draw.choice([0.5, 0.7, 1.3, 2.0, 3.0]))
    return Compute(lambda x: F.interpolate(x, scale_factor=scale, mode=mode, **align))


def _moved(draw: Draw) -> nn.Module:
    first, second = draw.randint(-4, 4), draw.randint(-4, 4)
    start, step = draw.randint(0, 3), draw.randint(1, 3)
    return Compute(
        draw.choice(
            [
                lambda x: x.roll((first, second), (2, 3)),
                lambda x: x.flip(2) + x,
                lambda x: F.pad(x, (first, second, second, first)),
                lambda x: x[:, :, start::step, : -start or None],
                lambda x: F.max_pool2d(x.transpose(2, 3), (2, 1), 1).transpose(2, 3),
                lambda x: x.repeat_interleave(step, 2)[:, [3, 1, 0, 2]],
                lambda x: x.repeat(1, 1, step, 1),
                lambda x: _written_over(x, start, step),
            ]
        )
    )


def _written_over(x: Tensor, start: int, step: int) -> Tensor:
    found = x.clone()
    found[:, 1:, start::step] = x[:, :-1, start::step].exp().clamp(max=3)
    found[:, :, :, -2:] = 0
    return found


def _unfolded(draw: Draw) -> nn.Module:
    kernel, step, padding = draw.randint(1, 4), draw.randint(1, 3), draw.randint(0, 2)
    dilation = draw.randint(1, 2)
    volume = nn.Conv3d(1, 1, (3, kernel, kernel), (1, step, step), (1, padding, padding))
    deep = Compute(lambda x: volume(x[:, None])[:, 0])
    deep.volume = volume

    def weighted(x: Tensor) -> Tensor:
        windows = F.unfold(x, 3, dilation, dilation).view(len(x), CHANNELS, 9, *x.shape[2:])
        return (windows * x.softmax(1)[:, :, None]).amax(2)

    def back(x: Tensor) -> Tensor:
        columns = F.unfold(x, kernel, dilation, padding, step)
        return F.fold(columns.tanh(), x.shape[2:], kernel, dilation, padding, step)

    sliding = Compute(lambda x: x.unfold(2, kernel, step).mean(-1))
    return draw.choice([deep, Compute(weighted), Compute(back), sliding])


def _normalised(draw: Draw) -> nn.Module:
    norm = nn.BatchNorm2d(CHANNELS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(0, 0.3)
    norm.running_var.uniform_(0.5, 1.5)
    layer_norm = nn.LayerNorm(CHANNELS)
    channel_norm = Compute(lambda x: layer_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    channel_norm.norm = layer_norm
    return draw.choice(
        [norm, norm, nn.GroupNorm(2, CHANNELS), nn.InstanceNorm2d(CHANNELS), channel_norm]
    )


def _pointwise(draw: Draw) -> nn.Module:
    kinds = [nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Sigmoid(), nn.Softmax2d()]
    return draw.choice(kinds)


def _shuffled(draw: Draw) -> nn.Module:
    up = nn.Sequential(nn.Conv2d(CHANNELS, 4 * CHANNELS, 1), nn.PixelShuffle(2))
    down = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * CHANNELS, CHANNELS, 1))
    return draw.choice([up, down])


def _global(draw: Draw) -> nn.Module:
    bins = (draw.randint(1, 6), draw.randint(1, 6))
    pyramid = Compute(
        lambda x: x + F.interpolate(F.adaptive_avg_pool2d(x, bins), x.shape[2:], mode="bilinear")
    )
    strips = Compute(lambda x: x * x.mean(3, keepdim=True).sigmoid() - x.amax(2, keepdim=True))
    attention = Tokens(draw.randint(1, 3), draw.choice([1, 2]), is_written_out=draw.random() < 0.5)
    return draw.choice([Recalibrate(is_max=draw.random() < 0.5), pyramid, strips, attention])


def _windowed(draw: Draw) -> nn.Module:
    return Windows(draw.randint(2, 5))


LAYERS = (
    _convolution,
    _convolution,
    _transposed,
    _pool,
    _resize,
    _moved,
    _normalised,
    _pointwise,
    _shuffled,
    _global,
    _windowed,
    _unfolded,
)


class RandomNetwork(nn.Module):
    """Layers in a row, each from any earlier one, some joined with another.

    Layers that a size does not allow are drawn again.
    """

    def __init__(self, seed: int, shape: Sequence[int], num_layers: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        draw = random.Random(seed)
        self.layers = nn.ModuleList([nn.Conv2d(shape[1], CHANNELS, 1)])
        self.steps: list[tuple[int, int | None, str]] = [(-1, None, "")]
        self.head = nn.Conv2d(CHANNELS, 3, 1)
        sizes = [tuple(shape[2:])]
        while len(self.layers) < num_layers:
            layer, source = draw.choice(LAYERS)(draw), self._source(draw)
            size = _size_after(layer, sizes[source])
            if size is None:
                continue
            other = draw.randrange(len(self.layers)) if draw.random() < 0.4 else None
            self.layers.append(layer)
            self.steps.append((source, other, draw.choice(["add", "cat", "gate"])))
            sizes.append(size)
        self.eval()

    def _source(self, draw: Draw) -> int:
        newest = len(self.layers) - 1
        return newest if draw.random() < 0.7 else draw.randint(0, newest)

    def forward(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []
        for layer, (source, other, how) in zip(self.layers, self.steps, strict=True):
            y = layer(x if source < 0 else found[source])
            found.append(y if other is None else _joined(y, found[other], how))
        return self.head(found[-1])


def _joined(x: Tensor, other: Tensor, how: str) -> Tensor:
    if other.shape[2:] != x.shape[2:]:
        other = F.interpolate(other, x.shape[2:], mode="bilinear")
    if how == "add":
        return x + other
    if how == "gate":
        return x * other.sigmoid()
    both = torch.cat([x, other], 1)
    return both[:, ::2] + both[:, 1::2]


def _size_after(layer: nn.Module, size: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        with torch.no_grad():
            found: Any = layer.eval()(torch.randn(1, CHANNELS, *size))
    except (RuntimeError, ValueError):
        return None
    after = tuple(found.shape[2:])
    return after if found.isfinite().all() and 1 <= min(after) <= max(after) <= LARGEST else None
