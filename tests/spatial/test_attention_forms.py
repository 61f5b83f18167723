"""Attention as networks write it, against the plain forward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from comparison import assert_equal_streamed
from torch import Tensor, nn

from wholescene.spatial.staging import Kind

SHAPE = (2, 4, 12, 18)


class Attention(nn.Module):
    """Two heads over the second last dimension, with a learnt bias for every pair of tokens."""

    def __init__(self, num_tokens: int, *, is_biased: bool = False) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 4)
        self.bias = nn.Parameter(torch.randn(2, num_tokens, num_tokens)) if is_biased else None

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(
            self.turned(query), self.turned(key), value, attn_mask=self.bias
        )
        return self.out(mixed.transpose(1, 2).flatten(2))

    def turned(self, x: Tensor) -> Tensor:
        return x


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


class Biased(nn.Module):
    """A bias for every pair of pixels, as in LeViT or where a window is the whole map."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(12 * 18, is_biased=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(_tokens(x)).transpose(1, 2).reshape(x.shape)


class Grid(nn.Module):
    """Every sixth pixel with every sixth, as in MaxViT, then a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = Attention(6, is_biased=True), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        grid = x.view(batch, channels, 2, height // 2, 3, width // 3).permute(0, 3, 5, 2, 4, 1)
        mixed = self.attention(grid.reshape(-1, 6, channels)).reshape(grid.shape)
        return self.norm(mixed.permute(0, 5, 3, 1, 4, 2).reshape(x.shape))


class Windows(nn.Module):
    """Windows in a grid of any number of rows and columns, the products written out or not."""

    def __init__(self, rows: int, cols: int, *, is_written_out: bool) -> None:
        super().__init__()
        self.grid, self.is_written_out = (rows, cols), is_written_out
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows, cols = self.grid
        x = x.view(batch, channels, rows, height // rows, cols, width // cols)
        x = x.permute(0, 2, 4, 3, 5, 1)
        query, key, value = self.qkv(x.reshape(batch * rows * cols, -1, channels)).chunk(3, -1)
        if self.is_written_out:
            mixed = (query @ key.transpose(1, 2)).softmax(-1) @ value
            channel_wise = (query.transpose(1, 2) @ key).softmax(-1)
            mixed = mixed + value @ channel_wise
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        return mixed.reshape(x.shape).permute(0, 5, 1, 3, 2, 4).reshape(batch, 4, height, width)


class Axial(nn.Module):
    """Each column on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(12, is_biased=True)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        cols = x.permute(0, 3, 2, 1).reshape(batch * width, height, channels)
        return self.attention(cols).reshape(batch, width, height, channels).permute(0, 3, 2, 1)


@pytest.mark.parametrize("grid", [(1, 3), (2, 1), (1, 1), (3, 6)], ids=str)
@pytest.mark.parametrize("is_written_out", [True, False], ids=["products", "operator"])
def test_windows_where_an_axis_may_have_only_one(
    grid: tuple[int, int], *, is_written_out: bool
) -> None:
    assert_equal_streamed(Windows(*grid, is_written_out=is_written_out), SHAPE)


@pytest.mark.parametrize("module", [Biased(), Grid(), Axial()], ids=["pixels", "grid", "axial"])
def test_a_bias_for_pairs_of_tokens_is_cut_with_the_queries(module: nn.Module) -> None:
    assert_equal_streamed(module, SHAPE)


@pytest.mark.parametrize("form", ["argument", "keyword"])
def test_attention_to_earlier_pixels_only_runs_whole(form: str) -> None:
    class Causal(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = _tokens(x)
            if form == "keyword":
                mixed = F.scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True)
            else:
                mixed = F.scaled_dot_product_attention(tokens, tokens, tokens, None, 0.0, True)
            return mixed.transpose(1, 2).reshape(x.shape)

    assert_equal_streamed(Causal(), SHAPE, whole=["scaled_dot_product_attention"])


