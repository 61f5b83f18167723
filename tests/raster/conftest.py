"""Fixtures of the raster tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from toy_rasters import MakeRaster, write_raster


@pytest.fixture
def make_raster(tmp_path: Path) -> MakeRaster:
    """Write an array to ``<name>`` in the test's folder; see ``write_raster``."""

    def make(pixels: NDArray[Any], name: str = "scene.tif", **settings: Any) -> Path:
        return write_raster(tmp_path / name, pixels, **settings)

    return make
