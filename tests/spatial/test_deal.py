"""How the rows of a network's values are dealt out, and the order in which they lie in memory."""

from __future__ import annotations

import torch
from networks import build
from torch import Tensor

from wholescene.spatial.capture import capture
from wholescene.spatial.cuts import Route, proportional, unlikeness
from wholescene.spatial.deal import deal
from wholescene.spatial.exchange import begin_regions
from wholescene.spatial.halo import CONVOLUTIONS
from wholescene.spatial.layout import Layout
from wholescene.spatial.overwrite import overwrite
from wholescene.spatial.staging import assign
from wholescene.spatial.wire import Wire


def test_what_follows_windows_is_cut_like_the_scene() -> None:
    """The coarsest map is one window: cut between windows, one rank has all of it."""
    scene = (0, 112, 224)
    graph = capture(build("UPerNet Swin-T"), (1, 3, 224, 224), live=True)
    tasks = deal(assign(overwrite(graph)), scene, 0).tasks
    cuts = [task.cuts for task in tasks if task.value.op in CONVOLUTIONS and task.cuts is not None]
    assert max(cut[-1] for cut in cuts) == 56
    assert all(unlikeness(cut, proportional(scene, cut[-1])) <= 1 for cut in cuts)


def test_regions_lie_in_memory_as_the_rows_they_come_from() -> None:
    layout = Layout.image((1, 3, 6, 5))
    route = Route(layout, (0, 6), (((-1, 7),),), (-1, 6))

    def orders(rows: Tensor) -> list[bool]:
        (region,) = begin_regions(rows, route, Wire(None))()
        return [region.is_contiguous(memory_format=torch.channels_last), region.is_contiguous()]

    rows = torch.randn(1, 3, 6, 5)
    assert orders(rows) == [False, True]
    assert orders(rows.contiguous(memory_format=torch.channels_last)) == [True, False]
