import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wholescene.errors import ConfigError, InputError
from wholescene.losses import (
    CrossEntropy,
    Dice,
    Focal,
    LossSettings,
    Lovasz,
    build_loss,
    frequency_weights,
)


def test_the_sum_is_weighted_by_the_settings(make_batch) -> None:
    logits, target = make_batch()
    settings = LossSettings(
        terms={"cross_entropy": 1.0, "dice": 0.5, "lovasz": 2.0, "focal": 0.25},
        class_weights=(1, 2, 3, 4),
        label_smoothing=0.1,
        focal_gamma=1.5,
    )
    weights = (1, 2, 3, 4)
    expected = (
        CrossEntropy(weights, label_smoothing=0.1)(logits, target)
        + 0.5 * Dice(weights)(logits, target)
        + 2.0 * Lovasz(weights)(logits, target)
        + 0.25 * Focal(weights, gamma=1.5)(logits, target)
    )
    loss = build_loss(settings)
    torch.testing.assert_close(loss(logits, target), expected)
    assert loss(logits, target).ndim == 0
    assert loss.terms(logits, target).keys() == settings.terms.keys()


def test_the_auxiliary_head_counts_by_its_weight(make_batch) -> None:
    logits, target = make_batch()
    loss = build_loss(LossSettings(auxiliary_weight=0.3))
    both = loss({"out": logits, "aux": logits.flip(1)}, target)
    torch.testing.assert_close(both, loss(logits, target) + 0.3 * loss(logits.flip(1), target))
    torch.testing.assert_close(loss({"out": logits}, target), loss(logits, target))
    unheard = build_loss(LossSettings(auxiliary_weight=0))
    aux = logits.flip(1).requires_grad_()
    unheard({"out": logits, "aux": aux}, target).backward()
    assert torch.equal(aux.grad, torch.zeros_like(aux))


def test_frequency_weights_by_hand() -> None:
    assert frequency_weights([75, 25], power=1) == pytest.approx((2 / 3, 2.0))
    root = frequency_weights([75, 25], power=0.5)
    assert root[1] / root[0] == pytest.approx(3**0.5)
    assert frequency_weights([8, 2, 0], power=1) == pytest.approx((0.625, 2.5, 2.5))


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=9), st.sampled_from([0.5, 1.0]))
def test_the_average_pixel_weighs_one(counts: list[int], power: float) -> None:
    weights = frequency_weights(counts, power=power)
    assert np.average(weights, weights=counts) == pytest.approx(1)
    assert all(w > 0 for w in weights)


def test_inverse_frequency_makes_classes_equal(make_batch) -> None:
    logits, target = make_batch()
    counts = [int((target == c).sum()) for c in range(4)]
    loss = build_loss(LossSettings(class_weights="inverse_frequency"), counts)
    per_class = [CrossEntropy()(logits, target.where(target == c, -1)) for c in range(4)]
    torch.testing.assert_close(
        loss(logits, target), torch.stack(per_class).mean(), rtol=1e-6, atol=0
    )


def test_counts_that_are_missing_or_empty_are_told() -> None:
    settings = LossSettings(class_weights="inverse_sqrt_frequency")
    with pytest.raises(ConfigError, match=r"'inverse_sqrt_frequency' needs the class counts"):
        build_loss(settings)
    with pytest.raises(InputError, match=r"give no frequencies"):
        build_loss(settings, [0, 0])
    with pytest.raises(ConfigError, match=r"lists 2 numbers for 3 classes"):
        build_loss(LossSettings(class_weights=(1, 2)), [1, 2, 3])
    build_loss(LossSettings(), None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"terms": {}}, "at least 1 item"),
        ({"terms": {"dise": 1}}, "cross_entropy.*dice.*lovasz.*focal"),
        ({"terms": {"dice": 0}}, "not > 0; leave a loss out"),
        ({"class_weights": "inverse"}, "inverse_frequency"),
        ({"class_weights": (1, -1)}, "correct loss.class_weights"),
        ({"label_smoothing": 1}, "less than 1"),
        ({"auxiliary_weight": -1}, "greater than or equal to 0"),
        ({"weights": 1}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LossSettings(**wrong)


def test_weights_travel_with_the_module_and_not_with_its_state() -> None:
    loss = build_loss(LossSettings(class_weights=(1, 2)))
    assert loss.state_dict() == {}
    assert loss.to("meta").losses["cross_entropy"].class_weights.is_meta
