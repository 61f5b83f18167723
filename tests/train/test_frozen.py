"""A frozen encoder: nothing of it moves, whatever follows it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_dataset import MakeConfig, tiny_segmenter

from wholescene.datasets import Dataset
from wholescene.errors import ConfigError
from wholescene.geometry import Size
from wholescene.losses import CombinedLoss, CrossEntropy
from wholescene.models import Segmenter, build_segmenter
from wholescene.train import OptimSettings, fit, plan
from wholescene.train.checkpoint import LAST, read_checkpoint
from wholescene.train.frozen import freeze_weights
from wholescene.train.module import SegmentationModule
from wholescene.train.probe import probe_step

FROZEN = {"freeze": "encoder"}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model/model.safetensors")


def parts_that_differ(first: Path, second: Path) -> set[str]:
    one, other = weights(first), weights(second)
    return {
        name.split(".")[0]
        for name, value in one.items()
        if value.is_floating_point() and not torch.equal(value, other[name])
    }


def test_a_frozen_encoder_stays_as_it_started(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path
) -> None:
    fit(make_config(train={"steps": 2}), tiny, tmp_path / "source")
    start = {"init_from": str(tmp_path / "source"), "ema": {"decay": 0.5}}
    fit(make_config(train={**start, **FROZEN}), tiny, tmp_path / "frozen")
    fit(make_config(train=start), tiny, tmp_path / "free")
    changed = parts_that_differ(tmp_path / "frozen", tmp_path / "source")
    assert changed == {"decoder", "head"}
    assert "encoder" in parts_that_differ(tmp_path / "free", tmp_path / "source")
    state = read_checkpoint(tmp_path / "frozen" / LAST)["optimizer_states"][0]["state"]
    encoder = sum(1 for _ in tiny_segmenter().encoder.parameters())
    assert len(state) == len(list(tiny_segmenter().parameters())) - encoder


def test_a_frozen_run_resumes_to_the_same_weights(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path
) -> None:
    config = make_config(train=FROZEN, model={"decoder": "linear"})

    def stop(message: object) -> None:
        if getattr(message, "step", 0) == 3:
            raise RuntimeError("killed")

    fit(config, tiny, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        fit(config, tiny, tmp_path / "cut", progress=stop)
    assert fit(config, tiny, tmp_path / "cut", resume=True).resumed_from == 2
    assert parts_that_differ(tmp_path / "cut", tmp_path / "whole") == set()


def test_a_frozen_encoder_runs_as_in_prediction() -> None:
    model = tiny_segmenter()
    freeze_weights(model, "encoder")
    loss = CombinedLoss({"cross_entropy": (CrossEntropy(), 1.0)}, auxiliary_weights={})
    module = SegmentationModule(model, loss, optim=OptimSettings(), steps=1, freeze="encoder")
    module.train()
    assert not any(part.training for part in model.encoder.modules())
    assert all(part.training for part in (model.decoder, model.head))


def test_the_probe_and_the_plan_count_what_learns(make_config: MakeConfig, tiny: Dataset) -> None:
    model = tiny_segmenter(auxiliary=True)
    patch = Size(32, 32)
    free = probe_step(model, batch_size=2, patch=patch)
    frozen = probe_step(model, batch_size=2, patch=patch, freeze="encoder")
    assert free is not None and frozen is not None
    encoder = sum(p.numel() for p in model.encoder.parameters())
    assert frozen.num_parameters == free.num_parameters == free.num_trained
    assert frozen.num_trained == free.num_trained - encoder
    assert frozen.unreached == ()  # none of the frozen weights is taken for a mistake
    # Without a gradient for the encoder, only what follows keeps its inputs.
    assert frozen.activation_bytes < free.activation_bytes / 2
    plans = [plan(make_config(train=train), tiny) for train in ({}, FROZEN)]
    assert plans[1].num_parameters == plans[0].num_parameters
    assert plans[1].memory_bytes is not None and plans[0].memory_bytes is not None
    saved = plans[0].memory_bytes - plans[1].memory_bytes
    assert saved > 3 * 4 * encoder  # gradients and two moments of AdamW, float32


def linear_probe(levels: str) -> Segmenter:
    spec = tiny_segmenter().spec
    made = spec.architecture.model_copy(
        update={"decoder": "linear", "decoder_options": {"levels": levels}}
    )
    torch.manual_seed(0)
    return build_segmenter(spec.model_copy(update={"architecture": made})).eval()


@pytest.mark.parametrize("levels", ["all", "last"])
def test_linear_is_linear_in_the_features(levels: str) -> None:
    model = linear_probe(levels)
    model.decoder.norm.running_mean.normal_()  # type: ignore[union-attr, operator]
    model.decoder.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    features = model.encoder(torch.randn(2, 2, 64, 64))
    other = [torch.randn_like(feature) for feature in features]

    def read(maps: list[torch.Tensor]) -> torch.Tensor:
        return model.head(model.decoder(maps))  # type: ignore[no-any-return]

    middle = read([0.3 * a + 0.7 * b for a, b in zip(features, other, strict=True)])
    torch.testing.assert_close(middle, 0.3 * read(features) + 0.7 * read(other))
    finest = features[0] if levels == "all" else features[-1]
    assert middle.shape[-2:] == finest.shape[-2:]


def test_the_refiner_freezes_by_itself(make_config: MakeConfig, tiny: Dataset) -> None:
    model = {"refine": {"window_px": 32, "classes": ["water"], "encoder": "test_resnet"}}
    with pytest.raises(ConfigError, match=r"train\.freeze = 'encoder' does not go with"):
        plan(make_config(model=model, train=FROZEN), tiny)


@pytest.mark.slow
def test_a_frozen_encoder_over_two_processes(
    make_config: MakeConfig, tiny: Dataset, tmp_path: Path
) -> None:
    config = make_config(train={**FROZEN, "devices": 2, "steps": 2})
    fit(config, tiny, tmp_path / "two")
    fit(make_config(train={**FROZEN, "steps": 1}), tiny, tmp_path / "one")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    encoder = [name for name in one if name.startswith("encoder.")]
    assert all(torch.equal(one[name], two[name]) for name in encoder)
