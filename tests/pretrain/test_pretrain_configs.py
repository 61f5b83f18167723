"""Every configuration in ``configs/pretrain/`` loads and fits its network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wholescene.config import PretrainConfig, load_pretrain_config
from wholescene.models import ClassSpec, ModelSpec, build_segmenter
from wholescene.pretrain import METHODS, build_method
from wholescene.raster import BandSpec, SourceSpec

CONFIGS = sorted((Path(__file__).parents[2] / "configs/pretrain").glob("*.yaml"))
BANDS = tuple(BandSpec(name=f"b{number}") for number in range(4))


def spec_of(config: PretrainConfig) -> ModelSpec:
    return ModelSpec(
        architecture=config.model.architecture,
        sources=(SourceSpec(bands=BANDS),),
        mean=(0.0,) * 4,
        std=(1.0,) * 4,
        classes=(ClassSpec(id=0, name="none", color=(0, 0, 0)),),
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_legal_and_says_how_to_run_it(path: Path) -> None:
    config = load_pretrain_config(path)
    assert config.name == path.stem
    assert f"wholescene pretrain configs/pretrain/{path.name}\n" in path.read_text()
    network = build_segmenter(spec_of(config))
    assert config.views.view_px % network.stride == 0
    view_px = config.views.view_px
    method = build_method(config.method.name, network, config.method.options, view_px=view_px)
    assert any(weight.requires_grad for weight in method.parameters())


def test_every_method_has_a_config() -> None:
    assert {load_pretrain_config(path).method.name for path in CONFIGS} == set(METHODS)


def test_faithful_glcnet_is_the_published_recipe() -> None:
    path = next(path for path in CONFIGS if path.stem == "potsdam-glcnet-faithful")
    config = load_pretrain_config(path)
    options = config.method.options
    assert config.views.faithful and config.views.view_px == 224 and config.data.window_px == 256
    assert (options["regions"], options["region_px"], options["temperature"]) == (4, 48, 0.5)
    assert options["decoupled"] and options["balance"] == 0.5
    assert options["footprint"] == "view" and options["rival_regions"]
    # x / 255 * 3.2 - 1.6
    mean, std = torch.tensor(config.data.mean), torch.tensor(config.data.std)
    torch.testing.assert_close((255 - mean) / std, torch.full((4,), 1.6))
    torch.testing.assert_close((0 - mean) / std, torch.full((4,), -1.6))
    # 13,824 windows in batches of 256 are 54 steps an epoch, 400 epochs.
    assert config.train.steps == 400 * config.data.windows_per_epoch // config.data.batch_size
    assert config.optim.lr * config.optim.final_factor == pytest.approx(4e-8)
