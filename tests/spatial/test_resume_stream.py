"""An execution that stops after any row of blocks goes on, and ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from comparison import scene
from torch import Tensor, nn

from wholescene.errors import ResumeError
from wholescene.spatial.checkpoint import Checkpoint
from wholescene.spatial.stream import Streamer


class Pooled(nn.Module):
    """A statistic in the middle, so that two sweeps are needed and values are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1))
        self.norm = nn.GroupNorm(2, 4)
        self.last = nn.Sequential(nn.Conv2d(8, 3, 3, padding=2, dilation=2))

    def forward(self, x: Tensor) -> Tensor:
        deep = self.first(x)
        mean = deep.mean((2, 3), keepdim=True).expand_as(deep)
        high = self.last(torch.cat([self.norm(deep), mean], 1))
        return nn.functional.interpolate(high, x.shape[2:], mode="bilinear")


class WholeResult(nn.Module):
    """An operator without a rule at the end: the result is complete only at once."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(self.first(x), 2)


class Plain(nn.Sequential):
    """Convolutions over four levels."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 4, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1),
            nn.Upsample(scale_factor=8, mode="nearest"), nn.Conv2d(4, 2, 3, padding=1),
        )  # fmt: skip


NETWORKS = {"plain": Plain, "pooled": Pooled, "whole result": WholeResult}
SHAPE = (1, 2, 96, 72)


def run(streamer: Streamer, image: Tensor, folder: Path, stops: list[int]) -> Tensor:
    """Run with a new execution after each stop; a stop is the number of rows of blocks done.

    What lies below the rows that count is spoiled at each stop, as if it had never been written.
    """
    result = torch.full(streamer.plan.output_shape, torch.nan)

    def sink(rows: slice, cols: slice, part: Tensor) -> None:
        result[..., rows, cols] = part

    for stop in [*stops, None]:
        rows = 0
        for number, done in enumerate(streamer.rows(image, sink, checkpoint=Checkpoint(folder))):
            assert done.rows >= rows
            rows = done.rows
            if number == stop:
                result[..., rows:, :] = torch.nan
                break
    return result


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("block", [8, 24])
def test_stopped_after_any_row_of_blocks(name: str, block: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    streamer = Streamer(NETWORKS[name]().eval(), SHAPE, block=block)
    image = scene(SHAPE, dtype=torch.float32)
    expected = run(streamer, image, tmp_path / "straight", [])
    assert not expected.isnan().any()
    steps = sum(1 for _ in streamer.rows(image, lambda *_: None))
    for stop in range(steps):
        found = run(streamer, image, tmp_path / str(stop), [stop])
        assert torch.equal(found, expected), f"stopped after row {stop}"


@pytest.mark.parametrize("name", NETWORKS)
def test_stopped_after_every_row_of_blocks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    streamer = Streamer(NETWORKS[name]().eval(), SHAPE, block=8)
    image = scene(SHAPE, dtype=torch.float32)
    expected = run(streamer, image, tmp_path / "straight", [])
    found = run(streamer, image, tmp_path / "stopped", [1] * 20)
    assert torch.equal(found, expected)


def test_a_damaged_position_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "position.pt").write_bytes(b"no such thing")
    with pytest.raises(ResumeError, match="run again without --resume"):
        Checkpoint(tmp_path).load()
