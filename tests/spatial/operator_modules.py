"""Operators as networks call them, each a module that takes four channels."""

from __future__ import annotations

import everyday_modules as everyday
import torch
import torch.nn.functional as F
from compute import Compute
from torch import Tensor, nn


class GlobalResponseNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(p=2, dim=(2, 3), keepdim=True)
        share = norm / (norm.mean(dim=1, keepdim=True) + 1e-6)
        return x + self.gamma.view(1, -1, 1, 1) * (x * share)


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))).sigmoid()


class StripPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.cols = nn.Conv2d(4, 4, (3, 1), padding=(1, 0)), nn.Conv2d(4, 4, (1, 3))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        rows = self.rows(F.adaptive_avg_pool2d(x, (None, 1)))
        cols = self.cols(F.pad(F.adaptive_avg_pool2d(x, (1, None)), (1, 1, 0, 0)))
        enlarged = F.interpolate(rows, (height, width), mode="bilinear", align_corners=True)
        return x * torch.sigmoid(enlarged + cols.expand(-1, -1, height, width))


class TokenMix(nn.Module):
    """Tokens, one linear layer, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        tokens = self.norm(self.linear(x.flatten(2).transpose(1, 2)))
        return tokens.transpose(1, 2).reshape(x.shape[0], -1, height, width)


class PatchMerging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        corners = [x[:, i::2, j::2] for j in range(2) for i in range(2)]
        return self.reduce(torch.cat(corners, -1)).permute(0, 3, 1, 2)


class LinearAttention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        query, key = tokens.softmax(1), tokens.softmax(2)
        context = torch.einsum("bdn,ben->bde", key, tokens)
        return torch.einsum("bde,bdn->ben", context, query).reshape(x.shape)


class GlobalAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        parts = self.qkv(tokens).reshape(x.shape[0], -1, 3, 2, 2).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return mixed.transpose(1, 2).reshape(tokens.shape).transpose(1, 2).reshape(x.shape)


class PositionAttention(nn.Module):
    """As in DANet: scores of all pixels with all pixels, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key = self.query(x).flatten(2).transpose(1, 2), self.key(x).flatten(2)
        scores = torch.softmax(torch.bmm(query, key), dim=-1)
        return torch.bmm(x.flatten(2), scores.transpose(1, 2)).view(x.shape)


class ChannelAttention(nn.Module):
    """As in DANet: scores of channels with channels."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        energy = torch.bmm(tokens, tokens.transpose(1, 2))
        scores = torch.softmax(energy.amax(-1, keepdim=True) - energy, dim=-1)
        return torch.bmm(scores, tokens).view(x.shape)


class ObjectContext(nn.Module):
    """As in OCRNet: regions gathered over the scene, then looked up by each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.regions = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        share = F.softmax(self.regions(x).flatten(2), dim=2)
        context = torch.matmul(share, x.flatten(2).transpose(1, 2))
        scores = F.softmax(torch.matmul(x.flatten(2).transpose(1, 2), context.transpose(1, 2)), -1)
        return torch.matmul(scores, context).transpose(1, 2).reshape(x.shape)


