"""What a plan says, without pixels."""

from __future__ import annotations

import pytest
import torch
from test_spatial_stream import Small, Sorting
from torch import Tensor, nn

import wholescene.spatial as spatial
from wholescene.errors import InputError, UnsupportedError
from wholescene.spatial.memory import parse_bytes
from wholescene.spatial.plan import choose_footprint, prepare, streamed_plan


class Stack(nn.Module):
    """Convolutions only."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_convolutions_alone_take_one_sweep_and_keep_nothing() -> None:
    plan = spatial.plan(Stack().eval(), (1, 3, 100, 200), block=50)
    assert plan.steps == ((2, 4),)
    assert plan.output_shape == (1, 4, 50, 100)
    assert (plan.kept, plan.breakers, plan.fallbacks) == ((), (), ())
    assert [layer.rule for layer in plan.layers] == ["window", "window"]
    assert plan.multiply_adds == 50 * 100 * (8 * 27 + 4 * 72)


def test_a_global_mean_breaks_the_pipeline_by_name() -> None:
    plan = spatial.plan(Small().eval(), (1, 3, 64, 64), block=16)
    assert plan.sweeps == 2
    assert [note.operator for note in plan.breakers] == ["mean"]
    assert "sums over the whole scene" in plan.describe()


def test_an_operator_without_a_rule_is_named_with_its_bytes() -> None:
    plan = spatial.plan(Sorting().eval(), (1, 3, 64, 64), block=16)
    (note,) = plan.fallbacks
    assert (note.operator, note.num_bytes) == ("sort", 2 * 5 * 64 * 64 * 4)
    with pytest.raises(UnsupportedError, match="sort has no rule"):
        spatial.plan(Sorting().eval(), (1, 3, 64, 64), strict=True)


def test_a_huge_scene_is_planned_from_shapes() -> None:
    plan = spatial.plan(Stack().eval(), (1, 3, 100_000, 20_000))
    assert plan.steps == ((98, 20),)
    whole = spatial.plan(Stack().eval(), (1, 3, 100_000, 20_000), "whole")
    assert plan.peak_bytes < 256 << 20 < 1 << 30 < whole.peak_bytes


def test_memory_does_not_grow_with_the_height_of_the_scene() -> None:
    peaks = [
        spatial.plan(Stack().eval(), (1, 3, rows, 3000), block=256).peak_bytes
        for rows in (3000, 6000, 12000)
    ]
    assert max(peaks) < 1.02 * min(peaks)


def test_a_budget_chooses_the_largest_block_that_fits() -> None:
    module, shape = Stack().eval(), (1, 3, 4000, 4000)
    tight = spatial.plan(module, shape, memory="6MiB")
    loose = spatial.plan(module, shape, memory="60MiB")
    assert tight.block < loose.block
    assert tight.peak_bytes <= 6 << 20
    with pytest.raises(InputError, match=r"block=2048 takes about .* more than memory='6MiB'"):
        spatial.plan(module, shape, memory="6MiB", block=2048)


def test_spilled_values_are_counted_apart() -> None:
    held = spatial.plan(Small().eval(), (1, 3, 640, 640), block=64)
    spilled = spatial.plan(Small().eval(), (1, 3, 640, 640), block=64, spill=True)
    assert held.spill_bytes == 0
    saved = held.peak_bytes - spilled.peak_bytes
    assert 0.9 * spilled.spill_bytes < saved < spilled.spill_bytes  # one region in memory of many


def test_an_unknown_executor_is_refused() -> None:
    with pytest.raises(InputError, match="executor='windowed' is not known"):
        spatial.plan(Small().eval(), (1, 3, 64, 64), "windowed")


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GiB", 4 << 30), ("500 MB", 500_000_000), ("1.5k", 1500), (7, 7), ("12", 12)],
)
def test_sizes(text: int | str, count: int) -> None:
    assert parse_bytes(text) == count


def test_large_grids_are_not_computed_while_planning() -> None:
    class Grid(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            rows, cols = torch.arange(x.shape[2]), torch.arange(x.shape[3])
            return x + (rows[:, None] * cols).float().sqrt()

    plan = spatial.plan(Grid().eval(), (1, 1, 20_000, 10_000))
    assert plan.peak_bytes > 20_000 * 10_000 * 4


def test_a_layer_whose_first_rows_need_the_last_is_named() -> None:
    class Turned(Stack):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.roll((-2, -2), (2, 3))).roll((2, 2), (2, 3))

    (note,) = spatial.plan(Turned().eval(), (1, 3, 64, 64), block=16).breakers
    assert (note.operator, note.reason) == ("roll", "its first rows need the last")


def test_the_heap_may_keep_what_the_budget_has_room_for() -> None:
    module, shape = nn.Conv2d(3, 8, 3, padding=1), (1, 3, 256, 256)
    ready = prepare(module.eval(), shape)
    plain = choose_footprint(ready, block=64, memory=None, spilled=False)
    tight = choose_footprint(ready, block=64, memory=plain.peak, spilled=False)
    ample = choose_footprint(ready, block=64, memory=plain.peak + 1000, spilled=False)
    assert (tight.spare, ample.spare, plain.spare) == (0, 1000, plain.peak)
    assert tight.lean
    assert (tight.idle, ample.idle, plain.idle) == (0, 0, plain.spare)
    assert streamed_plan(ready, plain).idle_bytes == plain.spare
    assert "of free memory is kept" in streamed_plan(ready, plain).describe()
    assert "of free memory is kept" not in streamed_plan(ready, tight).describe()


def test_a_budget_with_room_for_twice_the_usual_changes_nothing() -> None:
    ready = prepare(Stack().eval(), (1, 3, 3000, 3000))
    plain = choose_footprint(ready, block=None, memory=None, spilled=False)
    ample = choose_footprint(ready, block=None, memory=2 * plain.peak, spilled=False)
    tight = choose_footprint(ready, block=None, memory=2 * plain.peak - 1, spilled=False)
    assert (ample.block, ample.lean, ample.peak) == (plain.block, False, plain.peak)
    assert ample.idle == plain.peak
    assert choose_footprint(ready, block=None, memory="1TiB", spilled=False).idle == plain.peak
    assert tight.lean
    assert tight.block >= plain.block
    assert tight.peak < 2 * plain.peak
