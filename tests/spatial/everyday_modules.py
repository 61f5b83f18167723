"""What people write between layers: picks, assignments, counts, tiles; four channels go in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compute import Compute
from torch import Tensor, nn

PROTOTYPES = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Volume(nn.Module):
    """Bands as the planes of a volume, as hyperspectral networks take them."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv3d(1, 3, 3, stride=(1, 2, 1), padding=(1, 1, 0))
        self.same = nn.Conv3d(3, 2, (2, 3, 1), padding="same")
        self.norm = nn.BatchNorm3d(3)

    def forward(self, x: Tensor) -> Tensor:
        found = F.relu(self.norm(self.deep(x[:, None])))
        found = F.max_pool3d(found, (2, 3, 3), (1, 1, 2), (1, 1, 1), ceil_mode=True)
        found = F.avg_pool3d(self.same(found), 3, 1, 1, count_include_pad=False)
        return found.flatten(1, 2)


class Spectra(nn.Module):
    """Every pixel's bands as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.GroupNorm(1, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, bands, height, width = x.shape
        found = self.layers(x.permute(0, 2, 3, 1).reshape(-1, 1, bands)).flatten(1)
        return found.reshape(batch, height, width, -1).permute(0, 3, 1, 2)


class Tiles(nn.Module):
    """Tiles of four pixels, each convolved by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))
        batch, channels, height, width = x.shape
        grid = batch, height // 4, width // 4
        tiles = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5)
        tiles = self.norm(F.max_pool2d(self.conv(tiles.flatten(0, 2)), 3, 1, 1))
        tiles = tiles.reshape(*grid, channels, 4, 4).permute(0, 3, 1, 4, 2, 5)
        return tiles.reshape(x.shape)


