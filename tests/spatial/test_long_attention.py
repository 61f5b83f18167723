"""Attention over so many keys that its scores must never be held at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from comparison import assert_equal_streamed
from operator_modules import GlobalAttention, PositionAttention
from torch import Tensor, nn

from wholescene.heap import resident_bytes, steady_heap
from wholescene.spatial import plan
from wholescene.spatial.rules import attention

SHAPES = {
    "heads": ((2, 3, 100, 4), (2, 3, 4, 90), (2, 3, 90, 4)),
    "wide values": ((2, 3, 100, 4), (2, 3, 4, 90), (2, 3, 90, 5)),
    "no heads": ((2, 100, 4), (2, 4, 90), (2, 90, 4)),
    "no heads, wide values": ((2, 100, 4), (2, 4, 90), (2, 90, 7)),
}


class ScaledAttention(GlobalAttention):
    """Two products, written out."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x.flatten(2).transpose(1, 2)).chunk(3, -1)
        scores = (query @ key.transpose(1, 2) / 2).softmax(-1)
        return (scores @ value).transpose(1, 2).reshape(x.shape)


class WideValues(nn.Module):
    """torch's attention, for whose shapes it has no kernel."""

    def __init__(self, scale: float | None) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        sides = (part.flatten(2).transpose(1, 2) for part in (self.query(x), self.key(x), x))
        mixed = F.scaled_dot_product_attention(*sides, scale=self.scale)
        return mixed.transpose(1, 2).reshape(x.shape)


LONG = {
    "values left": PositionAttention(),
    "values right": ScaledAttention(),
    "wide values": WideValues(None),
    "wide values, scaled": WideValues(0.3),
}


def written_out(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    return torch.softmax(query @ keys * scale, -1) @ values


@pytest.fixture
def few_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attention._CHUNK_SCORES, "cpu", 2000)
    monkeypatch.setattr(attention, "_FEWEST_QUERIES", 7)


@pytest.mark.usefixtures("few_scores")
@pytest.mark.parametrize("name", LONG)
def test_streamed_without_all_scores(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wholescene.spatial.fuse._MANY_KEYS", 100)
    ready = assert_equal_streamed(LONG[name], (2, 4, 17, 23))
    names = [value.name for value in ready.graph.values]
    assert "attend_in_chunks" in names
    assert "scaled_dot_product_attention" not in names
    assert not any(value.shape[-2:] == (391, 391) for value in ready.graph.values)


@pytest.mark.usefixtures("few_scores")
@pytest.mark.parametrize("name", SHAPES)
def test_equal_to_attention_written_out(name: str) -> None:
    sides = [torch.randn(shape, dtype=torch.double) for shape in SHAPES[name]]
    with torch.inference_mode():
        found = attention.attend_in_chunks(*sides, 0.5)
    torch.testing.assert_close(found, written_out(*sides, 0.5))


@pytest.mark.usefixtures("few_scores")
@pytest.mark.parametrize("name", SHAPES)
def test_gradients_equal_those_of_attention_written_out(name: str) -> None:
    sides = [torch.randn(s, dtype=torch.double, requires_grad=True) for s in SHAPES[name]]
    both = attention.attend_in_chunks(*sides, 0.5), written_out(*sides, 0.5)
    weight = torch.randn(both[0].shape, dtype=torch.double)
    found, wanted = (torch.autograd.grad((x * weight).sum(), sides) for x in both)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.skipif(not resident_bytes(), reason="the system does not tell resident memory")
@pytest.mark.parametrize("channels", [8, 9], ids=["a kernel", "no kernel"])
def test_no_free_memory_is_left_behind_each_chunk(channels: int) -> None:
    query, keys, values = torch.randn(8192, 8), torch.randn(8, 8192), torch.randn(8192, channels)
    sides = [x[None, None] for x in (query, keys, values)]
    with steady_heap(), torch.inference_mode():
        before = resident_bytes()
        attention.attend_in_chunks(*sides, 0.5)
        assert resident_bytes() - before < 64 << 20  # all scores are 256 MiB


def test_a_plain_forward_without_a_kernel_is_planned_with_its_scores() -> None:
    module = WideValues(None).eval()
    found = plan(module, (1, 4, 64, 64), executor="whole")
    assert found.peak_bytes >= 2 * 4096**2 * 4
