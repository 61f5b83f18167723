"""Every method learns from synthetic scenes: lower loss, no collapse, useful features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from wholescene.config import PretrainConfig
from wholescene.datasets import Dataset, load_dataset, store_statistics, synthesize
from wholescene.pretrain import METHODS, Method, pretrain
from wholescene.pretrain.probe import color_histogram, knn_accuracy
from wholescene.pretrain.run import SPREAD_WINDOWS, _first_method
from wholescene.pretrain.setup import PretrainParts, prepare_pretraining
from wholescene.pretrain.watch import WatchValidator
from wholescene.train.checkpoint import LAST, read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SEEDS = (0, 1, 2)
STEPS = 120
CONTRASTIVE = ("densecl", "glcnet", "moco", "simclr")
"""Methods whose features shall tell classes apart better than those of the untrained network."""
OPTIONS: dict[str, dict[str, Any]] = {
    "glcnet": {"region_px": 16},
    "moco": {"queue": 512, "momentum": 0.95},
    "densecl": {"queue": 512, "momentum": 0.95},
    "mocobyol": {"queue": 512, "momentum": 0.95},
    "byol": {"momentum": 0.95},
    "pixpro": {"momentum": 0.95},
    "swav": {"prototypes": 50, "small_views": 2, "small_px": 32, "freeze_steps": 10},
    "inpainting": {"holes": 8, "hole_px": 8},
    "jigsaw": {"orders": 4},
    "mae": {"width": 48, "depth": 2, "heads": 4},
}

UPRIGHT = {"area": (0.8, 1.0), "flips": False, "turns": False}
"""Views of the jigsaw: where a tile belongs cannot be told once the view is turned."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("synthetic")
    synthesize(folder, scenes=6, height=384, width=384, bands=4, seed=1)
    store_statistics(load_dataset(folder))
    return load_dataset(folder)


def config_for(name: str, scenes: Dataset, seed: int) -> PretrainConfig:
    side = 96 if name == "jigsaw" else 64
    model: dict[str, Any] = {"encoder": "test_byobnet", "decoder": "unet"}
    if name == "mae":
        model = {"encoder": "test_vit", "decoder": "fcn"}
    if name == "glcnet":
        model |= {"decoder": "deeplabv3plus", "decoder_options": {"channels": 32}}
    return PretrainConfig.model_validate(
        {
            "data": {
                "dataset": str(scenes.path),
                "split": "train",
                "window_px": side + 16,
                "batch_size": 32,
                "num_workers": 0,
            },
            "views": {"view_px": side, **(UPRIGHT if name == "jigsaw" else {})},
            "method": {"name": name, "options": OPTIONS.get(name, {})},
            # The test scene's sensor has a gain that no other scene has.
            "probe": {"windows": 256, "neighbours": 10, "query_split": "test"},
            "model": model,
            "optim": {"lr": 2e-3, "schedule": "cosine", "warmup_steps": 10, "weight_decay": 1e-4},
            "train": {
                "steps": STEPS,
                "seed": seed,
                "device": "cpu",
                "tensorboard": False,
                "validate_every": STEPS,
                "checkpoint_every": STEPS,
            },
        }
    )


def held_out_loss(method: Method, parts: PretrainParts) -> float:
    """Loss on windows that were never trained on, always with the same draws."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    windows = parts.data.probe_windows(64)
    method.train()
    method.before_step(STEPS - 1, STEPS)
    with torch.no_grad():
        views = parts.views(windows, generator, count=method.num_views, small=method.small_views)
        return float(method(views, generator))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_it_learns(name: str, scenes: Dataset, tmp_path: Path, record_property: Any) -> None:
    gains = []
    for seed in SEEDS:
        config = config_for(name, scenes, seed)
        parts = prepare_pretraining(config, scenes)
        assert parts.probe is not None
        windows = parts.data.probe_windows(SPREAD_WINDOWS)
        watch = WatchValidator(windows, parts.probe, neighbours=10, progress=None)
        method, _ = _first_method(config, parts)
        before = watch.look(method)
        result = pretrain(config, scenes, tmp_path / str(seed))
        state = read_checkpoint(tmp_path / str(seed) / LAST)["state_dict"]
        state = {key.removeprefix("method."): value for key, value in state.items()}
        # The same full queue and the same targets for both.
        kept = {key: value for key, value in state.items() if "queue" in key or "slow" in key}
        first = {**method.state_dict(), **kept}
        losses = []
        for weights in (first, state):
            method.load_state_dict(weights)
            losses.append(held_out_loss(method, parts))
        assert losses[1] < losses[0], f"seed {seed}: {losses}"
        assert result.embedding_spread > 0.2
        assert before.accuracy is not None and result.knn_accuracy is not None
        plain = knn_accuracy(color_histogram, parts.probe, neighbours=10)
        record_property(
            f"seed {seed}",
            f"kNN {result.knn_accuracy:.3f}, untrained {before.accuracy:.3f}, colours {plain:.3f}",
        )
        gains.append(result.knn_accuracy - before.accuracy)
    if name in CONTRASTIVE:
        assert sum(gains) / len(gains) > 0, gains
