"""Every operator with a rule over several ranks: outputs and gradients as in one process."""

from __future__ import annotations

import pytest
from operator_modules import GLOBAL, LOCAL, MOVING
from ranks import together
from sharding import operator_differs

SHAPE = (2, 4, 17, 23)
CUTS = [(0, 8, 17), (0, 3, 4, 17), (0, 6, 6, 17), (0, 5, 9, 16, 17)]
"""Uneven, off the stride, thinner than a halo, and a rank without rows."""


@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("name", [*LOCAL, *GLOBAL, *MOVING])
def test_operators_over_ranks(name: str, cuts: tuple[int, ...]) -> None:
    for found in together(len(cuts) - 1, operator_differs, name, SHAPE, cuts):
        assert isinstance(found, dict), found
        assert max(found.values()) <= 1e-9, found
