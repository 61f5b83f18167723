"""Small models for the tests of this room."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from wholescene.models import Architecture, ClassSpec, ModelSpec, Segmenter, build_segmenter
from wholescene.raster.source import BandSpec, SourceSpec

NAMES = ("red", "green", "blue", "nir")


@pytest.fixture
def make_spec() -> Callable[..., ModelSpec]:
    def make(
        encoder: str = "test_resnet",
        decoder: str = "fcn",
        *,
        bands: Sequence[str] = NAMES,
        num_classes: int = 3,
        **architecture: Any,
    ) -> ModelSpec:
        return ModelSpec(
            architecture=Architecture(encoder=encoder, decoder=decoder, **architecture),
            sources=(SourceSpec(bands=tuple(BandSpec(name=name) for name in bands)),),
            mean=(0.5,) * len(bands),
            std=(0.25,) * len(bands),
            classes=tuple(
                ClassSpec(id=10 + i, name=f"class {i}", color=(i, 0, 0)) for i in range(num_classes)
            ),
            ignore_id=255,
            gsd_m=0.5,
            provenance={"seed": 1},
        )

    return make


@pytest.fixture
def make_model(make_spec: Callable[..., ModelSpec]) -> Callable[..., Segmenter]:
    def make(*args: Any, **kwargs: Any) -> Segmenter:
        torch.manual_seed(0)
        return build_segmenter(make_spec(*args, **kwargs)).eval()

    return make
