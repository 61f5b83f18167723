from __future__ import annotations

import pytest
import torch
from tiny_dataset import tiny_segmenter

from wholescene.errors import ConfigError
from wholescene.train.layers import encoder_layers
from wholescene.train.optim import build_optimizer, parameter_groups
from wholescene.train.settings import OptimSettings

ENCODERS = ["test_resnet", "test_convnext", "swin_tiny_patch4_window7_224", "test_vit"]


def test_every_trainable_parameter_is_in_one_group() -> None:
    model = tiny_segmenter()
    frozen = next(model.encoder.parameters()).requires_grad_(False)
    groups = parameter_groups(model, OptimSettings(layer_decay=0.8))
    grouped = [parameter for group in groups for parameter in group["params"]]
    wanted = [parameter for parameter in model.parameters() if parameter is not frozen]
    assert len(grouped) == len(wanted)
    assert {id(p) for p in grouped} == {id(p) for p in wanted}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_biases_norms_and_positions_do_not_decay(encoder: str) -> None:
    model = tiny_segmenter(encoder)
    groups = parameter_groups(model, OptimSettings(weight_decay=0.05))
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        is_plain = parameter.ndim == 1 or any(
            part in name for part in ("pos_embed", "cls_token", "reg_token", "position_bias")
        )
        assert decay[id(parameter)] == (0.0 if is_plain else 0.05), name


def test_everything_decays_if_asked_for() -> None:
    groups = parameter_groups(tiny_segmenter(), OptimSettings(weight_decay=5e-4, decay_all=True))
    assert {group["name"] for group in groups} == {"encoder.decay", "decoder.decay"}
    assert {group["weight_decay"] for group in groups} == {5e-4}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_layer_decay_slows_early_layers_more(encoder: str) -> None:
    model = tiny_segmenter(encoder)
    settings = OptimSettings(name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, layer_decay=0.5)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = build_optimizer(model, settings)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    # How far a gradient of one moves a weight is its learning rate.
    moved = {
        name: round(float((before[name] - value.detach()).mean()), 4)
        for name, value in model.named_parameters()
    }
    first, *_, last = [rate for name, rate in moved.items() if name.startswith("encoder.")]
    assert moved["head.classify.weight"] == 1.0
    assert first < 0.1
    assert last in (0.5, 0.25)
    assert len(set(moved.values())) >= 5


def test_layers_are_those_timm_gives_the_classifier() -> None:
    layers = encoder_layers(tiny_segmenter("test_convnext").encoder, "test_convnext")
    assert layers["net.stem_0.weight"] == 0
    stages = [min(n for k, n in layers.items() if f"stages_{stage}." in k) for stage in range(4)]
    assert stages == sorted(set(stages))
    assert stages[0] > 0


def test_layer_decay_refuses_an_encoder_whose_layers_it_cannot_tell() -> None:
    with pytest.raises(ConfigError, match=r"optim\.layer_decay.*'test_resnet'"):
        encoder_layers(torch.nn.Linear(2, 2), "test_resnet")


def test_encoder_factor_scales_the_encoder_alone() -> None:
    groups = parameter_groups(tiny_segmenter(), OptimSettings(lr=0.5, encoder_lr_factor=0.1))
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == {
        "encoder.decay": 0.05,
        "encoder.plain": 0.05,
        "decoder.decay": 0.5,
        "decoder.plain": 0.5,
    }


def test_lars_scales_each_weight_to_its_norm() -> None:
    """You et al. 2017: step = lr * 0.001 |w| / (|g| + decay |w|) * (g + decay w)."""
    model = tiny_segmenter()
    optimizer = build_optimizer(
        model, OptimSettings(name="lars", lr=2.0, momentum=0.0, weight_decay=0.1)
    )
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    for name, value in model.named_parameters():
        start, grad = before[name], value.grad
        assert grad is not None
        step = 2.0 * grad
        if value.ndim > 1:
            share = 0.001 * start.norm() / (grad.norm() + 0.1 * start.norm())
            step = 2.0 * share * (grad + 0.1 * start)
        torch.testing.assert_close(value.detach(), start - step, msg=name)
