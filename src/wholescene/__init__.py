"""Semantic segmentation of whole remote-sensing scenes.

The names below are loaded on first use, so that importing the package stays cheap.

Examples:
    >>> import wholescene as ws
    >>> model = ws.load_model("run/model")  # doctest: +SKIP
    >>> ws.predict("scene.tif", model, out="map.tif")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wholescene import spatial
    from wholescene.datasets import load_dataset
    from wholescene.models import load_model, save_model
    from wholescene.prediction import predict, predict_many

__all__ = [
    "__version__",
    "load_dataset",
    "load_model",
    "predict",
    "predict_many",
    "save_model",
    "spatial",
]

__version__ = "0.1.0"

_HOME = {
    "load_dataset": "wholescene.datasets",
    "load_model": "wholescene.models",
    "save_model": "wholescene.models",
    "predict": "wholescene.prediction",
    "predict_many": "wholescene.prediction",
}


def __getattr__(name: str) -> Any:
    if name == "spatial":
        return import_module("wholescene.spatial")
    if name not in _HOME:
        raise AttributeError(f"module 'wholescene' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
