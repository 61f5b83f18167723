import math

import pytest
import torch
import torch.nn.functional as F

from wholescene.errors import InputError
from wholescene.labels import IGNORE_INDEX
from wholescene.losses.pixel_contrast import PixelContrast, contrast


def batch(size: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit vectors, predictions and labels; an image is cut in halves of two classes."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(2, 5, size, size, generator=generator, dtype=torch.float64)
    target = torch.zeros(2, size, size, dtype=torch.int64)
    target[0, :, size // 2 :] = 1
    target[1, : size // 2] = 2
    predicted = torch.randint(0, 3, target.shape, generator=generator)
    return F.normalize(draw, dim=1), predicted, target


def by_hand(vectors: torch.Tensor, classes: torch.Tensor, temperature: float) -> float:
    """The formula, pair by pair."""
    total, anchors = 0.0, 0
    for i, own in enumerate(classes):
        score = [math.exp(float(vectors[i] @ v) / temperature) for v in vectors]
        partners = [j for j, other in enumerate(classes) if other == own and j != i]
        negative = sum(score[j] for j, other in enumerate(classes) if other != own)
        if partners:
            anchors += 1
            total += sum(-math.log(score[p] / (score[p] + negative)) for p in partners) / len(
                partners
            )
    return total / anchors * temperature / 0.07


@pytest.mark.parametrize("classes", [[0, 0, 1, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1, 5], [3, 3, 3]])
def test_formula_pair_by_pair(classes: list[int]) -> None:
    vectors = batch()[0].permute(0, 2, 3, 1).flatten(0, 2)[: len(classes)]
    found = contrast(vectors, torch.tensor(classes), 0.1)
    assert float(found) == pytest.approx(by_hand(vectors, torch.tensor(classes), 0.1), abs=1e-12)


def test_gradient_is_that_of_the_formula() -> None:
    vectors = batch()[0].permute(0, 2, 3, 1).flatten(0, 2)[:7].requires_grad_()
    classes = torch.tensor([0, 0, 1, 1, 1, 2, 4])
    assert torch.autograd.gradcheck(lambda v: contrast(v, classes, 0.5), (vectors,))


def test_one_class_alone_costs_nothing_and_its_gradient_is_finite() -> None:
    vectors = batch()[0].permute(0, 2, 3, 1).flatten(0, 2)[:7].requires_grad_()
    loss = contrast(vectors, torch.zeros(7, dtype=torch.int64), 0.1)
    loss.backward()
    assert loss == 0
    assert torch.equal(vectors.grad, torch.zeros_like(vectors))


def test_every_pixel_drawn_equals_the_formula_on_the_drawn() -> None:
    embeddings, predicted, target = batch()
    loss = PixelContrast(max_anchors=80, min_pixels=10)
    places, classes = loss._draw(target, predicted)
    # Two classes in each of two images: 80 // 4 views of each.
    assert [int((classes == c).sum()) for c in range(3)] == [40, 20, 20]
    assert len(places.unique()) == 80
    assert torch.equal(target.flatten()[places], classes)
    wrong = (predicted.flatten()[places] != classes).view(4, 20).sum(1)
    assert wrong.tolist() == [10, 10, 10, 10]
    torch.manual_seed(3)
    places, classes = loss._draw(target, predicted)
    torch.manual_seed(3)
    found = loss(embeddings, predicted, target)
    vectors = embeddings.permute(0, 2, 3, 1).flatten(0, 2)[places]
    assert float(found) == pytest.approx(by_hand(vectors, classes, 0.1), rel=1e-9)


@pytest.mark.parametrize("wrong", [0, 5, 128])
def test_where_wrong_pixels_are_few_right_ones_fill_up_and_the_reverse(wrong: int) -> None:
    _, _, target = batch()
    predicted = target.clone()
    for image in range(2):
        for label in target[image].unique():
            rows, cols = (target[image] == label).nonzero()[:wrong].T
            predicted[image, rows, cols] = label + 1
    places, classes = PixelContrast(max_anchors=80)._draw(target, predicted)
    num_wrong = (predicted.flatten()[places] != classes).view(4, 20).sum(1)
    assert num_wrong.tolist() == [min(wrong, 10) if wrong < 128 else 20] * 4


def test_zero_where_no_class_has_enough_pixels() -> None:
    """A class counts with more than 100 pixels, not with 100."""
    embeddings, predicted, target = batch()
    target[:] = IGNORE_INDEX
    target[:, :10, :10] = 1
    embeddings.requires_grad_()
    loss = PixelContrast()(embeddings, predicted, target)
    loss.backward()
    assert loss == 0
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))
    target[:, 10, 0] = 1
    assert len(PixelContrast()._draw(target, predicted)[0]) == 2 * 100


def test_the_same_seed_draws_the_same_pixels() -> None:
    loss, given = PixelContrast(max_anchors=40), batch()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(loss(*given))
    assert drawn[0] == drawn[1] != drawn[2]


def test_labels_are_taken_at_the_nearest_pixel() -> None:
    embeddings, predicted, target = batch()
    large = target.repeat_interleave(4, 1).repeat_interleave(4, 2)
    found = []
    for labels in (target, large):
        torch.manual_seed(0)
        found.append(PixelContrast()(embeddings, predicted, labels))
    assert found[0] == found[1]


@pytest.mark.parametrize(("is_apart", "ratio"), [(True, math.exp(-10)), (False, 1.0)])
def test_value_by_hand(*, is_apart: bool, ratio: float) -> None:
    """Of 400 vectors 200 are of class 0, against 200 others; the rest against 300 others."""
    _, predicted, target = batch()
    apart = F.one_hot(target, 5).permute(0, 3, 1, 2).double()
    vectors = apart if is_apart else torch.ones_like(apart) / 5**0.5
    expected = (math.log1p(200 * ratio) + math.log1p(300 * ratio)) / 2 / 0.7
    assert float(PixelContrast()(vectors, predicted, target)) == pytest.approx(expected)


def test_shapes_that_do_not_fit_are_named() -> None:
    embeddings, predicted, target = batch()
    with pytest.raises(InputError, match=r"\(2, 5, 16, 16\).*\(2, 8, 16\).*not \(B, D, h, w\)"):
        PixelContrast()(embeddings, predicted[:, :8], target)
