"""Scenes for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_models import noise, write_scene


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_scene(tmp_path: Path) -> Callable[..., Path]:
    """Write a scene of noise, or of given pixels, and give its path."""

    def make(height: int = 96, width: int = 80, name: str = "scene.tif", **options: Any) -> Path:
        pixels = options.pop("pixels", None)
        if pixels is None:
            about = {k: options.pop(k) for k in ("bands", "seed", "smooth_px") if k in options}
            pixels = noise(height, width, **about)
        return write_scene(tmp_path / name, pixels, **options)

    return make
