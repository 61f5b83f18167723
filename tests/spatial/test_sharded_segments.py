"""Segments that are computed again on the way back: the same gradients, with less memory."""

from __future__ import annotations

import warnings
import weakref
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from ranks import together
from sharding import compare, uneven_cuts
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from wholescene import spatial
from wholescene.errors import InputError
from wholescene.spatial.capture import capture
from wholescene.spatial.deal import deal
from wholescene.spatial.overwrite import overwrite
from wholescene.spatial.segments import cut_segments
from wholescene.spatial.staging import assign


class Mixed(nn.Module):
    """Convolutions, norms over the scene, a skip, pooling to one pixel, dropout."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down = nn.Sequential(
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.deep = nn.Sequential(nn.Conv2d(16, 16, 7, padding=3, groups=16), nn.GELU())
        self.pooled = nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16))
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Conv2d(24, 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.first(image)
        coarse = self.deep(self.down(fine))
        pooled = self.pooled(coarse.mean((2, 3), keepdim=True))
        coarse = self.dropout(coarse * pooled)
        up = nn.functional.interpolate(coarse, scale_factor=2.0, mode="bilinear")
        return cast(Tensor, self.last(torch.cat([fine, up], 1)))


def segments_differ(group: dist.ProcessGroup, cuts: Any, segments: int) -> dict[str, Any]:
    torch.manual_seed(0)
    module = Mixed().double().train()
    found = compare(group, module, (2, 3, cuts[-1], 12), cuts, segments=segments)
    # Without gradients running statistics move a second time, in one copy only.
    return {key: gap for key, gap in found.items() if key not in ("no_grad", "buffers")}


@pytest.mark.parametrize("cuts", [(0, 9, 20), (0, 20, 20), (0, 1, 13, 20)], ids=str)
def test_gradients_do_not_depend_on_segments(cuts: tuple[int, ...]) -> None:
    for found in together(len(cuts) - 1, segments_differ, cuts, 4):
        assert isinstance(found, dict), found
        assert max(found.values()) <= 1e-9, found


def network_segments_differ(group: dist.ProcessGroup, name: str) -> dict[str, Any]:
    from networks import OUTPUTS, SHAPES, build

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = build(name).double()
    shape = SHAPES.get(name, (1, 3, 192, 256))
    cuts = uneven_cuts(shape[2], 2)
    return compare(group, module, shape, cuts, OUTPUTS.get(name), segments=6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wholescene UPerNet ConvNeXt", "transformers UPerNet Swin"])
def test_networks_in_segments(name: str) -> None:
    for found in together(2, network_segments_differ, name):
        assert isinstance(found, dict), found
        assert max(found.values()) < 1e-9, found


def alone(segments: int, dropout: float = 0.0) -> tuple[nn.Module, Tensor]:
    """One process: module with gradients and moved statistics, and the pixels' gradient."""
    torch.manual_seed(3)
    module = Mixed(dropout).train()
    image = torch.randn(2, 3, 16, 16, requires_grad=True)
    torch.manual_seed(4)
    out = spatial.run_sharded(module, spatial.Shard(image, 0, 16), segments=segments)
    out.local.square().mean().backward()
    assert image.grad is not None
    return module, image.grad


def test_one_process_in_segments_is_the_module_itself() -> None:
    (plain, pixels), (ours, again) = alone(1), alone(3)
    torch.testing.assert_close(again, pixels)
    for (name, a), (_, b) in zip(plain.named_parameters(), ours.named_parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, msg=name)
    for (name, a), (_, b) in zip(plain.named_buffers(), ours.named_buffers(), strict=True):
        torch.testing.assert_close(b, a, msg=name)  # moved once, though computed twice


def test_chance_repeats_itself() -> None:
    gradients = [alone(segments, dropout=0.5)[1] for segments in (2, 5)]
    torch.testing.assert_close(*gradients)


def deep() -> nn.Module:
    blocks = [(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU()) for _ in range(16)]
    return nn.Sequential(*(layer for block in blocks for layer in block))


def test_segments_keep_little() -> None:
    module = deep()
    image = torch.randn(1, 8, 64, 64, requires_grad=True)

    def kept(segments: int) -> int:
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = spatial.run_sharded(module, spatial.Shard(image, 0, 64), segments=segments)
            del out
        return sum(sizes.values())

    assert kept(4) < 0.2 * kept(1)


class LiveBytes(TorchDispatchMode):
    """Most bytes of tensors that were there at the same time, of those made within."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return

        def gone(_: Any) -> None:
            self.live -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


@pytest.mark.parametrize("segments", [2, 4, 8])
def test_what_segments_keep_is_known_before(segments: int) -> None:
    module, image = deep(), torch.randn(1, 8, 64, 64)

    def peak(count: int) -> int:
        shard = spatial.Shard(image, 0, 64)
        spatial.run_sharded(module, shard, segments=count)  # traces
        with LiveBytes() as live:
            spatial.run_sharded(module, shard, segments=count).local.sum().backward()
        return live.peak

    maps = spatial.segment_bytes(module, tuple(image.shape), segments)
    assert maps.every == 48 * image.nbytes  # each is kept by the layer after it
    assert peak(1) == pytest.approx(maps.every, rel=0.3)
    assert peak(segments) == pytest.approx(maps.ends + maps.largest, rel=0.3)


def test_what_is_overwritten_stays_with_what_is_written() -> None:
    graph = overwrite(capture(Mixed().eval(), (1, 3, 16, 16), live=True))
    tasks = deal(assign(graph), (0, 16), 0).tasks
    for count in range(1, len(tasks) + 3):
        parts = cut_segments(tasks, count)
        assert [task for part in parts for task in part] == tasks
        for part in parts:
            inside = {task.value.index for task in part}
            for task in part:
                if task.value.name == "relu_":
                    assert task.value.refs()[0] in inside


def test_no_segment_is_refused() -> None:
    shard = spatial.Shard(torch.zeros(1, 3, 8, 8), 0, 8)
    with pytest.raises(InputError, match=r"segments = 0 must be 1 or more"):
        spatial.run_sharded(nn.Conv2d(3, 2, 1), shard, segments=0)
    with pytest.raises(InputError, match=r"segments = 0 must be 1 or more"):
        spatial.segment_bytes(nn.Conv2d(3, 2, 1), (1, 3, 8, 8), 0)
