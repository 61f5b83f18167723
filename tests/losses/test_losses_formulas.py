"""Each loss against another implementation of its definition."""

import itertools

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from wholescene.losses import CrossEntropy, Dice, Focal, Lovasz
from wholescene.losses.lovasz import jaccard_slopes

WEIGHTS = (0.5, 2.0, 0.3, 1.0)


def valid_probs(logits: torch.Tensor, target: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(K, n) probabilities and (n,) labels of the valid pixels, in numpy."""
    flat = np.moveaxis(logits.numpy(), 1, 0).reshape(logits.shape[1], -1)
    probs = np.exp(flat - flat.max(0))
    keep = target.numpy().ravel() >= 0
    return (probs / probs.sum(0))[:, keep], target.numpy().ravel()[keep]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_torch_s(make_batch, weights, smoothing: float) -> None:
    logits, target = make_batch()
    tensor = None if weights is None else torch.tensor(weights).double()
    expected = F.cross_entropy(
        logits, target, weight=tensor, ignore_index=-1, label_smoothing=smoothing
    )
    found = CrossEntropy(weights, label_smoothing=smoothing)(logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([0.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 3)
    target = torch.tensor([[[0, 1, -1]]])
    assert CrossEntropy()(logits, target).item() == pytest.approx(np.log(2))


def test_dice_by_hand() -> None:
    # Two pixels, two classes, probabilities 0.8/0.2 and 0.4/0.6, labels 0 and 1; one ignored.
    probs = torch.tensor([[[[0.8, 0.4, 0.9]], [[0.2, 0.6, 0.1]]]])
    found = Dice()(probs.log(), torch.tensor([[[0, 1, -1]]]))
    first, second = 1 - 2 * 0.8 / (1.2 + 1), 1 - 2 * 0.6 / (0.8 + 1)
    assert found.item() == pytest.approx((first + second) / 2)


def test_dice_is_smp_s_where_every_class_is_there(make_batch) -> None:
    logits, target = make_batch()
    assert set(target.unique().tolist()) == {-1, 0, 1, 2, 3}
    theirs = smp.losses.DiceLoss("multiclass", ignore_index=-1, eps=0)
    torch.testing.assert_close(Dice()(logits, target), theirs(logits, target), rtol=1e-6, atol=0)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_dice_is_its_formula_over_the_labelled_classes(make_batch, weights) -> None:
    logits, target = make_batch()
    target[target == 2] = 1
    probs, labels = valid_probs(logits, target)
    terms = {
        c: 1 - 2 * probs[c][labels == c].sum() / (probs[c].sum() + (labels == c).sum())
        for c in (0, 1, 3)
    }
    share = [1.0 if weights is None else weights[c] for c in terms]
    expected = np.average(list(terms.values()), weights=share)
    assert Dice(weights)(logits, target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_is_its_formula(make_batch, weights, gamma: float) -> None:
    logits, target = make_batch()
    probs, labels = valid_probs(logits, target)
    p = probs[labels, np.arange(labels.size)]
    share = np.ones_like(p) if weights is None else np.array(weights)[labels]
    expected = np.average(-np.log(p) * (1 - p) ** gamma, weights=share)
    assert Focal(weights, gamma=gamma)(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_focal_without_strength_is_cross_entropy(make_batch) -> None:
    logits, target = make_batch()
    torch.testing.assert_close(
        Focal(WEIGHTS, gamma=0)(logits, target), CrossEntropy(WEIGHTS)(logits, target)
    )


def lovasz_by_definition(errors: np.ndarray, is_class: np.ndarray) -> float:
    """Sum of sorted errors times the growth of the Jaccard loss, set by set."""

    def jaccard_loss(wrong: set[int]) -> float:
        truth = set(np.flatnonzero(is_class).tolist())
        guess = truth ^ wrong
        return 1 - len(truth & guess) / len(truth | guess)

    order = np.argsort(-errors, kind="stable").tolist()
    total, wrong, before = 0.0, set(), 0.0
    for pixel in order:
        wrong.add(pixel)
        after = jaccard_loss(wrong)
        total += errors[pixel] * (after - before)
        before = after
    return total


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_lovasz_is_its_definition_set_by_set(make_batch, weights) -> None:
    logits, target = make_batch()
    target[target == 2] = 1
    probs, labels = valid_probs(logits, target)
    terms = {
        c: lovasz_by_definition(np.abs((labels == c) - probs[c]), labels == c) for c in (0, 1, 3)
    }
    share = [1.0 if weights is None else weights[c] for c in terms]
    expected = np.average(list(terms.values()), weights=share)
    assert Lovasz(weights)(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_lovasz_is_smp_s(make_batch) -> None:
    logits, target = make_batch()
    logits = logits.float()
    theirs = smp.losses.LovaszLoss("multiclass", ignore_index=-1)
    torch.testing.assert_close(Lovasz()(logits, target), theirs(logits, target))


def test_lovasz_of_hard_guesses_is_one_minus_iou() -> None:
    """On the corners of the cube the extension is the Jaccard loss itself."""
    target = torch.tensor([[[0, 0, 1, 1]]])
    for guess in itertools.product((0, 1), repeat=4):
        hard = torch.nn.functional.one_hot(torch.tensor(guess), 2).T.reshape(1, 2, 1, 4)
        found = Lovasz()(1e3 * hard.float(), target).item()
        labels = target.flatten().numpy()
        ious = [
            ((labels == c) & (np.array(guess) == c)).sum()
            / ((labels == c) | (np.array(guess) == c)).sum()
            for c in (0, 1)
        ]
        assert found == pytest.approx(1 - np.mean(ious), abs=1e-6)


def test_slopes_of_the_jaccard_loss_do_not_cancel_in_large_batches() -> None:
    """Differences of float32 numbers would be 0 or off by a half here."""
    is_class = torch.zeros(3_000_000, dtype=torch.bool)
    is_class[::3] = True
    slopes = jaccard_slopes(is_class)
    lost = is_class.double().cumsum(0)
    loss = 1 - (lost[-1] - lost) / (lost[-1] + (~is_class).double().cumsum(0))
    exact = torch.diff(loss, prepend=torch.zeros(1).double())
    torch.testing.assert_close(slopes.double(), exact, rtol=1e-6, atol=1e-15)
