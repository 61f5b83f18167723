"""Every operator with a rule, as networks call it, against its plain forward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from comparison import assert_equal_streamed, fallbacks
from operator_modules import (
    GLOBAL,
    LOCAL,
    MOVING,
    ClassToken,
    Compute,
    GlobalAttention,
    PositionAttention,
)
from torch import Tensor, nn

from wholescene.heap import resident_bytes, steady_heap
from wholescene.spatial.rules import attention


@pytest.mark.parametrize("name", LOCAL)
def test_local_operators_need_one_sweep(name: str) -> None:
    ready = assert_equal_streamed(LOCAL[name], (2, 4, 17, 23))
    assert len(ready.sweeps) == 1


@pytest.mark.parametrize("name", GLOBAL)
def test_global_operators_need_several_sweeps(name: str) -> None:
    ready = assert_equal_streamed(GLOBAL[name], (2, 4, 17, 23))
    assert len(ready.sweeps) > 1


@pytest.mark.parametrize("name", MOVING)
def test_moves_across_the_scene(name: str) -> None:
    assert_equal_streamed(MOVING[name], (2, 4, 17, 23))


@pytest.mark.parametrize("size", [(1, 23), (17, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("name", ["group_norm", "global_attention", "strip_pooling", "tokens"])
def test_scenes_of_one_row_or_column(name: str, size: tuple[int, int]) -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), (GLOBAL | LOCAL)[name])
    ready = assert_equal_streamed(module, (1, 4, *size), whole=None)
    assert size == (1, 1) or not fallbacks(ready)


def test_many_bins_are_pooled_region_by_region() -> None:
    ready = assert_equal_streamed(
        Compute(lambda x: F.adaptive_avg_pool2d(x, (67, 71))), (1, 2, 90, 83), blocks=(31,)
    )
    assert len(ready.sweeps) == 1


def test_group_norm_survives_a_large_mean() -> None:
    module = Compute(lambda x: F.group_norm(x + 1e6, 2))
    assert_equal_streamed(module, (1, 4, 17, 23), tolerance=1e-8)


def test_an_operator_without_a_rule_runs_whole() -> None:
    module = Compute(lambda x: torch.cumsum(x, 2) * 2)
    assert_equal_streamed(module, (1, 2, 17, 23), whole=["cumsum"])


def test_an_operator_with_several_results_runs_whole() -> None:
    module = Compute(lambda x: torch.sort(x, 3).values + x)
    assert_equal_streamed(module, (1, 2, 17, 23), whole=["sort"])


def test_a_split_sequence_is_joined_where_it_must_be() -> None:
    class Flipped(ClassToken):
        def forward(self, x: Tensor) -> Tensor:
            grid = x.flatten(2).transpose(1, 2)
            tokens = torch.cat([self.token.expand(len(x), -1, -1), grid], 1).flip(1)
            return tokens[:, 1:].transpose(1, 2).reshape(x.shape)

    assert_equal_streamed(Flipped(), (2, 4, 17, 23), whole=["cat"])


class ScaledAttention(GlobalAttention):
    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x.flatten(2).transpose(1, 2)).chunk(3, -1)
        scores = (query @ key.transpose(1, 2) / 2).softmax(-1)
        return (scores @ value).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize("module", [PositionAttention(), ScaledAttention()], ids=["left", "right"])
def test_long_attention_never_holds_all_scores(
    module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wholescene.spatial.fuse._MANY_KEYS", 100)
    monkeypatch.setitem(attention._CHUNK_SCORES, "cpu", 2000)
    ready = assert_equal_streamed(module, (2, 4, 17, 23))
    names = [value.name for value in ready.graph.values]
    assert "attend_in_chunks" in names
    assert not any(value.shape[-2:] == (391, 391) for value in ready.graph.values)


@pytest.mark.skipif(not resident_bytes(), reason="the system does not tell resident memory")
def test_long_attention_leaves_no_free_memory_behind_each_chunk() -> None:
    query, keys, values = (torch.randn(1, 1, *size) for size in ((8192, 8), (8, 8192), (8192, 8)))
    with steady_heap(), torch.inference_mode():
        before = resident_bytes()
        attention.attend_in_chunks(query, keys, values, 0.5)
        assert resident_bytes() - before < 64 << 20  # all scores are 256 MiB


def test_long_attention_passes_gradients_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attention._CHUNK_SCORES, "cpu", 2000)
    shapes = (2, 3, 100, 4), (2, 3, 4, 90), (2, 3, 90, 5)
    sides = [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]
    weight = torch.randn(2, 3, 100, 5, dtype=torch.double)
    chunked = attention.attend_in_chunks(*sides, 0.5)
    whole = torch.softmax(sides[0] @ sides[1] * 0.5, -1) @ sides[2]
    found, wanted = (torch.autograd.grad((x * weight).sum(), sides) for x in (chunked, whole))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
