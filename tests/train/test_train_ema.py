from __future__ import annotations

import pytest
import torch
from torch import nn

from wholescene.train.ema import WeightAverage


def set_to(model: nn.Module, value: float) -> None:
    for tensor in model.state_dict().values():
        tensor.fill_(value)


def test_average_by_hand() -> None:
    model = nn.Linear(1, 1)
    set_to(model, 0.0)
    average = WeightAverage(model, decay=0.75, warmup=False)
    for value in (4.0, 8.0):
        set_to(model, value)
        average.update(model)
    # 0.75 * 0 + 0.25 * 4 = 1, then 0.75 * 1 + 0.25 * 8 = 2.75
    assert average.model.weight.item() == 2.75
    assert model.weight.item() == 8.0


def test_running_statistics_are_averaged_and_counters_copied() -> None:
    model = nn.BatchNorm2d(1)
    average = WeightAverage(model, decay=0.5, warmup=False)
    model.running_mean.fill_(2.0)
    model.num_batches_tracked.fill_(7)
    average.update(model)
    assert average.model.running_mean.item() == 1.0
    assert average.model.num_batches_tracked.item() == 7


def test_warmup_lets_the_decay_grow_to_its_limit() -> None:
    average = WeightAverage(nn.Linear(1, 1), decay=0.9)
    assert average.decay_at(0) == pytest.approx(0.1)
    assert average.decay_at(10) == pytest.approx(11 / 20)
    assert average.decay_at(1000) == 0.9


def test_average_continues_from_its_state() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    whole, first = WeightAverage(model, decay=0.9), WeightAverage(model, decay=0.9)
    values = [1.0, 5.0, -2.0, 4.0]
    for value in values[:2]:
        set_to(model, value)
        whole.update(model)
        first.update(model)
    second = WeightAverage(model, decay=0.9)
    second.load_state_dict(first.state_dict())
    for value in values[2:]:
        set_to(model, value)
        whole.update(model)
        second.update(model)
    assert torch.equal(whole.model.weight, second.model.weight)


def test_average_does_not_train() -> None:
    average = WeightAverage(nn.Sequential(nn.Linear(1, 1), nn.Dropout()), decay=0.9)
    assert not any(p.requires_grad for p in average.model.parameters())
    assert not average.model[1].training
