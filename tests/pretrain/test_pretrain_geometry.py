"""Views and regions against the pixels themselves."""

from __future__ import annotations

import pytest
import torch

from wholescene.pretrain.geometry import (
    CropLaw,
    Rects,
    apply,
    compose,
    draw_crops,
    draw_published_symmetries,
    draw_symmetries,
    grid_points,
    invert,
    rects_of,
    sample,
    view_maps,
)
from wholescene.pretrain.regions import draw_regions
from wholescene.pretrain.settings import ViewSettings
from wholescene.pretrain.views import ViewMaker

PAIRS = 1000
WINDOW = 256


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bare(**changes: object) -> ViewSettings:
    """Views whose values stay."""
    off = {"color_chance": (0.0, 0.0), "blur_chance": (0.0, 0.0)}
    return ViewSettings.model_validate({**off, "view_px": 224, **changes})


def coordinates(count: int, side: int) -> torch.Tensor:
    """Windows whose two bands are the x and y of each pixel's middle, in pixels."""
    ramp = torch.arange(side) + 0.5
    rows, cols = torch.meshgrid(ramp, ramp, indexing="ij")
    return torch.stack([cols, rows]).expand(count, 2, side, side)


@pytest.mark.parametrize("law", [{}, {"area": (0.08, 1.0)}])
def test_regions_cover_the_same_ground(law: dict[str, object]) -> None:
    """Issue 7, acceptance 2: middle within half a pixel, footprint IoU at least 0.95."""
    draws = generator()
    # One window at a time in 250 would be slow; the ramps carry the ground with them.
    maker = ViewMaker(bare(**law), mean=(0.0, 0.0), std=(1.0, 1.0))
    offsets, overlaps = [], []
    for _ in range(PAIRS // 50):
        one, two = maker(coordinates(50, WINDOW), draws)
        regions = draw_regions(one.maps, two.maps, count=4, side=48 / 224, generator=draws)
        ground = [
            sample(view.image, maps, (16, 16))  # the x and y the pixels of each region show
            for view, maps in ((one, regions.first), (two, regions.second))
        ]
        kept = regions.found
        middles = [g.mean((-1, -2))[kept] for g in ground]
        offsets.append((middles[0] - middles[1]).norm(dim=-1).flatten())
        overlaps.append(box_iou(ground[0][kept], ground[1][kept]).flatten())
    assert torch.cat(offsets).numel() >= 0.99 * 4 * PAIRS
    assert torch.cat(offsets).max() < 0.5
    assert torch.cat(overlaps).min() >= 0.95


def box_iou(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """IoU of the upright boxes around the ground two regions (..., 2, n, n) show."""
    boxes = []
    for ground in (one, two):
        low, high = ground.amin((-1, -2)), ground.amax((-1, -2))
        cell = (high - low) / (ground.shape[-1] - 1)  # from middles of cells to their edges
        boxes.append((low - cell / 2, high + cell / 2))
    (low1, high1), (low2, high2) = boxes
    inside = (torch.minimum(high1, high2) - torch.maximum(low1, low2)).clamp_min(0).prod(-1)
    areas = [(high - low).prod(-1) for low, high in boxes]
    return inside / (areas[0] + areas[1] - inside)


def test_published_regions_share_their_middle_but_not_their_footprint() -> None:
    draws = generator()
    maker = ViewMaker(ViewSettings(faithful=True), mean=(0.0,) * 2, std=(1.0,) * 2)
    one, two = maker(coordinates(100, WINDOW), draws)
    regions = draw_regions(
        one.maps, two.maps, count=4, side=48 / 224, generator=draws, footprint="view"
    )
    ramps = coordinates(100, WINDOW)
    ground = [
        sample(ramps, compose(view.maps[:, None], maps), (16, 16))
        for view, maps in ((one, regions.first), (two, regions.second))
    ]
    offset = (ground[0].mean((-1, -2)) - ground[1].mean((-1, -2))).norm(dim=-1)
    assert offset.max() < 0.5
    iou = box_iou(ground[0], ground[1])
    assert 0.65 < iou.mean() < 0.85  # 0.74 was measured on the release
    assert iou.min() > 0.3
    # Each is 48 px of its view, and inside it.
    assert torch.allclose(rects_of(regions.first).half, torch.tensor(48 / 224))
    for maps in (regions.first, regions.second):
        reach = maps[..., 2].abs() + rects_of(maps).half
        assert reach.max() <= 1 + 1e-5


def test_published_second_crop_law() -> None:
    law = CropLaw(area=(0.4, 1.0), published=True, tries=5)
    crops = draw_crops(4000, law, generator())
    share = crops.half.prod(-1)
    aspect = crops.half[:, 0] / crops.half[:, 1]
    assert share.min() > 0.39 and share.max() <= 1 + 1e-6
    assert aspect.min() > 0.74 and aspect.max() < 1.34
    assert ((crops.centre.abs() + crops.half) <= 1 + 1e-6).all()


def test_published_symmetries_come_as_often_as_published() -> None:
    maps = draw_published_symmetries(20_000, generator())
    identity = (maps == torch.eye(2)).all((-1, -2)).float().mean()
    # Unturned 0.4, unflipped 0.4; or both mirrored (0.2) and turned by a half (0.2).
    assert identity == pytest.approx(0.4 * 0.4 + 0.2 * 0.2, abs=0.02)
    assert (maps.abs().sum(-1) == 1).all()


def test_a_view_without_resizing_is_the_flipped_and_turned_crop() -> None:
    window = torch.randn(1, 3, 16, 16)
    # Columns 4 to 12 and rows 2 to 10, x from y: a view of 8 px shows whole pixels.
    crops = Rects(torch.tensor([[0.0, -0.25]]), torch.tensor([[0.5, 0.5]]))
    turn = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    cut = window[:, :, 2:10, 4:12]
    plain = sample(window, view_maps(crops, torch.eye(2)[None])[:, None], (8, 8))[:, 0]
    turned = sample(window, view_maps(crops, turn)[:, None], (8, 8))[:, 0]
    mirror = torch.tensor([[[-1.0, 0.0], [0.0, 1.0]]])
    mirrored = sample(window, view_maps(crops, mirror)[:, None], (8, 8))[:, 0]
    torch.testing.assert_close(plain, cut)
    torch.testing.assert_close(turned, cut.transpose(-1, -2))
    torch.testing.assert_close(mirrored, cut.flip(-1))


def test_composition_and_inverse() -> None:
    maps = torch.randn(5, 2, 3, dtype=torch.float64)
    other = torch.randn(5, 2, 3, dtype=torch.float64)
    points = torch.randn(5, 7, 2, dtype=torch.float64)
    torch.testing.assert_close(
        apply(compose(maps, other), points), apply(maps, apply(other, points))
    )
    torch.testing.assert_close(apply(compose(invert(maps), maps), points), points)


def test_grid_points_are_cell_middles() -> None:
    # A 70 px crop on a grid of 7: 5, 15, ... 65, not 5 ... 75.
    points = grid_points(7, 7, like=torch.zeros(1))
    assert ((points[:7, 0] + 1) / 2 * 70).tolist() == pytest.approx([5, 15, 25, 35, 45, 55, 65])


@pytest.mark.parametrize(
    ("flips", "turns", "number"),
    [(True, True, 8), (True, False, 4), (False, True, 4), (False, False, 1)],
)
def test_symmetries_are_those_that_are_allowed(flips: bool, turns: bool, number: int) -> None:
    maps = draw_symmetries(2000, generator(), flips=flips, turns=turns)
    kinds, counts = maps.flatten(1).unique(dim=0, return_counts=True)
    assert len(kinds) == number
    assert counts.min() > 0.8 * 2000 / number
    if turns and not flips:
        assert (torch.linalg.det(maps) > 0).all()


def test_views_are_drawn_again_from_the_same_seed_and_overlap() -> None:
    maker = ViewMaker(bare(area=(0.1, 0.3), least_overlap=0.3), mean=(0.0,) * 2, std=(1.0,) * 2)
    windows = coordinates(64, 64)
    one, two = maker(windows, generator(3))
    again = maker(windows, generator(3))
    assert torch.equal(one.image, again[0].image) and torch.equal(two.maps, again[1].maps)
    rects = rects_of(one.maps), rects_of(two.maps)
    share = rects[0].overlap(rects[1]).area / torch.minimum(rects[0].area, rects[1].area)
    # 64 crops, 8 tries each: a few may miss, most would without the rule.
    assert (share >= 0.3).float().mean() > 0.8


def test_a_view_that_shrinks_its_window_averages() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(64)[None, None, None].expand(1, 1, 128, 128)
    maker = ViewMaker(
        bare(view_px=32, area=(0.999, 1.0), aspect=(1.0, 1.0)), mean=(0.0,), std=(1.0,)
    )
    view = maker(stripes.contiguous(), generator(), count=1)[0]
    assert (view.image - 0.5).abs().max() < 0.1
