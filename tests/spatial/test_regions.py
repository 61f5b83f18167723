"""Regions are put together from pieces, and memory lent for them is never in use twice."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from wholescene.spatial.layout import Layout
from wholescene.spatial.pool import Pool
from wholescene.spatial.regions import Enlarged, Joined, Whole

CPU = torch.device("cpu")


def image(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, height, width, generator=generator)


def spans(size: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(size) for b in range(a + 1, size + 1)]


@pytest.mark.parametrize("factors", [(2, 2), (3, 2), (1, 4), (5, 5)])
def test_every_region_of_an_enlarged_image(factors: tuple[int, int]) -> None:
    x = image(3, 4, 3)
    full = x.repeat_interleave(factors[0], 2).repeat_interleave(factors[1], 3)
    source = Enlarged(Layout.image(full.shape), Whole(x, Layout.image(x.shape)), factors)
    for rows, cols in itertools.product(spans(full.shape[2]), spans(full.shape[3])):
        found = torch.full((1, 3, rows[1] - rows[0], cols[1] - cols[0]), torch.nan)
        source.place(found, rows, cols)
        assert torch.equal(found, full[:, :, slice(*rows), slice(*cols)]), (rows, cols)
        source.release(0, 0)


def test_a_region_beyond_the_scene_is_filled_on_all_sides() -> None:
    first, second = image(2, 5, 4), image(1, 5, 4, seed=1)
    parts = [Whole(x, Layout.image(x.shape)) for x in (first, second)]
    joined = Joined(Layout.image((1, 3, 5, 4)), parts)
    found = joined.region((-2, 6), (-1, 7), fill=9.0)
    expected = torch.nn.functional.pad(torch.cat([first, second], 1), (1, 3, 2, 1), value=9.0)
    assert torch.equal(found, expected)


def test_what_lies_wholly_beyond_the_scene_is_only_filled() -> None:
    x = image(2, 5, 4)
    found = Whole(x, Layout.image(x.shape)).region((6, 8), (0, 4), fill=-1.0)
    assert torch.equal(found, torch.full((1, 2, 2, 4), -1.0))


def test_two_regions_of_one_reader_do_not_share_memory() -> None:
    x = image(2, 6, 6)
    source = Joined(Layout.image(x.shape), [Whole(x, Layout.image(x.shape))])
    source.pool = Pool(CPU)
    source.begin()
    small = source.region((0, 2), (0, 6))
    large = source.region((1, 6), (0, 6))
    assert torch.equal(small, x[:, :, 0:2])
    assert torch.equal(large, x[:, :, 1:6])


def test_the_next_reader_gets_the_memory_of_the_last() -> None:
    x = image(2, 6, 6)
    source = Joined(Layout.image(x.shape), [Whole(x, Layout.image(x.shape))])
    source.pool = Pool(CPU)
    places = set()
    for rows in ((0, 6), (0, 3), (-1, 2), (2, 6)):
        source.begin()
        places.add(source.region(rows, (-1, 5)).untyped_storage().data_ptr())
    assert len(places) == 1


def test_a_region_served_again_is_not_lent_to_another() -> None:
    x = image(2, 6, 6)
    source = Joined(Layout.image(x.shape), [Whole(x, Layout.image(x.shape))])
    source.pool = Pool(CPU)
    source.begin()
    source.region((0, 4), (0, 6))
    source.begin()
    again = source.region((1, 3), (0, 6))  # a view of what the reader before got
    other = source.region((2, 6), (0, 6))
    assert torch.equal(again, x[:, :, 1:3])
    assert torch.equal(other, x[:, :, 2:6])


def test_a_pool_never_holds_more_buffers_than_were_lent_at_once() -> None:
    pool = Pool(CPU)
    for size in (10, 100, 50, 1000):
        first = pool.take(size)
        assert first.numel() >= size
        pool.give(first)
    kept = pool.take(1)
    assert kept.numel() == 1000
    assert pool.take(1).numel() < 1000