class Involution(nn.Module):
    """Kernels that are made of the pixels they are for."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(4, 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        windows = F.unfold(x, 3, padding=2, dilation=2).view(batch, channels, 9, height, width)
        return (windows * self.kernel(x).softmax(1)[:, None]).sum(2)


def _assigned(x: Tensor) -> Tensor:
    found = x.new_zeros(x.shape[0], 3, *x.shape[2:])
    found[:, 0] = x[:, 1]
    found[:, 1:] = 2 * x[:, 2:]
    return found


def _shifted(x: Tensor) -> Tensor:
    found = x.clone()
    found[:, :1, 1:] = x[:, :1, :-1]
    found[:, 1:2, :-1] = x[:, 1:2, 1:]
    found[:, 2:3, :, 1:-3:2] = x[:, 2:3, :, 2:-2:2]
    found[:, :, 3:5] = 1
    return found


def _embedded(x: Tensor) -> Tensor:
    return x + F.embedding(x.argmax(1), PROTOTYPES.to(x)).permute(0, 3, 1, 2)


def _distances(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    found = torch.cdist(tokens, PROTOTYPES.to(x).expand(len(x), -1, -1))
    return found.transpose(1, 2).reshape(len(x), -1, *x.shape[2:])


def _added_product(x: Tensor) -> Tensor:
    tokens = x.permute(0, 2, 3, 1).reshape(-1, 4)
    found = torch.addmm(torch.ones(5).to(x), tokens, PROTOTYPES.to(x).T, beta=0.5, alpha=2)
    return found.reshape(len(x), *x.shape[2:], 5).permute(0, 3, 1, 2)


LOCAL = {
    "bands_in_another_order": Compute(lambda x: x[:, [2, 1, 0]] + x[:, :3]),
    "index_select": Compute(lambda x: x.index_select(-3, torch.tensor([3, 1, 1]))),
    "columns_by_number": Compute(lambda x: x[..., torch.tensor([5, 6, 6, -1, 0])]),
    "repeat": Compute(lambda x: x[:, :1].repeat(1, 3, 1, 1)),
    "repeat_interleave": Compute(lambda x: x.repeat_interleave(2, 1).repeat_interleave(3, 2)),
    "zeros_like": Compute(lambda x: torch.cat([x, torch.zeros_like(x[:, :1])], 1)),
    "full_like": Compute(lambda x: x / torch.full_like(x, 3.0) + x.new_ones(x.shape)),
    "assigned": Compute(_assigned),
    "shifted_slices": Compute(_shifted),
    "sorted_channels": Compute(lambda x: x.sort(1, descending=True).values),
    "largest_channels": Compute(lambda x: x.topk(2, 1).values + x.max(1, keepdim=True).values),
    "above_the_second": Compute(lambda x: x * (x >= x.kthvalue(3, 1, keepdim=True).values)),
    "class_as_one_hot": Compute(lambda x: x * F.one_hot(x.argmax(1), 4).permute(0, 3, 1, 2)),
    "class_as_entry": Compute(lambda x: torch.take_along_dim(x, x.argmin(1, keepdim=True), 1)),
    "embedded": Compute(_embedded),
    "scattered": Compute(lambda x: torch.zeros_like(x).scatter(1, x.argsort(1)[:, :2], x[:, 1:3])),
    "cumulative": Compute(lambda x: x.cumsum(1) + x.sigmoid().cumprod(1)),
    "log_sum_exp": Compute(lambda x: x - x.logsumexp(1, keepdim=True)),
    "channel_variance": Compute(lambda x: x / (x.var(1, keepdim=True) + x.std(1, keepdim=True))),
    "channel_median": Compute(lambda x: x - x.median(1, keepdim=True).values),
    "channel_quantile": Compute(lambda x: x - x.quantile(0.3, 1, keepdim=True)),
    "channel_product": Compute(lambda x: x * x.prod(1, keepdim=True)),
    "channel_norm": Compute(lambda x: F.normalize(x, dim=1) + x.norm(dim=1, keepdim=True)),
    "where_any": Compute(lambda x: torch.where((x > 1).any(1, keepdim=True), x, x.exp())),
    "differences": Compute(lambda x: torch.diff(x, dim=1)),
    "differences_of_rows": Compute(lambda x: F.pad(torch.diff(x, dim=2), (0, 0, 1, 0))),
    "cosine": Compute(lambda x: F.cosine_similarity(x[:, :2], x[:, 2:], dim=1)[:, None] * x),
    "distances": Compute(_distances),
    "addmm": Compute(_added_product),
    "buckets": Compute(lambda x: x * torch.bucketize(x, torch.tensor([-0.5, 0.5, 1.5]).to(x))),
    "local_response_norm": nn.LocalResponseNorm(3),
    "volume": Volume(),
    "spectra": Spectra(),
    "tiles": Tiles(),
    "involution": Involution(),
    "unfolded": Compute(lambda x: F.unfold(x, (3, 2), stride=(2, 3)).unflatten(-1, (8, 8))),
    "folded": Compute(
        lambda x: F.fold(F.unfold(x, 3, padding=1, stride=2), x.shape[2:], 3, padding=1, stride=2)
    ),
    "sliding": Compute(lambda x: x.unfold(2, 3, 1).unfold(3, 4, 2).amax((-1, -2))),
}  # fmt: skip
"""Each pixel of the result needs a few pixels around it."""

GLOBAL = {
    "standardised": Compute(lambda x: x / x.std((2, 3), keepdim=True)),
    "whole_standardised": Compute(lambda x: x[:1] / x[:1].std(unbiased=False)),
    "variance_and_mean": Compute(
        lambda x: torch.stack(torch.var_mean(x, (2, 3))).sum(0)[:, :, None, None] * x
    ),
    "between_extremes": Compute(
        lambda x: (x - x.min(2, keepdim=True).values) / x.max(3, keepdim=True).values
    ),
}  # fmt: skip
"""Something of the whole scene is needed first."""

MOVING = {
    "tiled": Compute(lambda x: x.repeat(1, 1, 2, 3)),
    "turned": Compute(lambda x: torch.rot90(x, 2, (2, 3)) + x),
}
"""Pixels come from far away."""