class ClassToken(nn.Module):
    """A block of a vision transformer with learnt tokens before the scene's."""

    def __init__(self, attention: Attention, count: int) -> None:
        super().__init__()
        self.attention, self.norm = attention, nn.LayerNorm(4)
        self.learnt = nn.Parameter(torch.randn(1, count, 4))

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.learnt.expand(len(x), -1, -1), _tokens(x)], 1)
        tokens = tokens + self.attention(self.norm(tokens))
        return self.read_out(tokens).transpose(1, 2).reshape(x.shape)

    def read_out(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.learnt.shape[1] :]


class Rotated(Attention):
    """Positions turn the scene's queries and keys, not the learnt tokens'."""

    def turned(self, x: Tensor) -> Tensor:
        few, grid = x[:, :, :5], x[:, :, 5:]
        angle = torch.arange(grid.shape[2], dtype=x.dtype)[:, None] / 7
        crossed = torch.cat([-grid[..., 1:], grid[..., :1]], -1)
        return torch.cat([few, grid * angle.cos() + crossed * angle.sin()], 2).type_as(x)


class Projected(ClassToken):
    """The class token is told to every pixel, as in DPT."""

    def read_out(self, tokens: Tensor) -> Tensor:
        return tokens[:, 1:] * tokens[:, 0].unsqueeze(1).expand_as(tokens[:, 1:]).sigmoid()


CLASS_TOKENS: dict[str, nn.Module] = {
    "bias": ClassToken(Attention(1 + 12 * 18, is_biased=True), 1),
    "registers": ClassToken(Attention(0), 5),
    "rotary": ClassToken(Rotated(0), 5),
    "readout": Projected(Attention(0), 1),
}


@pytest.mark.parametrize("name", CLASS_TOKENS)
def test_class_tokens_stay_apart(name: str) -> None:
    assert_equal_streamed(CLASS_TOKENS[name], SHAPE)


def test_positions_too_large_to_keep_are_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wholescene.spatial.capture._FOLDED_BYTES", 1000)

    class Positions(ClassToken):
        def forward(self, x: Tensor) -> Tensor:
            tokens = torch.cat([self.learnt.expand(len(x), -1, -1), _tokens(x)], 1)
            place = torch.arange(tokens.shape[1] * 4.0, dtype=x.dtype).view(1, -1, 4).cos()
            tokens = self.attention(tokens + place)
            return self.read_out(tokens).transpose(1, 2).reshape(x.shape)

    assert_equal_streamed(Positions(Attention(0), 1), SHAPE)


class ShiftedWindows(nn.Module):
    """The mask follows from the size, window by window."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows, cols = height // 3, width // 3
        x = x.view(batch, channels, rows, 3, cols, 3).permute(0, 2, 4, 3, 5, 1)
        tokens = x.reshape(batch * rows * cols, 9, channels)
        place = torch.arange(height * width).view(rows, 3, cols, 3).transpose(1, 2) % 5
        place = place.reshape(-1, 9)
        mask = (place[:, None] - place[:, :, None]) * 0.3
        scores = (tokens @ tokens.transpose(1, 2)).view(batch, rows * cols, 1, 9, 9)
        scores = scores + mask.masked_fill(mask > 1, -100.0).unsqueeze(1).unsqueeze(0)
        mixed = scores.view(-1, 9, 9).softmax(-1) @ tokens
        return mixed.reshape(x.shape).permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, height, width)


@pytest.mark.parametrize("limit", [500, 3000, 1 << 26])
def test_large_masks_are_computed_region_by_region(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wholescene.spatial.capture._FOLDED_BYTES", limit)
    ready = assert_equal_streamed(ShiftedWindows(), (2, 4, 15, 21))
    held = [v for v in ready.graph.values if ready.stages[v.index].kind is Kind.SMALL]
    assert limit != 3000 or max((v.num_bytes for v in held), default=0) < limit
