"""Whole networks over several ranks: outputs and gradients as in one process."""

from __future__ import annotations

import pytest
from networks import NETWORKS, SHAPES
from ranks import together
from sharding import network_differs, uneven_cuts

FAST = ("wholescene UNet ResNet", "transformers UPerNet Swin", "transformers SegFormer")
SLOW = [name for name in NETWORKS if name not in FAST]


def _check(name: str, ranks: int) -> None:
    cuts = uneven_cuts(SHAPES.get(name, (1, 3, 192, 256))[2], ranks)
    for found in together(ranks, network_differs, name, cuts):
        assert isinstance(found, dict), found
        assert max(found.values()) < 1e-9, found


@pytest.mark.parametrize("name", FAST)
def test_common_networks_over_ranks(name: str) -> None:
    _check(name, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_all_networks_over_ranks(name: str) -> None:
    _check(name, 3)