class Windows(nn.Module):
    """Attention inside windows, shifted or not, on a grid padded to whole windows."""

    def __init__(self, size: int, shift: int) -> None:
        super().__init__()
        self.size, self.shift = size, shift
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        size, shift = self.size, self.shift
        x = x.permute(0, 2, 3, 1)
        batch, rows, cols, channels = x.shape
        x = F.pad(x, (0, 0, 0, -cols % size, 0, -rows % size))
        height, width = x.shape[1:3]
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        x = x.view(batch, height // size, size, width // size, size, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, channels)
        query, key, value = self.qkv(x).chunk(3, -1)
        scores = query @ key.transpose(1, 2)
        if shift:
            scores = scores.view(batch, -1, size**2, size**2) + self.mask(height, width)[None]
            scores = scores.view(-1, size**2, size**2)
        x = scores.softmax(-1) @ value
        x = x.view(batch, height // size, width // size, size, size, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(batch, height, width, channels)
        if shift:
            x = torch.roll(x, (shift, shift), (1, 2))
        return x[:, :rows, :cols].permute(0, 3, 1, 2)

    def mask(self, height: int, width: int) -> Tensor:
        size, shift = self.size, self.shift
        rows = (torch.arange(height) >= height - size).long()
        rows += torch.arange(height) >= height - shift
        cols = (torch.arange(width) >= width - size).long() + (torch.arange(width) >= width - shift)
        region = (rows[:, None] * 3 + cols).view(height // size, size, width // size, size)
        region = region.permute(0, 2, 1, 3).reshape(-1, size * size)
        return (region[:, None] != region[:, :, None]) * -100.0


class ClassToken(nn.Module):
    """Two blocks of a vision transformer with a learnt token and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.position = nn.Parameter(torch.randn(1, 1 + 17 * 23, 4))
        self.norm = nn.LayerNorm(4)
        self.qkv = nn.ModuleList([nn.Linear(4, 12), nn.Linear(4, 12)])

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        grid = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(batch, -1, -1), grid], 1) + self.position
        for layer in self.qkv:
            parts = layer(self.norm(tokens)).reshape(batch, -1, 3, 2, 2).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*parts.unbind(0))
            tokens = tokens + mixed.transpose(1, 2).reshape(tokens.shape)
        grid = tokens[:, 1:] + tokens[:, :1]
        return grid.transpose(1, 2).reshape(batch, 4, height, width)


LOCAL: dict[str, nn.Module] = {
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "relu6": nn.ReLU6(),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "leaky_relu": nn.LeakyReLU(0.1),
    "elu": nn.ELU(),
    "prelu": nn.PReLU(4),
    "prelu_one": nn.PReLU(),
    "glu": nn.GLU(1),
    "softplus": nn.Softplus(),
    "batch_norm": nn.BatchNorm2d(4),
    "instance_norm_stored": nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "channel_softmax": nn.Softmax2d(),
    "log_softmax": nn.LogSoftmax(1),
    "channel_mean": Compute(lambda x: x - x.mean(1, keepdim=True)),
    "channel_maximum": Compute(lambda x: x / x.amax(1, keepdim=True).abs().clamp(min=1)),
    "channel_layer_norm": Compute(lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,))),
    "rms_norm": Compute(lambda x: F.rms_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)),
    "conv_reflect": nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
    "conv_replicate": nn.Conv2d(4, 3, 3, padding=2, dilation=2, padding_mode="replicate"),
    "conv_depthwise": nn.Conv2d(4, 8, 5, padding=2, groups=4),
    "conv_of_transposed": Compute(lambda x: F.avg_pool2d(x.transpose(2, 3), (3, 2), (1, 2))),
    "lp_pool": nn.LPPool2d(2, 3, 2),
    "reflection_pad": nn.ReflectionPad2d((2, 1, 0, 3)),
    "replication_pad": nn.ReplicationPad2d((2, 1, 0, 3)),
    "zero_pad": nn.ZeroPad2d((1, 2, 3, 0)),
    "negative_pad": nn.ZeroPad2d((-1, 2, 3, -2)),
    "constant_pad": nn.ConstantPad2d(2, 7.5),
    "crop": Compute(lambda x: x[:, 1:3, 2:-3, 1::2]),
    "crop_to_input": Compute(lambda x: F.pad(x, (0, 5, 0, 7))[..., : x.shape[2], : x.shape[3]]),
    "pixel_shuffle": nn.PixelShuffle(2),
    "pixel_unshuffle": Compute(lambda x: F.pixel_unshuffle(F.pad(x, (0, 1, 0, 1)), 2)),
    "channel_shuffle": nn.ChannelShuffle(2),
    "cat": Compute(lambda x: torch.cat([x, F.relu(x), F.max_pool2d(x, 3, 1, 1)], 1)),
    "stack": Compute(lambda x: torch.stack([x, F.avg_pool2d(x, 3, 1, 1)], 2).flatten(1, 2)),
    "broadcast": Compute(lambda x: x * torch.arange(4.0).view(4, 1, 1) + 1),
    "position_grid": Compute(lambda x: x + torch.arange(23.0)),
    "tokens": TokenMix(),
    "patch_merging": PatchMerging(),
    "windows": Windows(5, 0),
    **everyday.LOCAL,
}

GLOBAL: dict[str, nn.Module] = {
    "group_norm": nn.GroupNorm(2, 4),
    "instance_norm": nn.InstanceNorm2d(4),
    "instance_norm_affine": nn.InstanceNorm2d(4, affine=True),
    "grn": GlobalResponseNorm(),
    "squeeze_excite": SqueezeExcite(),
    "strip_pooling": StripPooling(),
    "global_mean": Compute(lambda x: x - x.mean((2, 3), keepdim=True)),
    "global_maximum": Compute(lambda x: x - x.amax((2, 3), keepdim=True)),
    "global_minimum": Compute(lambda x: x - x.amin((-1, -2), keepdim=True)),
    "global_sum": Compute(lambda x: x / x.abs().sum((2, 3), keepdim=True)),
    "row_mean": Compute(lambda x: x - x.mean(3, keepdim=True)),
    "col_maximum": Compute(lambda x: x - x.amax(2, keepdim=True)),
    "all_mean": Compute(lambda x: x - x.mean()),
    "adaptive_average": Compute(
        lambda x: x + F.interpolate(F.adaptive_avg_pool2d(x, 6), x.shape[2:], mode="bilinear")
    ),
    "adaptive_maximum": Compute(
        lambda x: x + F.interpolate(F.adaptive_max_pool2d(x, (3, 5)), x.shape[2:], mode="nearest")
    ),
    "scene_softmax": Compute(lambda x: x.flatten(2).softmax(-1).reshape(x.shape)),
    "memory_order": Compute(lambda x: x.flatten(2).transpose(1, 2).reshape(x.shape)),
    "linear_attention": LinearAttention(),
    "global_attention": GlobalAttention(),
    "class_token": ClassToken(),
    "position_attention": PositionAttention(),
    "channel_attention": ChannelAttention(),
    "object_context": ObjectContext(),
    **everyday.GLOBAL,
}

MOVING: dict[str, nn.Module] = {
    "flip": Compute(lambda x: x.flip(2) + x.flip(3)),
    "flip_both": Compute(lambda x: x.flip((2, 3))),
    "roll": Compute(lambda x: x.roll((2, -3), (2, 3))),
    "circular_pad": nn.CircularPad2d(2),
    "shifted_windows": Windows(5, 2),
    **everyday.MOVING,
}
