"""Each loss against plain loops, and what must not change it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wholescene.pretrain.geometry import Rects, view_maps
from wholescene.pretrain.losses import (
    VicregWeights,
    cell_diagonals,
    cell_places,
    cosine_distance,
    dense_info_nce,
    hidden_patch_error,
    hole_error,
    info_nce,
    matched_vicreg,
    near_agreement,
    near_cells,
    nearest_features,
    nearest_places,
    pair_contrast,
    patchify,
    sinkhorn,
    swapped_prediction,
    vicreg,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def cos(a: Tensor, b: Tensor) -> float:
    return float((a @ b) / (a.norm() * b.norm()))


def pair_by_hand(one: Tensor, two: Tensor, tau: float, *, decoupled: bool, group=None) -> float:
    rows = [*one, *two]
    n, total = len(one), 0.0
    for i, row in enumerate(rows):
        partner = (i + n) % (2 * n)
        bottom = 0.0
        for j, other in enumerate(rows):
            same_group = group is not None and group[i % n] == group[j % n]
            if j == i or (j == partner and decoupled) or (same_group and j != partner):
                continue
            bottom += math.exp(cos(row, other) / tau)
        total += math.log(bottom) - cos(row, rows[partner]) / tau
    return total / (2 * n)


@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("group", [None, [0, 0, 1, 1, 2]])
def test_pair_contrast_by_loops(decoupled: bool, group: list[int] | None) -> None:
    one, two = torch.randn(2, 5, 8)
    numbers = None if group is None else torch.tensor(group)
    found = pair_contrast(one, two, temperature=0.5, decoupled=decoupled, group=numbers)
    expected = pair_by_hand(one, two, 0.5, decoupled=decoupled, group=group)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_pair_contrast_does_not_feel_order_length_or_side() -> None:
    one, two = torch.randn(2, 6, 8)
    order = torch.randperm(6)
    loss = pair_contrast(one, two, temperature=0.2, decoupled=True)
    for a, b in ((two, one), (one[order], two[order]), (3 * one, 0.5 * two)):
        torch.testing.assert_close(pair_contrast(a, b, temperature=0.2, decoupled=True), loss)
    assert not torch.allclose(pair_contrast(one, two[order], temperature=0.2, decoupled=True), loss)


def test_pairs_that_do_not_count_are_as_if_they_were_not_there() -> None:
    one, two = torch.randn(2, 6, 8)
    valid = torch.tensor([True, False, True, True, False, True])
    for decoupled in (True, False):
        found = pair_contrast(one, two, temperature=0.5, decoupled=decoupled, valid=valid)
        expected = pair_contrast(one[valid], two[valid], temperature=0.5, decoupled=decoupled)
        torch.testing.assert_close(found, expected)


def test_losses_are_exact_under_autocast() -> None:
    one, two = torch.randn(2, 16, 32)
    plain = pair_contrast(one, two, temperature=0.1, decoupled=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pair_contrast(one, two, temperature=0.1, decoupled=True), plain)


def test_glcnet_denominator_leaves_the_positive_out() -> None:
    """Appendix: logsumexp(negatives / tau) - positive / tau; NT-Xent is larger."""
    one, two = torch.randn(2, 4, 8)
    with_positive = pair_contrast(one, two, temperature=0.5, decoupled=False)
    assert pair_contrast(one, two, temperature=0.5, decoupled=True) < with_positive
    # One pair only: no negative is left but none may count as the positive.
    assert pair_contrast(one[:1], two[:1], temperature=0.5, decoupled=True) == -math.inf


def test_info_nce_by_loops() -> None:
    query, key, queue = torch.randn(3, 8), torch.randn(3, 8), torch.randn(7, 8)
    expected = 0.0
    for q, k in zip(query, key, strict=True):
        top = math.exp(cos(q, k) / 0.2)
        expected -= math.log(top / (top + sum(math.exp(cos(q, n) / 0.2) for n in queue)))
    found = info_nce(query, key, queue, temperature=0.2)
    assert float(found) == pytest.approx(expected / 3, rel=1e-5)
    torch.testing.assert_close(
        found, info_nce(2 * query, key, queue[torch.randperm(7)], temperature=0.2)
    )


def test_cosine_distance_by_hand_and_target_gets_no_gradient() -> None:
    prediction = torch.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    target = torch.tensor([[3.0, 0.0], [1.0, 0.0]], requires_grad=True)
    loss = cosine_distance(prediction, target)
    assert loss.item() == pytest.approx((0 + 2) / 2)
    loss.backward()
    assert target.grad is None and prediction.grad is not None


def test_sinkhorn_is_a_transport_plan() -> None:
    plan = sinkhorn(torch.randn(64, 10), epsilon=0.05, iterations=200)
    torch.testing.assert_close(plan.sum(1), torch.ones(64))
    torch.testing.assert_close(plan.sum(0), torch.full((10,), 6.4), rtol=1e-2, atol=1e-2)
    assert (plan >= 0).all()
    # Large scores overflow as exp(100 / 0.05), not here.
    assert sinkhorn(100 * torch.randn(8, 4)).isfinite().all()


def test_sinkhorn_by_loops() -> None:
    scores = torch.randn(5, 3)
    plan = (scores / 0.5).exp().double()
    for _ in range(3):
        for j in range(3):
            plan[:, j] /= plan[:, j].sum()
        for i in range(5):
            plan[i] /= plan[i].sum()
    torch.testing.assert_close(sinkhorn(scores, epsilon=0.5).double(), plan, rtol=1e-5, atol=1e-6)


def test_swapped_prediction_by_loops() -> None:
    scores = [torch.randn(4, 3) for _ in range(3)]
    total, terms = 0.0, 0
    for full in range(2):
        codes = sinkhorn(scores[full])
        for other in range(3):
            if other == full:
                continue
            logs = torch.log(torch.softmax(scores[other] / 0.1, 1))
            total -= float(sum(codes[i, j] * logs[i, j] for i in range(4) for j in range(3))) / 4
            terms += 1
    assert float(swapped_prediction(scores)) == pytest.approx(total / terms, rel=1e-4)


def test_dense_info_nce_takes_the_key_with_the_most_alike_features() -> None:
    query, key, queue = torch.randn(2, 4, 8), torch.randn(2, 4, 8), torch.randn(5, 8)
    own, theirs = torch.randn(2, 4, 6), torch.randn(2, 4, 6)
    total = 0.0
    for image in range(2):
        for cell in range(4):
            alike = [cos(own[image, cell], other) for other in theirs[image]]
            match = key[image, alike.index(max(alike))]
            total += float(info_nce(query[image, cell][None], match[None], queue, temperature=0.2))
    found = dense_info_nce(
        query, key, queue, query_features=own, key_features=theirs, temperature=0.2
    )
    assert float(found) == pytest.approx(total / 8, rel=1e-5)


WHOLE = view_maps(Rects(torch.zeros(1, 2), torch.ones(1, 2)), torch.eye(2)[None])
MIRRORED = view_maps(
    Rects(torch.zeros(1, 2), torch.ones(1, 2)), torch.tensor([[[-1.0, 0.0], [0.0, 1.0]]])
)


def test_pixpro_mask_of_equal_views_is_the_identity() -> None:
    near = near_cells(WHOLE, WHOLE, (7, 7), window_px=224)
    assert torch.equal(near[0], torch.eye(49, dtype=torch.bool))
    wider = near_cells(WHOLE, WHOLE, (7, 7), window_px=224, reach=0.72)  # 1.02 cells
    assert int(wider[0, 24].sum()) == 5


def test_pixpro_mask_of_a_mirrored_view_is_the_mirrored_identity() -> None:
    near = near_cells(WHOLE, MIRRORED, (7, 7), window_px=224)[0].reshape(7, 7, 7, 7)
    for row in range(7):
        for col in range(7):
            assert near[row, col].nonzero().tolist() == [[row, 6 - col]]


def test_cell_places_and_diagonals_in_pixels() -> None:
    crop = Rects(torch.tensor([[-0.3, 0.0]]), torch.tensor([[0.7, 0.35]]))  # x 0..70, y 32.5..67.5
    maps = view_maps(crop, torch.eye(2)[None])
    places = cell_places(maps, (7, 7), 100)[0]
    assert places[:7, 0].tolist() == pytest.approx([5, 15, 25, 35, 45, 55, 65], abs=1e-4)
    assert places[::7, 1].tolist() == pytest.approx([35, 40, 45, 50, 55, 60, 65], abs=1e-4)
    assert float(cell_diagonals(maps, (7, 7), 100)) == pytest.approx(math.hypot(10, 5), rel=1e-5)
    turned = view_maps(crop, torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
    assert float(cell_diagonals(turned, (7, 7), 100)) == pytest.approx(math.hypot(10, 5), rel=1e-5)


def test_near_agreement_by_loops() -> None:
    prediction, target = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    near = torch.rand(2, 4, 4) < 0.5
    near[1] = False
    values = [
        cos(prediction[0, i], target[0, j]) for i in range(4) for j in range(4) if near[0, i, j]
    ]
    expected = -2 * (sum(values) / len(values) + 0) / 2
    assert float(near_agreement(prediction, target, near)) == pytest.approx(expected, rel=1e-5)


def vicreg_by_hand(one: Tensor, two: Tensor, weights: VicregWeights) -> float:
    n, d = one.shape
    invariance = sum(float((one[i, j] - two[i, j]) ** 2) for i in range(n) for j in range(d))
    variance = covariance = 0.0
    for side in (one, two):
        for j in range(d):
            std = math.sqrt(float(side[:, j].var()) + 1e-4)
            variance += max(0.0, 1 - std) / d / 2
            for k in range(d):
                if j != k:
                    pair = torch.stack([side[:, j], side[:, k]])
                    covariance += float(torch.cov(pair)[0, 1]) ** 2 / d
    return (
        weights.invariance * invariance / (n * d)
        + weights.variance * variance
        + weights.covariance * covariance
    )


def test_vicreg_by_loops() -> None:
    one, two = 0.5 * torch.randn(6, 4), 0.5 * torch.randn(6, 4)
    weights = VicregWeights(invariance=2.0, variance=3.0, covariance=0.5)
    expected = vicreg_by_hand(one, two, weights)
    assert float(vicreg(one, two, weights)) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(vicreg(one, two, weights), vicreg(two, one, weights))


def test_matched_vicreg_is_vicreg_of_each_match() -> None:
    one, two = torch.randn(5, 4, 3), torch.randn(5, 4, 3)
    match = torch.randint(4, (5, 2)), torch.randint(4, (5, 2))
    weights = VicregWeights()
    expected = 0.0
    for place in range(2):
        a = torch.stack([one[i, match[0][i, place]] for i in range(5)])
        b = torch.stack([two[i, match[1][i, place]] for i in range(5)])
        expected += vicreg_by_hand(a, b, weights) / 2
    assert float(matched_vicreg(one, two, match, weights)) == pytest.approx(expected, rel=1e-4)


def test_matches_are_the_nearest_pairs() -> None:
    first = torch.tensor([[[0.0, 0.0], [5.0, 0.0], [9.0, 0.0]]])
    second = torch.tensor([[[9.1, 0.0], [0.5, 0.0], [20.0, 0.0]]])
    cells, partners = nearest_places(first, second, 2)
    assert cells.tolist() == [[2, 0]] and partners.tolist() == [[0, 1]]
    assert [t.tolist() for t in nearest_features(first, second, 1)] == [[[2]], [[0]]]


def test_patches_are_cut_row_by_row() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert patchify(image, 2)[0].tolist() == [
        [0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15],
    ]  # fmt: skip


def test_hidden_patch_error_by_loops() -> None:
    images, prediction = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 12)
    hidden = torch.tensor([[True, False, True, False], [False, True, False, False]])
    total = 0.0
    for image, patch in hidden.nonzero().tolist():
        row, col = divmod(patch, 2)
        truth = images[image, :, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].flatten()
        truth = (truth - truth.mean()) / (truth.var() + 1e-6).sqrt()
        total += float(((prediction[image, patch] - truth) ** 2).mean())
    found = hidden_patch_error(prediction, images, hidden, side=2)
    assert float(found) == pytest.approx(total / 3, rel=1e-5)


def test_hole_error_by_hand() -> None:
    hole = torch.tensor([True, False, False, False]).reshape(1, 1, 2, 2)
    prediction, image = (
        torch.zeros(1, 1, 2, 2),
        torch.tensor([2.0, 1.0, 1.0, 4.0]).reshape(1, 1, 2, 2),
    )
    assert float(hole_error(prediction, image, hole)) == pytest.approx(0.99 * 4 + 0.01 * 6)
