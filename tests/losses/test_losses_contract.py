"""What every loss promises, whatever its formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from wholescene.errors import InputError
from wholescene.losses import CombinedLoss, CrossEntropy, Dice, Focal, Lovasz

WEIGHTS = (0.5, 2.0, 0.0, 1.0)
LOSSES = {
    "cross_entropy": CrossEntropy(),
    "cross_entropy smoothed": CrossEntropy(label_smoothing=0.1),
    "cross_entropy weighted": CrossEntropy(WEIGHTS, label_smoothing=0.1),
    "dice": Dice(),
    "dice weighted": Dice(WEIGHTS),
    "focal": Focal(),
    "focal weighted": Focal(WEIGHTS, gamma=0.5),
    "lovasz": Lovasz(),
    "lovasz weighted": Lovasz(WEIGHTS),
    "combined": CombinedLoss({"a": (CrossEntropy(), 1.0), "b": (Lovasz(), 0.5)}),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@every_loss
def test_gradient_is_the_slope(loss, make_batch) -> None:
    logits, target = make_batch()
    small, label = logits[:1].clone().requires_grad_(), target[:1]
    assert gradcheck(lambda x: loss(x, label), (small,))


@every_loss
def test_a_batch_without_labels_gives_zero_and_no_gradient(loss) -> None:
    logits = torch.randn(2, 4, 3, 3, requires_grad=True)
    value = loss(logits, torch.full((2, 3, 3), -1))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@every_loss
def test_ignored_pixels_have_no_influence_even_if_not_finite(loss, make_batch) -> None:
    logits, target = make_batch()
    spoiled = logits.clone()
    spoiled.transpose(0, 1)[:, target == -1] = torch.tensor(
        [float("nan"), 1e30, -1e30, float("inf")]
    )[:, None].double()
    results = []
    for given_logits in (logits, spoiled):
        leaf = given_logits.clone().requires_grad_()
        value = loss(leaf, target)
        value.backward()
        results.append((value, leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not results[0][1].transpose(0, 1)[:, target == -1].any()


@every_loss
def test_order_of_images_and_pixels_does_not_matter(loss, make_batch) -> None:
    logits, target = make_batch()
    expected = loss(logits, target)
    torch.testing.assert_close(loss(logits.flip(0), target.flip(0)), expected)
    torch.testing.assert_close(loss(logits.transpose(2, 3), target.transpose(1, 2)), expected)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 100))
def test_names_of_classes_do_not_matter(order: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 4, 4, dtype=torch.float64, generator=generator)
    target = torch.randint(-1, 4, (2, 4, 4), generator=generator)
    place = torch.tensor([*torch.tensor(order).argsort().tolist(), -1])
    permuted = [WEIGHTS[i] for i in order]
    for kind in (CrossEntropy, Dice, Focal, Lovasz):
        expected = kind(WEIGHTS)(logits, target)
        found = kind(permuted)(logits[:, order], place[target])
        torch.testing.assert_close(found, expected)


@every_loss
def test_sixteen_bits_are_computed_in_thirty_two(loss, make_batch) -> None:
    logits, target = make_batch()
    half = logits.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(half, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(half.float(), target), rtol=0, atol=0)


@every_loss
def test_extreme_logits_stay_finite(loss) -> None:
    logits = torch.tensor([1e4, -1e4, 0.0, 50.0]).reshape(1, 4, 1, 1).repeat(1, 1, 2, 2)
    for label in range(4):
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, torch.full((1, 2, 2), label))
        value.backward()
        assert value.isfinite()
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("kind", [CrossEntropy, Dice, Focal, Lovasz])
def test_right_is_zero_and_wrong_is_more(kind) -> None:
    target = torch.tensor([[[0, 1], [2, -1]]])
    right = 50.0 * torch.nn.functional.one_hot(target.clamp_min(0), 3).permute(0, 3, 1, 2).float()
    assert kind()(right, target).item() == pytest.approx(0, abs=1e-6)
    assert kind()(right.roll(1, 1), target).item() > 0.9


@every_loss
def test_gradient_descent_lowers_the_loss(loss, make_batch) -> None:
    logits, target = make_batch()
    leaf = logits.clone().requires_grad_()
    before = loss(leaf, target)
    before.backward()
    assert loss(logits - 0.1 * leaf.grad, target) < before


def test_arguments_that_do_not_fit_are_named() -> None:
    logits = torch.zeros(2, 3, 4, 4)
    with pytest.raises(InputError, match=r"target of shape \(2, 4, 5\) are not \(B, K, H, W\)"):
        CrossEntropy()(logits, torch.zeros(2, 4, 5, dtype=torch.long))
    with pytest.raises(InputError, match=r"2 class weights for 3 classes"):
        Dice([1.0, 1.0])(logits, torch.zeros(2, 4, 4, dtype=torch.long))
    for weights in ([1.0, -1.0], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]):
        with pytest.raises(InputError, match=r"finite numbers >= 0 .* correct loss.class_weights"):
            Lovasz(weights)
    with pytest.raises(InputError, match=r"label_smoothing 1.0 is outside"):
        CrossEntropy(label_smoothing=1.0)
    with pytest.raises(InputError, match=r"focal gamma -1 is negative"):
        Focal(gamma=-1)
