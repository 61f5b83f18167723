"""Every operator with a rule, as networks call it, against its plain forward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from comparison import assert_equal_streamed, fallbacks
from compute import Compute
from operator_modules import (
    GLOBAL,
    LOCAL,
    MOVING,
    ClassToken,
)
from torch import Tensor, nn


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
